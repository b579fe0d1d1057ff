"""The attacks do what they say they do: on sums that nothing protects they succeed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from koinon.recommenders.federated.pairs import PairList
from koinon.studies.attacks import POISONS, Attacker, membership, rebuild_baskets

WORKS = 30


def baskets(people: int, seed: int, size: int = 4) -> csr_matrix:
    rng = np.random.default_rng(seed)
    taken = np.zeros((people, WORKS), dtype=np.float32)
    for row in taken:
        row[rng.choice(WORKS, size=size, replace=False)] = 1.0
    return csr_matrix(taken)


def sums(taken: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    gram = np.asarray((taken.T @ taken).todense(), dtype=np.float64)
    return gram.diagonal().copy(), gram


def shop() -> csr_matrix:
    """Two hundred people; hardly anybody takes the target, work 6."""
    taken = np.asarray(baskets(200, 1).todense())
    taken[5:, 6] = 0.0
    return csr_matrix(taken)


def all_pairs(works: int) -> PairList:
    first, second = np.triu_indices(works, 1)
    return PairList(np.concatenate([[0], np.cumsum(np.bincount(first, minlength=works))]), second.astype(np.int32))


@pytest.fixture
def attacker() -> Attacker:
    listed = np.arange(0, WORKS, 2, dtype=np.int32)
    counts, _ = sums(shop())
    return Attacker(listed, 200, counts[listed], target=3)


@pytest.mark.parametrize("name", sorted(POISONS))
def test_a_poison_keeps_to_shape_and_listed_works(attacker: Attacker, name: str) -> None:
    counts, gram = sums(shop())
    pairs = all_pairs(WORKS)
    first = np.repeat(np.arange(WORKS), np.diff(pairs.start))
    true = gram[first, pairs.other]
    true[~(np.isin(first, attacker.listed) & np.isin(pairs.other, attacker.listed))] = 0
    for tensor, value in (("counts", np.where(np.isin(np.arange(WORKS), attacker.listed), counts, 0)), ("pairs", true)):
        sent = attacker.poison(POISONS[name], tensor, value, pairs if tensor == "pairs" else None)
        assert sent.shape == value.shape
        assert sent.dtype == np.float32
        assert np.isfinite(sent).all()
        assert (sent >= 0).all()
        assert not sent[value == 0].any() or name.startswith(("promotion", "label"))
        if tensor == "counts":
            assert not sent[~np.isin(np.arange(WORKS), attacker.listed)].any()
        assert not np.array_equal(sent, value)


def test_promotion_raises_every_pair_of_the_target(attacker: Attacker) -> None:
    gram = np.diag(attacker.counts)
    sent = POISONS["promotion"](attacker, gram)
    others = np.arange(len(attacker.listed)) != attacker.target
    assert np.array_equal(sent[attacker.target, others], attacker.counts[others])


def test_just_within_is_what_its_people_could_still_have_done(attacker: Attacker) -> None:
    assert POISONS["scaled, just within"](attacker, np.diag(attacker.counts)).max() == pytest.approx(attacker.people)


def test_baskets_of_few_people_are_rebuilt_from_sums_in_the_clear() -> None:
    taken = baskets(6, 0)
    found = rebuild_baskets(taken, *sums(taken))
    assert found.precision > 0.9
    assert found.recall > 0.6
    assert found.whole > 0.5


def test_nothing_is_rebuilt_where_every_work_has_many_readers() -> None:
    taken = baskets(500, 0)
    found = rebuild_baskets(taken, *sums(taken))
    assert (found.claimed, found.recall, found.whole) == (0, 0.0, 0.0)


def test_noise_spoils_what_is_rebuilt() -> None:
    taken = baskets(6, 0)
    counts, pairs = sums(taken)
    noise = np.random.default_rng(0).normal(0, 5, pairs.shape)
    found = rebuild_baskets(taken, counts + noise.diagonal(), pairs + noise + noise.T, level=20.0)
    assert found.whole == 0


def cells(taken: csr_matrix) -> csr_matrix:
    """Pairs of each basket."""
    first, second = np.triu_indices(WORKS, 1)
    dense = np.asarray(taken.todense())
    return csr_matrix(dense[:, first] * dense[:, second])


@pytest.mark.parametrize(("noise", "least", "most"), [(0.0, 0.9, 1.0), (1.0, 0.6, 0.9), (100.0, 0.35, 0.65)])
def test_members_are_told_from_others_the_better_the_less_noise(noise: float, least: float, most: float) -> None:
    inside, outside = cells(baskets(60, 1)), cells(baskets(200, 2))
    rng = np.random.default_rng(0)
    total = np.asarray(inside.sum(axis=0)).ravel() + rng.normal(0, noise, inside.shape[1])
    expected = np.full(inside.shape[1], inside.sum() / inside.shape[1])
    found = membership(inside, outside, total, expected, np.full(inside.shape[1], noise))
    assert least < found.auc <= most
    assert 0 <= found.tpr <= 1


def test_people_who_are_not_in_the_sums_are_told_from_nobody() -> None:
    total = np.asarray(cells(baskets(60, 1)).sum(axis=0)).ravel()
    expected, nothing = np.full(len(total), total.mean()), np.zeros(len(total))
    found = [
        membership(cells(baskets(150, 2 * n)), cells(baskets(150, 2 * n + 1)), total, expected, nothing).auc
        for n in range(2, 10)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
