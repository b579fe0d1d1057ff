"""The two mechanisms: noise on a partner's own sums, and a share of the noise on a total.

What is released in one go is one vector: all tensors of a round that depend on events, side by side. One person changes
tensor i by at most ``bound_i`` (L2), whatever its events are. If each tensor gets noise of its own standard deviation
``σ_i``, scaling tensor i by ``1/σ_i`` leaves a vector with unit noise that a person changes by at most
``√Σ (bound_i / σ_i)²``: a Gaussian mechanism of multiplier ``z = (Σ (bound_i / σ_i)²)^-½``. :func:`scales` divides
``1/z²`` among the tensors by their shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from koinon.errors import PrivacyError
from koinon.privacy.budget.noise import NoiseSource

__all__ = ["SLACK", "discrete", "gaussian", "grid_of", "scales"]

Doubles = NDArray[np.float64]

SLACK = 1e-6
"""By so much of itself a bound is raised: more than float64 sums of clipped parts can be off."""
_STEPS = 64
"""Steps of the grid per standard deviation that a noised value is rounded to."""
_STEPS_PER_SHARE = 8
_STEPS_PER_BOUND = 32
_EXACT = 2.0**24
"""Float32 holds whole numbers up to here."""
_FINEST = 2.0**-16
"""Multiples of it go through :mod:`koinon.privacy.secure_sum` unrounded."""


def scales(bounds: Mapping[str, float], shares: Mapping[str, float], multiplier: float) -> dict[str, float]:
    """Return each tensor's standard deviation ``σ_i = z · bound_i / √w_i``.

    Parameters
    ----------
    bounds
        What one person may change of each tensor, L2, finite and positive.
    shares
        Of the same tensors; scaled to a sum of 1 they are ``w``.
    multiplier
        ``z`` of the whole release.

    Raises
    ------
    PrivacyError
        K661 a bound that is not positive and finite, K662 a share or a multiplier that is not.
    """
    total = sum(shares[name] for name in bounds)
    found = {}
    for name, bound in bounds.items():
        if not (math.isfinite(bound) and bound > 0):
            raise PrivacyError(
                "K661", f"Tensor {name} depends on events and has no bound.", "Set a finite clip under a budget."
            )
        if not (shares[name] > 0 and math.isfinite(multiplier) and multiplier > 0):
            raise PrivacyError("K662", f"Tensor {name} would get no noise.", "Give it a share of the budget.")
        found[name] = multiplier * bound * (1 + SLACK) * math.sqrt(total / shares[name])
    return found


def gaussian(array: Doubles, scale: float, source: NoiseSource) -> Doubles:
    """Add Gaussian noise of standard deviation ``scale`` and round to a grid of about ``scale / 64``.

    Guarantee: a Gaussian mechanism, up to a statistical distance of at most ``10^-13`` per value. The noise is computed
    in float64, whose lowest digits can betray what it was added to (Mironov 2012, On Significance of the Least
    Significant Bits). Rounding comes after, is a power of two and so exact, and hides them: the result differs from
    that of real arithmetic only where the exact value lies within the error, at most ``10^-15`` of a standard
    deviation's few multiples, of a rounding boundary. Rounding adds ``1/12 · 64^-2``, 0.002 %, to the variance.
    """
    grid = 2.0 ** math.floor(math.log2(scale / _STEPS))
    noised: Doubles = np.rint((array.ravel() + scale * source.normal(array.size)) / grid) * grid
    return noised.reshape(array.shape)


def discrete(array: Doubles, scale: float, bound: float, shares: int, source: NoiseSource) -> Doubles:
    """Add one partner's share of distributed noise; the whole is ``scale`` over ``shares`` honest partners.

    The sums are rounded to a grid and get discrete Gaussian noise of variance ``scale² / shares`` in whole steps.
    Kairouz, Liu and Steinke (2021, The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
    Aggregation, Theorem 1): ``n`` such shares on vectors of ``d`` integers that one person changes by at most ``Δ``
    (L2) are ``½ε²``-concentrated private with ``ε ≤ Δ / (√n σ) + τ √d``,
    ``τ = 10 Σ_{k<n} exp(-2π² σ² k / (k + 1))``. A share is at least 8 steps wide, so τ is below ``10^-270 n`` and
    counts for nothing. Noise of further partners comes after it. Rounding is deterministic, to the nearest step: what
    changes a value by ``x`` changes the rounded one by at most ``|x| + 1`` steps, so ``Δ ≤ bound / grid + √d``. The
    grid (:func:`grid_of`) is fine enough for this to add at most a thirty-second, and the noise is raised by what it
    adds.

    Returns
    -------
    ndarray
        ``float64``: the noised sums, each a multiple of the grid and exact in float32, so that secure aggregation
        carries them as they are; rounding by partner would not be covered by the proof.

    Raises
    ------
    PrivacyError
        K663 a value has more digits than float32, or the grid is finer than what a secure sum resolves.
    """
    grid = grid_of(array.size, scale, bound, shares)
    share = scale / math.sqrt(shares) * (1 + math.sqrt(array.size) * grid / bound)
    steps = np.rint(array.ravel() / grid) + source.discrete_normal(array.size, share / grid)
    if float(np.abs(steps).max(initial=0.0)) > _EXACT:
        raise PrivacyError("K663", "A noised sum has more digits than travel.", 'Use mechanism = "local".')
    noised: Doubles = np.reshape(steps * grid, array.shape)
    return noised


def grid_of(size: int, scale: float, bound: float, shares: int) -> float:
    """Return the step of :func:`discrete`, a power of two: at most a thirty-second of ``bound / √size`` and an eighth
    of a share's standard deviation. It follows from the policy alone.
    """
    wanted = min(scale / math.sqrt(shares) / _STEPS_PER_SHARE, bound / math.sqrt(size) / _STEPS_PER_BOUND)
    grid = float(2.0 ** math.floor(math.log2(wanted)))
    if grid < _FINEST:
        raise PrivacyError("K663", f"Distributed noise would need steps of {grid:.1e}.", "Raise the learner's clip.")
    return grid
