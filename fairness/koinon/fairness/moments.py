"""Counts, sums and sums of squares by group: all that a comparison of groups needs to know of people.

They add up: two sources' moments in one sum are those of both. So the same figures serve an audit of one partner, where
they come from rows at hand, and one over many, where each partner forms its own and only their sum is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PRIOR_USERS", "Moments", "moments_of", "shrink"]

Doubles = NDArray[np.float64]

PRIOR_USERS = 10.0
"""A group's spread is drawn towards the pooled one as if so many further users had shown that."""


@dataclass(frozen=True)
class Moments:
    """Sums over the users of each group, for each metric.

    Attributes
    ----------
    n, total, squares
        ``float64[..., groups, metrics]``: users with a value, the sum of their values and of its squares. Leading axes
        are independent repetitions.
    """

    n: Doubles
    total: Doubles
    squares: Doubles

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def take(self, groups: NDArray[np.integer]) -> Moments:
        """Return the moments of some groups."""
        return Moments(self.n[..., groups, :], self.total[..., groups, :], self.squares[..., groups, :])

    @property
    def means(self) -> Doubles:
        """``float64[..., groups, metrics]``; nan where nobody has a value."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Doubles = self.total / self.n
        return means

    @property
    def variances(self) -> Doubles:
        """Sample variances of single users' values, ``float64[..., groups, metrics]``; nan below two users."""
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.maximum(self.squares - self.total**2 / self.n, 0.0)
            variances: Doubles = np.where(self.n > 1, spread / (self.n - 1), np.nan)
        return variances

    @property
    def pooled_variance(self) -> Doubles:
        """Variance within groups over all of them, ``float64[..., metrics]``."""
        freedom = np.maximum(self.n - 1, 0.0)
        within = np.where(freedom > 0, self.variances * freedom, 0.0).sum(axis=-2)
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled: Doubles = within / freedom.sum(axis=-2)
        return pooled

    @property
    def errors(self) -> Doubles:
        """Standard errors of the means, ``float64[..., groups, metrics]``.

        The variance is moderated: :math:`((n-1)s^2 + 10 s_p^2) / (n+9)` with the pooled :math:`s_p^2`. A group of
        twenty in which nobody was hit has no spread of its own, but is not known exactly for that (the idea of
        Smyth 2004, with a fixed weight).
        """
        freedom = np.maximum(self.n - 1, 0.0)
        own = np.where(freedom > 0, np.nan_to_num(self.variances) * freedom, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            moderated = (own + PRIOR_USERS * self.pooled_variance[..., None, :]) / (freedom + PRIOR_USERS)
            errors: Doubles = np.where(self.n > 0, np.sqrt(moderated / self.n), np.nan)
        return errors

    @property
    def freedom(self) -> Doubles:
        """Degrees of freedom behind :attr:`errors`, ``float64[..., groups, metrics]``: ``n + 9``."""
        freedom: Doubles = np.maximum(self.n - 1, 0.0) + PRIOR_USERS
        return freedom

    @property
    def shrunken(self) -> Doubles:
        """Means drawn towards the overall one by how much of their scatter is noise, ``float64[..., groups, metrics]``.

        Empirical Bayes with the scatter between groups estimated as DerSimonian and Laird (1986) do and the pooled
        variance within; where the groups scatter no more than chance lets them, all are the overall mean.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            return shrink(self.means, np.where(self.n > 0, self.pooled_variance[..., None, :] / self.n, np.inf))


def shrink(means: Doubles, noise: Doubles) -> Doubles:
    """:attr:`Moments.shrunken` from means and the variances of their errors, ``float64[..., groups, metrics]``.

    An infinite variance: nobody has a value.
    """
    there = np.isfinite(noise)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(noise > 0, 1.0 / noise, 0.0)
        means = np.nan_to_num(means)
        total = weight.sum(axis=-2, keepdims=True)
        middle = (weight * means).sum(axis=-2, keepdims=True) / total
        scatter = (weight * (means - middle) ** 2).sum(axis=-2, keepdims=True)
        scale = total - (weight**2).sum(axis=-2, keepdims=True) / total
        groups = there.sum(axis=-2, keepdims=True)
        between = np.maximum((scatter - (groups - 1)) / scale, 0.0)
        keep = np.where(between > 0, between / (between + noise), 0.0)
        shrunken: Doubles = np.where(noise > 0, middle + keep * (means - middle), means)
    return np.where(there, shrunken, np.nan)


def moments_of(values: Doubles, group: NDArray[np.integer], groups: int) -> Moments:
    """Sum up users by group.

    Parameters
    ----------
    values
        ``float64[users, metrics]``; nan where a user has no value of a metric.
    group
        ``int[users]``, below 0: in no group.
    groups
        How many there are.
    """
    inside = group >= 0
    kept, label = values[inside], group[inside]
    known = np.isfinite(kept)
    filled = np.where(known, kept, 0.0)

    def summed(columns: Doubles) -> Doubles:
        sums = [np.bincount(label, columns[:, metric], minlength=groups) for metric in range(values.shape[1])]
        return np.column_stack(sums) if sums else np.empty((groups, 0))

    return Moments(summed(known.astype(np.float64)), summed(filled), summed(filled**2))
