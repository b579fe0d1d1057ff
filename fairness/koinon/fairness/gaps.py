"""How far groups lie apart: the largest gap between any two, with an interval that holds and a test against chance.

The largest of many differences is large by chance alone. Hence nothing here reads the plain gap: the interval's lower
end is what all pairs together bear, its upper end what the worst pair could be, and the test compares the largest
standardised difference with what relabelled users show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

__all__ = ["Gap", "gap_of", "largest_deviation", "limit_p", "permutation_p", "studentised_range"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """The difference between the best- and the worst-served group.

    Attributes
    ----------
    plain
        Largest mean minus smallest: what the users seen show, chance included.
    lo, hi
        Interval of the true largest difference, at least of the stated level; ``lo`` is never below 0.
    best, worst
        Rows of the groups with the largest and the smallest mean.
    """

    plain: float
    lo: float
    hi: float
    best: int
    worst: int


def gap_of(
    means: Doubles,
    errors: Doubles,
    freedom: Doubles,
    scatter: Doubles | None = None,
    *,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Gap:
    r"""The largest gap between groups of one metric, with its interval.

    With :math:`d_{ab}` the difference of two means and :math:`s_{ab}` its standard error,

    - lower end :math:`\max_{ab} (d_{ab} - c\,s_{ab})`, at least 0, where ``c`` is the ``(1 + level)/2`` quantile of
      the largest :math:`(d^*_{ab} - d_{ab}) / s_{ab}` over all pairs: the greater one of the bootstrap's and of
      Student's limit, since a small group that nobody hit does not vary when resampled. It exceeds the true gap only
      if some pair's simultaneous bound does.
    - upper end :math:`\max_{ab} (d_{ab} + t\,s_{ab})` with Student's quantile. It falls below the true gap only if
      it does for the one pair that is truly farthest apart, so that no correction for the number of pairs is needed
      (the intersection-union principle, Berger 1982).

    Each end fails in at most ``(1 - level)/2`` of cases, however many groups there are.

    Parameters
    ----------
    means, errors, freedom
        ``float64[groups]``: estimates, their standard errors and the degrees of freedom of these; two groups at least.
    scatter
        ``float64[draws, groups]``: resampled means minus ``means``; ``None`` where only moments are at hand.
    level
        Of the interval.
    draws, seed
        Of Student's limit.
    """
    rng = np.random.default_rng(seed)
    difference = means[:, None] - means[None, :]
    error = np.hypot(errors[:, None], errors[None, :])
    np.fill_diagonal(error, np.inf)
    error = np.where(error > 0, error, np.finfo(np.float64).tiny)
    student = rng.standard_t(freedom, (draws, len(means))) * errors
    critical = float(np.quantile(_largest(student, error), (1 + level) / 2))
    if scatter is not None:
        critical = max(critical, float(np.quantile(_largest(np.nan_to_num(scatter), error), (1 + level) / 2)))
    quantile = t.ppf((1 + level) / 2, np.minimum(freedom[:, None], freedom[None, :]))
    np.fill_diagonal(error, 0.0)
    return Gap(
        plain=float(means.max() - means.min()),
        lo=max(0.0, float((difference - critical * error).max())),
        hi=float((difference + quantile * error).max()),
        best=int(means.argmax()),
        worst=int(means.argmin()),
    )


def studentised_range(means: Doubles, errors: Doubles) -> Doubles:
    """The largest standardised difference between two groups, ``float64[...]``.

    Differences stand on the errors of their own two groups (Welch), so that labels may be permuted although groups
    spread differently (Chung and Romano 2013).

    Parameters
    ----------
    means, errors
        ``float64[..., groups]``; groups in which nobody has a value (nan) do not count.
    """
    largest = np.zeros(means.shape[:-1])
    for one in range(means.shape[-1]):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.abs(means[..., one : one + 1] - means) / np.hypot(errors[..., one : one + 1], errors)
        np.fmax(largest, np.nan_to_num(ratio, posinf=np.inf).max(axis=-1), out=largest)
    return largest


def permutation_p(
    means: Doubles, errors: Doubles, permuted_means: Doubles, permuted_errors: Doubles
) -> tuple[float, float]:
    """p-value of no difference between any two groups, and the plain gap that chance alone shows.

    Parameters
    ----------
    means, errors
        ``float64[groups]`` of one metric.
    permuted_means, permuted_errors
        ``float64[draws, groups]``, with labels dealt out anew.

    Returns
    -------
    p
        ``(1 + draws at least as extreme) / (1 + draws)``, valid at any number of draws.
    by_chance
        Mean of largest minus smallest mean over the draws.
    """
    seen = float(studentised_range(means, errors))
    null = studentised_range(permuted_means, permuted_errors)
    by_chance = float((np.nanmax(permuted_means, axis=-1) - np.nanmin(permuted_means, axis=-1)).mean())
    # equal up to rounding is equal: sums of the same values in another order
    return (1 + int((null >= seen * (1 - 1e-6)).sum())) / (1 + len(null)), by_chance


def limit_p(
    means: Doubles, errors: Doubles, freedom: Doubles, *, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """:func:`permutation_p` where no rows are at hand to relabel, or so many that its limit is reached: Student's."""
    rng = np.random.default_rng(seed)
    scatter = rng.standard_t(freedom, (draws, len(means))) * errors
    return permutation_p(means, errors, scatter, np.broadcast_to(errors, scatter.shape))


def largest_deviation(deviations: Doubles, drawn: Doubles, *, level: float = 0.95) -> tuple[float, float, float, float]:
    """The largest absolute deviation from a standard, e.g. of shares of exposure from shares of relevance.

    Parameters
    ----------
    deviations
        ``float64[groups]``: estimates that would be 0 if the standard were met.
    drawn
        ``float64[draws, groups]``: the same, resampled.
    level
        Of the interval.

    Returns
    -------
    value, lo, hi, p
        The interval as in :func:`gap_of`; ``p`` of all being 0, from the largest standardised deviation.
    """
    error = drawn.std(axis=0, ddof=1)
    error = np.where(error > 0, error, np.finfo(np.float64).tiny)
    largest = (np.abs(drawn - deviations) / error).max(axis=1)
    critical = float(np.quantile(largest, (1 + level) / 2))
    normal = float(norm.ppf((1 + level) / 2))
    size = np.abs(deviations)
    p = (1 + int((largest >= (size / error).max()).sum())) / (1 + len(largest))
    return float(size.max()), max(0.0, float((size - critical * error).max())), float((size + normal * error).max()), p


def _largest(scatter: Doubles, error: Doubles) -> Doubles:
    """Largest standardised difference over all pairs in each draw, ``float64[draws]``."""
    best = np.zeros(len(scatter))
    for one in range(scatter.shape[1]):
        np.fmax(best, ((scatter[:, one : one + 1] - scatter) / error[one]).max(axis=1), out=best)
    return best
