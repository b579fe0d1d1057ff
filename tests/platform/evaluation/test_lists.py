"""Coverage, Gini, novelty, diversity and the lists they are measured on."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from koinon.evaluation.lists import coverage, gini, intra_list_diversity, novelty, top_lists


def test_lists_hold_the_best_in_order_and_mark_what_is_missing():
    scores = np.array([[1, 5, 3, -np.inf], [-np.inf, -np.inf, 2, -np.inf]], dtype=np.float32)
    assert top_lists(scores, 2, np.random.default_rng(0)).tolist() == [[1, 2], [2, -1]]


def test_equal_scores_are_listed_in_any_order():
    lists = top_lists(np.zeros((3000, 5), dtype=np.float32), 2, np.random.default_rng(1))
    assert np.bincount(lists.ravel(), minlength=5) / 6000 == pytest.approx(np.full(5, 0.2), abs=0.02)


def test_coverage_counts_what_is_ever_shown():
    assert coverage(np.array([[0, 1], [1, -1]]), 4) == 0.5


def test_gini_runs_from_all_alike_to_one_takes_all():
    assert gini(np.arange(10)[None, :], 10) == pytest.approx(0.0)
    assert gini(np.zeros((5, 1), dtype=np.int32), 10) == pytest.approx(0.9)
    assert gini(np.array([[0, 1], [0, 2]]), 3) == pytest.approx(1 / 6)


def test_novelty_is_the_mean_self_information():
    counts = np.array([7, 1, 0])
    assert novelty(np.array([[0, 1], [2, -1], [-1, -1]]), counts, 7) == pytest.approx([1.0, 3.0, np.nan], nan_ok=True)


def test_diversity_of_orthogonal_and_of_equal_items():
    vectors = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    lists = np.array([[0, 1], [0, 2], [0, -1]])
    assert intra_list_diversity(lists, vectors) == pytest.approx([1.0, 0.0, np.nan], nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_diversity_is_the_mean_over_pairs(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = rng.choice(12, size=5, replace=False)
    cosines = vectors[chosen] @ vectors[chosen].T
    expected = 1 - cosines[np.triu_indices(5, 1)].mean()
    assert intra_list_diversity(chosen[None, :], vectors)[0] == pytest.approx(expected, abs=1e-5)
