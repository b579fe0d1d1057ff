"""The bootstrap and the permutation: right on the average, right in spread, and the same from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.fairness.moments import moments_of
from koinon.fairness.resampling import _poisson_table, bootstrap_means, permuted_moments


def test_the_table_of_counts_is_poisson():
    table = _poisson_table()
    assert table.mean() == pytest.approx(1.0, abs=1e-4)
    assert table.var() == pytest.approx(1.0, abs=2e-3)
    assert (table == 0).mean() == pytest.approx(np.exp(-1), abs=1e-4)


def test_resampled_means_centre_on_the_means_and_spread_as_their_errors_say():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], [60, 200, 500])
    values = rng.normal(group[:, None], 1.0, (760, 2))
    drawn = bootstrap_means(values, [group], [3], np.zeros(760, dtype=int), draws=2000, seed=1)[0]
    expected = moments_of(values, group, 3)
    np.testing.assert_allclose(drawn.mean(axis=0), expected.means, atol=0.02)
    plain = np.sqrt(expected.variances / expected.n)
    np.testing.assert_allclose(drawn.std(axis=0), plain, rtol=0.1)


def test_users_without_a_value_count_in_no_mean():
    values = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]] * 10)
    drawn = bootstrap_means(values, [np.zeros(40, dtype=int)], [1], np.zeros(40, dtype=int), draws=300)[0]
    assert np.isfinite(drawn).all()
    np.testing.assert_allclose(drawn[:, 0, 1], 5.0, rtol=1e-6)


def test_a_stratum_keeps_its_weight_in_every_draw():
    """Two partners with other means: resampling users within partners leaves no scatter from how many come of each."""
    stratum = np.repeat([0, 1], [100, 300])
    values = np.where(stratum == 0, 1.0, 0.0)[:, None]
    drawn = bootstrap_means(values, [np.zeros(400, dtype=int)], [1], stratum, draws=500)[0]
    np.testing.assert_allclose(drawn, 0.25, rtol=1e-5)
    apart = bootstrap_means(values, [np.zeros(400, dtype=int)], [1], np.zeros(400, dtype=int), draws=500)[0]
    assert apart.std() > 0.01


def test_one_drawing_serves_every_grouping():
    rng = np.random.default_rng(3)
    values, fine = rng.random((300, 1)), rng.integers(0, 4, 300)
    coarse = fine // 2
    split, joined = bootstrap_means(values, [fine, coarse], [4, 2], np.zeros(300, dtype=int), draws=50)
    assert ((joined[:, 0] <= split[:, :2].max(axis=1) + 1e-6) & (joined[:, 0] >= split[:, :2].min(axis=1) - 1e-6)).all()


def test_the_seed_decides():
    values, group = np.random.default_rng(4).random((100, 2)), np.arange(100) % 3
    first, again, other = (
        bootstrap_means(values, [group], [3], np.zeros(100, dtype=int), draws=20, seed=seed)[0] for seed in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_relabelling_keeps_totals_and_group_sizes_and_stays_within_its_block():
    rng = np.random.default_rng(5)
    block = np.repeat([0, 1], [50, 150])
    group = np.where(block == 0, rng.integers(0, 2, 200), rng.integers(1, 4, 200))
    values = (rng.random((200, 1)) + 10 * block[:, None]).astype(float)
    found = permuted_moments(values, group, 5, block, draws=40, seed=1)
    seen = moments_of(values, group, 5)
    np.testing.assert_allclose(found.n, np.broadcast_to(seen.n, found.n.shape))
    np.testing.assert_allclose(found.total.sum(axis=1), np.broadcast_to(seen.total.sum(axis=0), (40, 1)))
    assert (found.means[:, 0, 0] < 1).all()  # group 0 is in block 0 alone
    assert (found.means[:, 3, 0] > 10).all()
    assert np.isnan(found.means[:, 4]).all()
    assert np.ptp(found.means[:, 0, 0]) > 0
