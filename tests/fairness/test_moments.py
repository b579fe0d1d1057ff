"""Moments: they add up, and what they say of groups is what the rows say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.fairness.entropy import generalised_entropy
from koinon.fairness.moments import Moments, moments_of


def rows(seed, users=200, metrics=3, groups=4):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 0.1, (users, metrics))
    values[rng.random((users, metrics)) < 0.1] = np.nan
    return values, rng.integers(-1, groups, users)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 199))
def test_two_sources_moments_in_one_sum_are_those_of_both(seed, cut):
    values, group = rows(seed)
    whole = moments_of(values, group, 4)
    parts = moments_of(values[:cut], group[:cut], 4) + moments_of(values[cut:], group[cut:], 4)
    for name in ("n", "total", "squares"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10, atol=1e-12)


def test_means_and_variances_are_those_of_the_rows_with_a_value():
    values, group = rows(1)
    moments = moments_of(values, group, 4)
    for label in range(4):
        for metric in range(3):
            mine = values[group == label, metric]
            mine = mine[np.isfinite(mine)]
            assert moments.means[label, metric] == pytest.approx(mine.mean())
            assert moments.variances[label, metric] == pytest.approx(mine.var(ddof=1))


def test_a_group_that_nobody_hit_is_not_known_exactly():
    values = np.concatenate([np.zeros(20), np.random.default_rng(0).random(500)])[:, None]
    moments = moments_of(values, np.repeat([0, 1], [20, 500]), 2)
    assert moments.variances[0, 0] == 0
    assert moments.errors[0, 0] > moments.errors[1, 0] > 0


def test_shrunken_means_agree_where_groups_scatter_by_chance_and_stay_where_they_do_not():
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(36), 20)
    alike = rng.normal(0.5, 0.3, (len(group), 1))
    apart = alike + (group[:, None] % 2) * 2.0
    chance, true = moments_of(alike, group, 36), moments_of(apart, group, 36)
    assert np.ptp(chance.means) > 0.2
    assert np.ptp(chance.shrunken) < 0.1 * np.ptp(chance.means)
    assert np.ptp(true.shrunken) > 0.9 * np.ptp(true.means)


def test_an_empty_group_has_neither_mean_nor_error_and_moves_nobody():
    values, group = rows(3)
    three, four = moments_of(values, np.minimum(group, 2), 3), moments_of(values, np.minimum(group, 2), 4)
    assert np.isnan(four.means[3]).all()
    assert np.isnan(four.errors[3]).all()
    np.testing.assert_allclose(four.shrunken[:3], three.shrunken)


def test_entropy_is_half_the_squared_variation_and_splits_into_within_and_between():
    values, group = rows(4, metrics=1)
    values, group = values[np.isfinite(values[:, 0]) & (group >= 0)], group[np.isfinite(values[:, 0]) & (group >= 0)]
    sums = moments_of(values, group, 4)
    whole, between = generalised_entropy(sums.n[:, 0], sums.total[:, 0], sums.squares[:, 0])
    assert whole == pytest.approx(values.var() / values.mean() ** 2 / 2)
    means = sums.means[group, 0]
    assert between == pytest.approx(means.var() / means.mean() ** 2 / 2)
    assert 0 < between < whole
    same = Moments(np.array([5.0, 5.0]), np.array([2.0, 2.0]), np.array([0.8, 0.8]))
    assert generalised_entropy(same.n, same.total, same.squares) == pytest.approx((0.0, 0.0))
