"""Means from noisy sums: without noise those of moments, with noise as sure as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from koinon.fairness.federated.noisy import Noise, means_of
from koinon.fairness.gaps import gap_of
from koinon.fairness.moments import moments_of


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=20), min_size=2, max_size=5),
)
def test_without_noise_they_are_those_of_moments(groups: list[list[float]]) -> None:
    values = np.concatenate(groups)[:, None]
    label = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    moments = moments_of(values, label, len(groups))
    found = means_of(moments.n[:, 0], moments.total[:, 0], moments.squares[:, 0], Noise())
    np.testing.assert_allclose(found.mean, moments.means[:, 0], atol=1e-12)
    np.testing.assert_allclose(found.error, moments.errors[:, 0], atol=1e-9)
    np.testing.assert_allclose(found.freedom, moments.freedom[:, 0])
    np.testing.assert_allclose(found.shrunken, moments.shrunken[:, 0], atol=1e-6)


def sums(rng: np.random.Generator, sizes: tuple[int, ...], mean: np.ndarray, noise: Noise) -> np.ndarray:
    """People, sums and squares of groups whose figures are 1/2 or -1/2, with noise, ``float64[3, groups]``."""
    half = rng.binomial(sizes, mean + 0.5)
    people, figures, middles = rng.normal(size=(3, len(sizes))) * [[noise.people], [noise.figures], [noise.figures]]
    count = np.array(sizes) + people
    return np.array([count, half - np.array(sizes) / 2 + figures, count / 4 - middles / 2])


@pytest.mark.parametrize("noise", [Noise(), Noise(8.0, 5.0), Noise(25.0, 15.0)], ids=["none", "some", "much"])
def test_intervals_of_means_and_gaps_hold_the_truth(noise: Noise) -> None:
    rng = np.random.default_rng(1)
    sizes, truth = (150, 400, 900), np.array([-0.4, -0.35, -0.3])
    held = np.zeros((400, 4))
    for row in held:
        found = means_of(*sums(rng, sizes, truth, noise), noise)
        half = t.ppf(0.975, found.freedom) * found.error
        row[:3] = np.abs(found.mean - truth) <= half
        gap = gap_of(found.mean, found.error, found.freedom, draws=500)
        row[3] = gap.lo <= 0.1 <= gap.hi
    assert (held.mean(axis=0) > 0.92).all(), held.mean(axis=0)


def test_noise_widens_and_never_narrows() -> None:
    rng = np.random.default_rng(2)
    exact = sums(rng, (150, 400, 900), np.array([-0.4, -0.35, -0.3]), Noise())
    plain, wide = means_of(*exact, Noise()), means_of(*exact, Noise(8.0, 5.0))
    assert (wide.error > plain.error).all()
    assert (wide.freedom < plain.freedom).all()


def test_figures_of_which_the_noise_hides_the_spread_are_not_taken_for_equal() -> None:
    found = means_of(np.array([100.0, 100.0]), np.array([-50.0, -50.0]), np.array([20.0, 22.0]), Noise(8.0, 5.0))
    assert np.isfinite(found.error).all()
    assert (found.error > np.hypot(5.0, 4.0) / 100).all()
