"""Means of cells from sums with noise in them, and how sure they are: sampling and noise in one error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.fairness.moments import PRIOR_USERS, shrink

__all__ = ["Noise", "NoisyMeans", "means_of"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the noise in one value of each sum; 0 for none."""

    people: float = 0.0
    figures: float = 0.0
    """In sums of ``x`` and of ``2 (1/4 - x²)``, each by itself."""


@dataclass(frozen=True)
class NoisyMeans:
    """Means of cells, ``float64[cells]`` each.

    Attributes
    ----------
    mean
        As the noisy sums give them.
    error
        Standard errors: of people like these drawn anew, and of the noise.
    freedom
        Degrees of freedom behind them.
    shrunken
        Means drawn towards the overall one (:func:`koinon.fairness.moments.shrink`).
    """

    mean: Doubles
    error: Doubles
    freedom: Doubles
    shrunken: Doubles


def means_of(n: Doubles, sums: Doubles, squares: Doubles, noise: Noise) -> NoisyMeans:
    r"""Means of some cells of one metric, with errors that hold the noise.

    The variance of a mean :math:`m = S/n` is :math:`v/n + (\sigma_S^2 + m^2 \sigma_n^2)/n^2` (first order). A cell's
    own spread :math:`v = (Q - (S^2 - \sigma_S^2)/n)/(n-1)` is noisy too, and :math:`Q = n/4 - W/2` comes from a sum
    :math:`W` with the same noise as ``S``. It is moderated towards the pooled one as in
    :class:`~koinon.fairness.moments.Moments`, but weighs only as much as so many people without noise would,

    .. math:: \left(\frac{1}{n-1}
        + \frac{(1/4 + 4 m^2) \sigma_S^2 + (1/4 + m^2)^2 \sigma_n^2}{2 v_p^2 n^2}\right)^{-1}.

    Without noise mean, error, freedom and shrunken are those of ``Moments``.

    Parameters
    ----------
    n, sums, squares
        ``float64[cells]``; two people at least in each.
    noise
        In them.
    """
    mean = sums / n
    spread = (squares - (sums**2 - noise.figures**2) / n) / (n - 1)
    doubt = ((0.25 + 4 * mean**2) * noise.figures**2 + (0.25 + mean**2) ** 2 * noise.people**2) / n**2
    weight = n - 1
    pooled = float((spread * weight).sum() / weight.sum())
    # what the noise may hide is not taken for sameness
    least = float(np.sqrt((doubt * weight**2).sum()) / weight.sum())
    pooled = max(pooled, least, 0.0)
    own = weight / (1 + weight * doubt / (2 * pooled**2)) if least else weight
    spread = np.maximum(spread, 0.0)
    moderated = (own * spread + PRIOR_USERS * pooled) / (own + PRIOR_USERS)
    added = (noise.figures**2 + mean**2 * noise.people**2) / n**2
    error = np.sqrt(moderated / n + added)
    shrunken = shrink(mean[:, None], (pooled / n + added)[:, None])[:, 0]
    return NoisyMeans(mean, error, own + PRIOR_USERS, shrunken)
