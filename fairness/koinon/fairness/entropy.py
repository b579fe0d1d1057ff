"""Inequality of what people get, and how much of it lies between groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["generalised_entropy"]

Doubles = NDArray[np.float64]


def generalised_entropy(n: Doubles, total: Doubles, squares: Doubles) -> tuple[float, float]:
    r"""Generalised entropy with alpha 2 over users, from groups' counts, sums and sums of squares.

    :math:`\frac{1}{2n} \sum_i ((b_i / \mu)^2 - 1)`, half the squared coefficient of variation: 0 where all get the
    same (Speicher, Heidari, Grgic-Hlaca, Gummadi, Singla, Weller and Zafar 2018). It is the sum of a part within groups
    and one between them, which is what it would be if everybody got their group's mean.

    Parameters
    ----------
    n, total, squares
        ``float64[groups]`` of values that are not negative and not all 0.

    Returns
    -------
    The whole, and the part between groups.
    """
    people = n.sum()
    mean = total.sum() / people
    there = n > 0
    whole = (squares.sum() / people / mean**2 - 1) / 2
    between = ((total[there] ** 2 / n[there]).sum() / people / mean**2 - 1) / 2
    return float(whole), float(between)
