"""The statistics of the largest gap, on data whose truth is known: alarms when there is nothing, and finds what is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from koinon.fairness.cells import divide
from koinon.fairness.gaps import gap_of, largest_deviation, limit_p, permutation_p, studentised_range
from koinon.fairness.moments import moments_of
from koinon.fairness.resampling import bootstrap_means, permuted_moments


def ndcg_like(rng, mean):
    """Values as one held-out item gives them: mostly 0, else a discount; expectation ``mean``."""
    gains = 1 / np.log2(1 + np.arange(2, 12))
    hit = rng.random(len(mean)) < mean / gains.mean()
    return hit * gains[rng.integers(0, 10, len(mean))]


def people(rng, sizes, means):
    group = np.repeat(np.arange(len(sizes)), sizes)
    return ndcg_like(rng, np.asarray(means)[group])[:, None], group


def one_p(values, group, groups, draws, seed):
    seen = moments_of(values, group, groups)
    drawn = permuted_moments(values, group, groups, np.zeros(len(group), dtype=int), draws=draws, seed=seed)
    return permutation_p(seen.means[:, 0], seen.errors[:, 0], drawn.means[..., 0], drawn.errors[..., 0])


def one_gap(values, group, groups, draws, seed):
    seen = moments_of(values, group, groups)
    drawn = bootstrap_means(values, [group], [groups], np.zeros(len(group), dtype=int), draws=draws, seed=seed)[0]
    scatter = drawn[:, :, 0] - seen.means[:, 0]
    return gap_of(seen.means[:, 0], seen.errors[:, 0], seen.freedom[:, 0], scatter, draws=400, seed=seed)


@pytest.mark.parametrize(("sizes", "simulations"), [((40, 160), 600), ((20,) * 6 + (60,) * 6, 400)])
def test_the_permutation_test_alarms_in_one_audit_of_twenty(sizes, simulations):
    rng = np.random.default_rng(11)
    alarms = 0
    for seed in range(simulations):
        values, group = people(rng, sizes, [0.12] * len(sizes))
        alarms += one_p(values, group, len(sizes), 99, seed)[0] <= 0.05
    assert binom.ppf(0.001, simulations, 0.05) <= alarms <= binom.ppf(0.999, simulations, 0.05)


def test_thirty_six_cells_without_any_difference_read_as_no_gap():
    rng = np.random.default_rng(12)
    group = np.repeat(np.arange(36), 20)
    alarms, ends = 0, []
    for seed in range(25):
        values = (rng.random((720, 1)) < 0.5).astype(float)  # a coin for everybody
        p, by_chance = one_p(values, group, 36, 99, seed)
        gap = one_gap(values, group, 36, 200, seed)
        assert gap.plain > 0.3
        assert gap.plain == pytest.approx(by_chance, abs=0.25)
        alarms += p <= 0.05
        ends.append(gap.lo)
    assert alarms <= binom.ppf(0.999, 25, 0.05)
    assert np.mean(np.array(ends) > 0) <= 0.1


@pytest.mark.parametrize(
    ("sizes", "means"),
    [
        ((300, 700), (0.10, 0.16)),
        ((60, 60, 60, 60, 400), (0.08, 0.12, 0.12, 0.12, 0.18)),
        ((25, 600), (0.12, 0.20)),
        ((80,) * 8, (0.12,) * 8),
    ],
)
def test_the_interval_holds_the_true_gap_in_nineteen_of_twenty(sizes, means):
    rng = np.random.default_rng(13)
    truth, simulations, below, above = max(means) - min(means), 300, 0, 0
    for seed in range(simulations):
        values, group = people(rng, sizes, means)
        gap = one_gap(values, group, len(sizes), 150, seed)
        assert 0 <= gap.lo <= gap.hi
        below += gap.hi < truth
        above += gap.lo > truth
    most = binom.ppf(0.999, simulations, 0.025)
    assert below <= most
    assert above <= most


def test_a_planted_gap_is_found_and_the_groups_are_named():
    rng = np.random.default_rng(14)
    values, group = people(rng, (400, 400, 400), (0.20, 0.20, 0.08))
    gap = one_gap(values, group, 3, 500, 0)
    assert gap.worst == 2
    assert gap.lo > 0.05
    assert gap.lo < 0.12 < gap.hi
    assert one_p(values, group, 3, 499, 0)[0] <= 0.002


def test_groups_that_are_alike_and_large_are_known_to_be_close():
    rng = np.random.default_rng(15)
    values, group = people(rng, (5000, 5000), (0.12, 0.12))
    assert one_gap(values, group, 2, 300, 0).hi < 0.02


def test_moments_alone_give_nearly_the_same_as_rows():
    rng = np.random.default_rng(16)
    values, group = people(rng, (500, 500, 500), (0.12, 0.12, 0.15))
    seen = moments_of(values, group, 3)
    figures = seen.means[:, 0], seen.errors[:, 0], seen.freedom[:, 0]
    rows, sums = one_gap(values, group, 3, 1000, 0), gap_of(*figures)
    assert sums.lo == pytest.approx(rows.lo, abs=0.004)
    assert sums.hi == pytest.approx(rows.hi, abs=0.004)
    assert limit_p(*figures)[0] == pytest.approx(one_p(values, group, 3, 1999, 0)[0], abs=0.03)


def test_the_standardised_range_is_that_of_the_farthest_pair_and_empty_groups_do_not_count():
    means, errors = np.array([0.1, 0.4, np.nan, 0.2]), np.array([0.03, 0.04, np.nan, 0.01])
    assert studentised_range(means, errors) == pytest.approx(0.3 / 0.05)


def test_the_largest_deviation_is_found_and_chance_is_not():
    rng = np.random.default_rng(17)
    drawn = rng.normal([0.0, 0.1, -0.1], 0.01, (2000, 3))
    value, lo, hi, p = largest_deviation(np.array([0.0, 0.1, -0.1]), drawn)
    assert value == pytest.approx(0.1)
    assert 0.06 < lo < 0.1 < hi < 0.13
    assert p < 0.001
    flat = largest_deviation(np.array([0.004, -0.004, 0.0]), rng.normal([0.004, -0.004, 0.0], 0.01, (2000, 3)))
    assert flat[1] == 0
    assert flat[3] > 0.3


def test_sources_that_differ_show_as_groups_that_differ():
    """Groups that are the sources themselves: relabelling must not be kept within a source."""
    from koinon.fairness.comparing import Comparer
    from koinon.fairness.plan import AuditPlan
    from koinon.fairness.units import unite

    rng = np.random.default_rng(18)
    sources = {
        name: pl.DataFrame({"user_id": [f"{name}{i}" for i in range(200)], "ndcg": ndcg_like(rng, np.full(200, mean))})
        for name, mean in (("films", 0.30), ("books", 0.06))
    }
    plan = AuditPlan.from_dict(
        {
            "name": "two", "question": "Is any partner's public served worse?", "draws": 300,
            "system": {"recommender": "ease"}, "data": {"sources": ["dataset:ml-100k"]},
            "groups": [{"name": "partner", "by": "partner"}],
            "primary": [{"metric": "ndcg", "group": "partner", "tolerance": 0.05}],
        }
    )  # fmt: skip
    units = unite(sources, ())
    groupings = {"partner": divide(plan.groups[0], units.table["stratum"], None, 20)}
    found = Comparer(plan, units, groupings).compare("ndcg", "partner", tolerance=0.05)
    assert (found.worst, found.best) == ("books", "films")
    assert found.p < 0.01
    assert found.lo > 0.1
