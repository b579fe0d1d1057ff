"""Every re-ranking: what may move, what may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.fairness.mitigation.calibrated import SMOOTHING, Calibrated, greedy_order
from koinon.fairness.mitigation.reranking import Remembered, Reranked, shortlists_of
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import best
from tests.fairness.mitigation.conftest import Told, asking, domain_of


class Reversed(Reranked):
    def learn(self, domain):
        return self

    def reordered(self, requests, shortlists):
        return np.tile(np.arange(shortlists.item.shape[1])[::-1], (len(requests), 1))


def items(lists):
    return [[one.item for one in row] for row in lists]


def test_a_shortlist_is_what_recommend_lists_and_its_relevance_goes_from_1_to_0(tiny):
    table = np.random.default_rng(0).normal(size=(4, 6)).round(1)
    requests = asking(tiny)
    found = shortlists_of(np.asarray(table, np.float32), requests, 3)
    assert found.item.tolist() == items(best(np.asarray(table, np.float32), requests, 3))
    assert found.relevance[:, 0].tolist() == [1.0] * 4
    assert found.relevance[:, -1].tolist() == [0.0] * 4
    middle = (table[0, found.item[0, 1]] - table[0, found.item[0, 2]]) / (
        table[0, found.item[0, 0]] - table[0, found.item[0, 2]]
    )
    assert found.relevance[0, 1] == pytest.approx(middle, rel=1e-5)


def test_only_the_shortlist_moves_and_stays_above_the_rest(tiny):
    told = Told([[9, 5, 4, 3, 2, 1]] * 4)
    requests = asking(tiny, [0])
    assert items(told.recommend(requests, 5)) == [[1, 2, 3, 4, 5]]
    assert items(Reversed(told, depth=3).recommend(requests, 5)) == [[3, 2, 1, 4, 5]]
    assert np.isfinite(Reversed(told, depth=3).score(requests)).all()


def test_some_candidates_are_ranked_among_themselves(tiny):
    told = Told([[9, 5, 4, 3, 2, 1]] * 4)
    scores = Reversed(told, depth=2).score(asking(tiny, [0]), np.array([5, 0, 2, 3], dtype=np.int32))
    assert np.argsort(-scores[0, [0, 2, 3]]).tolist() == [2, 1, 0]  # 3, 2, then 5; item 0 is history


def test_fewer_unseen_items_than_the_depth(tiny):
    told = Told([[9, 5, 4, 3, 2, 1]] * 4)
    asked = [Request(np.array([0, 1, 2, 3], dtype=np.int32), 0)]
    kinds = np.eye(2)[[0, 1, 0, 1, 0, 1]]
    assert sorted(items(Calibrated(told, kinds, dial=0.5).learn(tiny).recommend(asked, 5))[0]) == [4, 5]
    everything = [Request(np.arange(6, dtype=np.int32), 0)]
    assert Calibrated(told, kinds, dial=0.5).learn(tiny).recommend(everything, 5) == [[]]


def test_the_dial_at_0_leaves_the_order_as_it_was(tiny):
    told = Told(np.random.default_rng(1).normal(size=(4, 6)))
    kinds = np.eye(2)[[0, 0, 0, 1, 1, 1]]
    again = Calibrated(told, kinds, dial=0.0, k=3).learn(tiny)
    assert items(again.recommend(asking(tiny), 5)) == items(told.recommend(asking(tiny), 5))


def test_steck_by_hand():
    """Seventy romance, thirty action (Steck's example): of ten places action gets three, once proportions count."""
    relevance = np.linspace(1, 0, 20)[None]
    kinds = np.tile(np.eye(2)[[0] * 10 + [1] * 10], (1, 1, 1))
    target = np.array([[0.7, 0.3]])
    assert set(greedy_order(relevance, kinds, target, dial=0.0, k=10)[0, :10]) == set(range(10))
    chosen = greedy_order(relevance, kinds, target, dial=0.9, k=10)[0, :10]
    assert sorted(chosen) == [0, 1, 2, 3, 4, 5, 6, 10, 11, 12]
    rest = greedy_order(relevance, kinds, target, dial=0.9, k=10)[0, 10:]
    assert rest.tolist() == sorted(rest)


def objective(order, relevance, kinds, target, dial):
    """What greedy choice raises, written out: relevance against n times the divergence."""
    shares = kinds[list(order)].mean(axis=0)
    mixed = (1 - SMOOTHING) * shares + SMOOTHING * target
    apart = sum(p * np.log(p / q) for p, q in zip(target, mixed, strict=True) if p > 0)
    return (1 - dial) * relevance[list(order)].sum() - dial * len(order) * apart


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_each_place_goes_to_the_item_that_raises_the_objective_most(seed, dial):
    rng = np.random.default_rng(seed)
    relevance, kinds, target = np.sort(rng.random(7))[::-1], rng.dirichlet([0.5] * 3, 7), rng.dirichlet([1.0] * 3)
    order = greedy_order(relevance[None], kinds[None], target[None], dial=dial, k=3)[0]
    for place in range(3):
        before = order[:place].tolist()
        options = {
            one: objective([*before, one], relevance, kinds, target, dial) for one in range(7) if one not in before
        }
        assert options[int(order[place])] == pytest.approx(max(options.values()), abs=1e-9)


def test_targets_are_the_persons_own_or_everybodys():
    domain = domain_of([[0, 1, 3], [3], []], 4)
    kinds = np.array([[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    own = Calibrated(Told(np.zeros((3, 4))), kinds, dial=0.5).learn(domain)
    np.testing.assert_allclose(own.targets(asking(domain)), [[0.5, 0.5], [0, 1], [0.375, 0.625]])
    everybody = Calibrated(Told(np.zeros((3, 4))), kinds, dial=0.5, towards="everybody").learn(domain)
    np.testing.assert_allclose(everybody.targets(asking(domain)), [[0.375, 0.625]] * 3)


class Counted(Told):
    """Says how many requests it was asked."""

    asked = 0

    def score(self, requests, candidates=None):
        self.asked += len(requests)
        return super().score(requests, candidates)


def test_what_is_remembered_is_asked_once_and_ranked_alike():
    domain = domain_of([[u % 30, 30] for u in range(50)], 31)
    told = Counted(np.random.default_rng(2).normal(size=(50, 31)))
    kinds = np.eye(3)[np.arange(31) % 3]
    kept = Remembered(told, 31, depth=100)
    for dial in (0.2, 0.7):
        fresh = Calibrated(Told(told.table), kinds, dial=dial, depth=100).learn(domain)
        again = Calibrated(kept, kinds, dial=dial, depth=100).learn(domain)
        assert items(again.recommend(asking(domain), 10)) == items(fresh.recommend(asking(domain), 10))
    assert items(kept.recommend(asking(domain), 10)) == items(told.recommend(asking(domain), 10))
    assert told.asked == 100  # once each, and once by the line above
