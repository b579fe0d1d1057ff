"""How sure a figure is: seeded bootstrap over users, paired where two arms meet, and Holm where many are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.errors import EvaluationError

__all__ = ["Gain", "Interval", "bootstrap_mean", "gain_from", "holm", "paired_gain", "resampled_means"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over users with its percentile bootstrap interval; all ``nan`` where ``n`` is 0."""

    mean: float
    lo: float
    hi: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return a JSON-ready dictionary, ``None`` for what is undefined."""
        values = {"mean": self.mean, "lo": self.lo, "hi": self.hi}
        return {**{name: value if np.isfinite(value) else None for name, value in values.items()}, "n": self.n}


@dataclass(frozen=True)
class Gain:
    """What one arm adds over another on the same users.

    Attributes
    ----------
    gain, lo, hi
        Mean per-user difference and its interval, in the metric's units.
    relative, relative_lo, relative_hi
        The same as a share of the baseline's mean (0.05: five per cent); ``nan`` where that mean is 0.
    p
        Two-sided bootstrap p-value of no difference.
    n
        Users.
    """

    gain: float
    lo: float
    hi: float
    relative: float
    relative_lo: float
    relative_hi: float
    p: float
    n: int


def bootstrap_mean(values: Doubles, *, seed: int = 0, samples: int = 2000, level: float = 0.95) -> Interval:
    """Mean of per-user values ``float64[users]`` with a percentile bootstrap interval over users."""
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    means = resampled_means(values[:, None], seed, samples)[:, 0]
    lo, hi = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(lo), float(hi), len(values))


def paired_gain(arm: Doubles, baseline: Doubles, *, seed: int = 0, samples: int = 2000, level: float = 0.95) -> Gain:
    """Gain of ``arm`` over ``baseline``, ``float64[users]`` each, same users in the same order.

    Users are resampled together with both their values, so what they have in common cancels; the relative interval
    resamples numerator and denominator together.

    Raises
    ------
    EvaluationError
        K503 the two do not hold the same number of users.
    """
    if len(arm) != len(baseline):
        raise EvaluationError(
            "K503", f"{len(arm)} and {len(baseline)} users cannot be paired.", "Evaluate both arms on one set."
        )
    difference = arm - baseline
    drawn = resampled_means(np.column_stack([difference, baseline]), seed, samples) if len(arm) else np.empty((0, 2))
    return gain_from(difference, baseline, drawn[:, 0], drawn[:, 1], level=level)


def gain_from(
    difference: Doubles, baseline: Doubles, drawn_difference: Doubles, drawn_baseline: Doubles, *, level: float = 0.95
) -> Gain:
    """:func:`paired_gain` from a drawing at hand: per-user differences and baseline values, and their resampled means.

    Both pairs come from the same users; the means ``float64[samples]`` are two columns of :func:`resampled_means`.
    """
    if len(difference) == 0:
        nothing = float("nan")
        return Gain(nothing, nothing, nothing, nothing, nothing, nothing, nothing, 0)
    ends = [(1 - level) / 2, (1 + level) / 2]
    lo, hi = np.quantile(drawn_difference, ends)
    base = float(baseline.mean())
    relative = relative_lo = relative_hi = float("nan")
    if base > 0:
        relative = float(difference.mean()) / base
        usable = drawn_baseline > 0
        relative_lo, relative_hi = np.quantile(drawn_difference[usable] / drawn_baseline[usable], ends)
    smaller = min(int((drawn_difference <= 0).sum()), int((drawn_difference >= 0).sum()))
    p = 1.0 if not difference.any() else min(1.0, 2.0 * (smaller + 1) / (len(drawn_difference) + 1))
    return Gain(
        gain=float(difference.mean()),
        lo=float(lo),
        hi=float(hi),
        relative=relative,
        relative_lo=float(relative_lo),
        relative_hi=float(relative_hi),
        p=p,
        n=len(difference),
    )


def holm(p_values: Sequence[float]) -> Doubles:
    """Holm's step-down adjusted p-values, ``float64[tests]``, in the order given; ``nan`` stays ``nan`` and is no test.

    Reject where the adjusted value is below the family-wise level (Holm 1979).
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted


def resampled_means(columns: Doubles, seed: int = 0, samples: int = 2000, chunk: int = 100) -> Doubles:
    """Means of ``columns`` ``float64[users, c]`` over resampled users, ``float64[samples, c]``.

    One drawing serves all columns; quantiles equal :func:`bootstrap_mean`'s, column by column, for the price of one.
    """
    rng = np.random.default_rng(seed)
    users = len(columns)
    means = np.empty((samples, columns.shape[1]))
    for start in range(0, samples, chunk):
        stop = min(start + chunk, samples)
        weights = np.stack([np.bincount(rng.integers(users, size=users), minlength=users) for _ in range(start, stop)])
        means[start:stop] = weights @ columns / users
    return means
