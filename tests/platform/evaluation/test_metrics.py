"""Ranking metrics: exact over ties, equal to an independent library where there are none."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from ir_measures import RR, R, Success, nDCG

from koinon.errors import EvaluationError
from koinon.evaluation import METRICS, place, ranking_metrics


def measured(scores, targets, k):
    """Metrics of one row with the given target columns."""
    row = np.zeros(len(targets), dtype=np.int64)
    placed = place(np.asarray(scores, dtype=np.float32)[None, :], row, np.asarray(targets), k)
    return dict(zip(METRICS, ranking_metrics(placed, row, 1, k)[0], strict=True))


def by_hand(ranking, targets, k):
    """Metrics of one definite order, from their definitions."""
    ranks = [rank for rank, item in enumerate(ranking, 1) if item in targets and rank <= k]
    ideal = sum(1 / np.log2(1 + rank) for rank in range(1, min(len(targets), k) + 1))
    return {
        "ndcg": sum(1 / np.log2(1 + rank) for rank in ranks) / ideal,
        "recall": len(ranks) / len(targets),
        "hr": float(bool(ranks)),
        "mrr": 1 / ranks[0] if ranks else 0.0,
    }


def test_metrics_equal_an_independent_library_where_scores_differ():
    rng = np.random.default_rng(5)
    users, items, k = 40, 60, 10
    scores = rng.permuted(np.tile(np.arange(items, dtype=np.float32), (users, 1)), axis=1)
    targets = [rng.choice(items, size=rng.integers(1, 15), replace=False) for _ in range(users)]
    row = np.repeat(np.arange(users), [len(taken) for taken in targets])
    ours = ranking_metrics(place(scores, row, np.concatenate(targets), k), row, users, k)

    qrels = {str(u): {str(i): 1 for i in targets[u]} for u in range(users)}
    run = {str(u): {str(i): float(scores[u, i]) for i in range(items)} for u in range(users)}
    measures = [nDCG @ k, R @ k, Success @ k, RR @ k]
    theirs = np.full((users, 4), np.nan)
    for value in ir_measures.iter_calc(measures, qrels, run):
        theirs[int(value.query_id), measures.index(value.measure)] = value.value
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tied_block_counts_as_the_mean_over_all_its_orders(data):
    items = data.draw(st.integers(2, 6))
    scores = data.draw(st.lists(st.integers(0, 2), min_size=items, max_size=items))
    targets = data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=items, unique=True))
    k = data.draw(st.integers(1, 4))
    orders = [
        p for p in itertools.permutations(range(items)) if all(scores[a] >= scores[b] for a, b in itertools.pairwise(p))
    ]
    expected = {name: np.mean([by_hand(order, targets, k)[name] for order in orders]) for name in METRICS}
    found = measured(scores, targets, k)
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_values_lie_between_0_and_1_and_do_not_depend_on_the_order_of_the_items(data):
    items = data.draw(st.integers(1, 30))
    scores = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=items, max_size=items)), dtype=np.float32)
    targets = np.array(data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=items, unique=True)))
    order = np.array(data.draw(st.permutations(range(items))))
    found = measured(scores, targets, 10)
    moved = measured(scores[order], np.argsort(order)[targets], 10)
    for name in METRICS:
        assert 0.0 <= found[name] <= 1.0
        assert moved[name] == pytest.approx(found[name], abs=1e-12)


@pytest.mark.parametrize(("items", "k"), [(50, 10), (7, 10)])
def test_equal_scores_give_exactly_chance(items, k):
    found = measured(np.zeros(items), [3], k)
    within = min(k, items)
    assert found["hr"] == pytest.approx(within / items)
    assert found["recall"] == pytest.approx(within / items)
    assert found["ndcg"] == pytest.approx(sum(1 / np.log2(1 + r) for r in range(1, within + 1)) / items)
    assert found["mrr"] == pytest.approx(sum(1 / r for r in range(1, within + 1)) / items)


def test_masked_columns_take_no_rank():
    assert measured([5, -np.inf, -np.inf, 1], [3], 2)["mrr"] == 0.5


def test_a_target_that_is_masked_is_refused():
    with pytest.raises(EvaluationError, match="K501"):
        measured([1.0, -np.inf], [1], 2)


def test_rows_without_targets_have_no_value():
    row = np.array([1])
    values = ranking_metrics(place(np.eye(2, dtype=np.float32), row, np.array([1]), 1), row, 2, 1)
    assert np.isnan(values[0]).all()
    assert (values[1] == 1).all()
