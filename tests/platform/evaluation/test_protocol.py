"""The evaluation protocol: slices by their rules, histories masked, one value per user, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from koinon.data import Domain, EvaluationSet, Interactions
from koinon.errors import EvaluationError
from koinon.evaluation import Chance, Evaluation, compare, evaluate, head_items
from koinon.recommenders.conventional import EASE, Popularity


class Fixed:
    """Scores given beforehand, by user."""

    name = "fixed"

    def __init__(self, table):
        self.table = np.asarray(table, dtype=np.float32)

    def score(self, requests, candidates=None):
        return self.table[[request.user for request in requests]]


def flat(lists):
    return np.cumsum([0, *map(len, lists)]), np.array([i for one in lists for i in one], dtype=np.int32)


def asked(histories, targets, main=None, cold_user=None):
    rows = len(histories)
    return EvaluationSet(
        np.arange(rows, dtype=np.int32),
        *flat(histories),
        *flat(targets),
        None,
        np.zeros(rows, dtype=bool) if cold_user is None else np.array(cold_user),
        np.ones(rows, dtype=bool) if main is None else np.array(main),
    )


def tiny(counts):
    """A domain whose items have these numbers of events."""
    item = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    user = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
    order = np.argsort(user, kind="stable")
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(len(counts))], "text": ["x"] * len(counts)})
    users = tuple(f"u{u}" for u in range(max(counts)))
    return Domain("tiny", items, users, Interactions(user[order], item[order]))


def test_the_history_is_masked_and_other_targets_are_not():
    found = evaluate(Fixed([[9, 8, 7, 6]]), tiny([3, 3, 3, 3]), asked([[0]], [[1, 3]]), k=2, slices=("all",))
    assert found.per_user["hr@2"].item() == 1
    assert found.per_user["recall@2"].item() == 0.5
    assert found.per_user["mrr@2"].item() == 1


def test_slices_follow_their_rules():
    counts = [9, 5, 2, 2, 1, 1, 0, 0, 3, 3]
    domain = tiny(counts)
    assert np.flatnonzero(head_items(domain)).tolist() == [0, 1]
    sets = asked(
        [[0], [0, 1, 2], [1]],
        [[2, 6], [7, 4], [0]],
        main=[True, True, False],
        cold_user=[False, False, True],
    )
    table = np.tile(-np.arange(10.0), (9, 1))
    found = evaluate(Fixed(table), domain, sets, k=3, known_elsewhere=np.array([1, 2]))
    rows = {name: found.per_user.filter(slice=name)["row"].to_list() for name in found.per_user["slice"].unique()}
    assert rows == {
        "all": [0, 1],
        "cold_items": [0, 1],
        "cold_among_cold": [0, 1],
        "cold_users": [2],
        "long_tail": [0, 1],
        "known_elsewhere": [1],
    }
    assert found.values("targets", "cold_items").tolist() == [1, 1]
    assert found.values("mrr@3", "cold_among_cold").tolist() == [1, 0.5]
    assert found.values("mrr@3", "long_tail").tolist() == [0.5, 0.5]
    assert found.mean("hr@3", "cold_items") == 0


def test_equal_scores_get_exactly_chance_in_every_slice(shop):
    found = evaluate(Chance().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test)
    for row in found.per_user.filter(slice="all").iter_rows(named=True):
        free = shop.train.n_items - len(set(shop.test.history(row["row"]).tolist()))
        assert row["hr@10"] == pytest.approx(10 / free)


def test_batches_and_progress_do_not_change_the_values(shop):
    model = EASE().fit(shop.train, None, rng=np.random.default_rng(0))
    seen = []
    small = evaluate(model, shop.train, shop.test, batch=7, on_progress=lambda done, total: seen.append((done, total)))
    large = evaluate(model, shop.train, shop.test, batch=10_000)
    assert_frame_equal(small.per_user.sort("slice", "row"), large.per_user.sort("slice", "row"))
    assert seen[-1] == (len(shop.test), len(shop.test))


def test_lists_are_measured_too(shop, word_space):
    vectors = word_space.encode(shop.train.texts)
    popular = Popularity().fit(shop.train, None, rng=np.random.default_rng(0))
    ease = EASE().fit(shop.train, None, rng=np.random.default_rng(0))
    few, many = (evaluate(m, shop.train, shop.test, beyond=True, vectors=vectors) for m in (popular, ease))
    assert 0 < few.catalogue["coverage@10"] < many.catalogue["coverage@10"] <= 1
    assert 1 > few.catalogue["gini@10"] > many.catalogue["gini@10"] > 0
    assert few.mean("novelty@10") < many.mean("novelty@10")
    assert few.mean("diversity@10") > many.mean("diversity@10")


def test_per_user_values_are_kept_in_parquet(shop, tmp_path):
    found = evaluate(Popularity().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test)
    found.save(tmp_path / "deep" / "values.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "deep" / "values.parquet"), found.per_user)


def test_intervals_hold_their_mean_and_are_ready_for_json(shop):
    found = evaluate(Popularity().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test)
    one = found.intervals(seed=1)["all"]["ndcg@10"]
    assert one["lo"] < one["mean"] < one["hi"]
    assert one["n"] == found.per_user.filter(slice="all").height
    assert found.intervals(seed=1) == found.intervals(seed=1)


def test_arms_are_compared_on_the_same_users(shop):
    arms = {
        "popularity": evaluate(Popularity().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test),
        "ease": evaluate(EASE().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test),
        "chance": evaluate(Chance().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test),
    }
    table = compare(arms, "ease", seed=2).rows_by_key("arm", named=True, unique=True)
    assert table["chance"]["verdict"] == "worse"
    assert table["chance"]["hi"] < 0
    assert table["popularity"]["p_holm"] >= table["popularity"]["p"]
    assert table["chance"]["gain"] == pytest.approx(arms["chance"].mean() - arms["ease"].mean())
    fewer = Evaluation(arms["ease"].per_user.head(20), 10)
    with pytest.raises(EvaluationError, match="K503"):
        compare({**arms, "fewer": fewer}, "ease")
    with pytest.raises(EvaluationError, match="K506"):
        compare(arms, "pooled")


def test_a_set_without_rows_has_no_values():
    empty = evaluate(Fixed(np.ones((1, 3))), tiny([1, 1, 1]), asked([], []))
    assert empty.per_user.height == 0
    assert np.isnan(empty.mean())
    assert empty.intervals() == {}


def test_a_target_in_its_own_history_is_a_leak(shop):
    test = shop.test
    leaking = replace(test, history_items=np.full_like(test.history_items, test.target_items[0]))
    with pytest.raises(EvaluationError, match="K502"):
        evaluate(Popularity().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, leaking)


@pytest.mark.parametrize(
    ("table", "slices", "code"),
    [([[1, np.nan, 2]], ("all",), "K501"), ([[1, 2]], ("all",), "K505"), ([[1, 2, 3]], ("some",), "K504")],
)
def test_unsound_evaluations_are_refused(table, slices, code):
    with pytest.raises(EvaluationError, match=code):
        evaluate(Fixed(table), tiny([2, 2, 2]), asked([[0]], [[1]]), slices=slices)
