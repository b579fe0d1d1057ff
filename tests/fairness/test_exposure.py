"""Exposure, against hand-computed cases and brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from koinon.evaluation.lists import gini
from koinon.fairness.exposure import (
    attention,
    attention_by_class,
    attention_fairness,
    expected_exposure,
    gini_of,
    rarefied_coverage,
)


def test_attention_falls_by_the_same_factor_from_place_to_place():
    assert attention(3, 0.5).tolist() == [1.0, 0.5, 0.25]


def test_classes_share_a_list_by_its_places():
    lists = np.array([[0, 2, -1], [2, 1, 0], [-1, -1, -1]], dtype=np.int32)
    shares = attention_by_class(lists, np.array([0, 1, 1]), 2, attention(3, 0.5))
    np.testing.assert_allclose(shares[0], [1 / 1.5, 0.5 / 1.5])
    np.testing.assert_allclose(shares[1], [0.25 / 1.75, 1.5 / 1.75])
    assert np.isnan(shares[2]).all()


def test_attention_fairness_is_1_for_the_due_shares_and_0_for_none_of_them():
    weights = attention(2, 1 - 1e-12)
    lists = np.array([[0, 1], [0, 2]], dtype=np.int32)
    found = attention_fairness(lists, np.array([0, 1, 0]), np.array([0.5, 0.5]), weights)
    assert found[0] == pytest.approx(1.0)
    assert 0 < found[1] < 1
    assert attention_fairness(lists[1:], np.array([0, 1, 0]), np.array([0.0, 1.0]), weights)[0] == pytest.approx(0.0)


def test_expected_exposure_of_one_user_by_hand():
    """Three items, list of two; item 0 is relevant. Due: 1 to it, a half shared by the two others."""
    weights = attention(2, 0.5)
    best = expected_exposure(np.array([[[0, 1]]], dtype=np.int32), np.array([0]), np.array([0]), 3, weights)
    assert (best.disparity, best.relevance, best.ideal) == pytest.approx((1.25, 1.125, 1.125))
    assert best.loss == pytest.approx(0.125)  # (0.5 - 0.25)^2 for each of the two others
    worst = expected_exposure(np.array([[[1, 2]]], dtype=np.int32), np.array([0]), np.array([0]), 3, weights)
    assert worst.loss == pytest.approx(1 + 0.75**2 + 0.25**2)


def test_a_policy_that_draws_its_lists_evenly_has_no_loss():
    samples = np.array([[[0, 1]], [[0, 2]]], dtype=np.int32)
    even = expected_exposure(samples, np.array([0]), np.array([0]), 3, attention(2, 0.5))
    assert even.loss == pytest.approx(0.0)
    assert even.disparity == pytest.approx(even.relevance)


def test_gini_agrees_with_the_count_of_lists_where_all_places_weigh_alike():
    lists = np.random.default_rng(0).integers(0, 9, (50, 4)).astype(np.int32)
    assert gini_of(np.bincount(lists.ravel(), minlength=12).astype(float)) == pytest.approx(gini(lists, 12))
    assert np.isnan(gini_of(np.zeros(3)))


def test_coverage_at_an_equal_number_of_people_is_the_mean_over_all_choices_of_them():
    lists = np.array([[0, 1], [1, 2], [1, -1], [3, 0], [4, 4]], dtype=np.int32)
    chosen = [len({i for u in us for i in lists[u] if i >= 0}) / 6 for us in combinations(range(5), 3)]
    assert rarefied_coverage(lists, 6, 3) == pytest.approx(np.mean(chosen))
    assert rarefied_coverage(lists, 6, 5) == pytest.approx(5 / 6)
