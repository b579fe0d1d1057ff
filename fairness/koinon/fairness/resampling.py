"""Drawing users again: the bootstrap of many groups at once, and the permutation of their labels.

Each row is one user (:mod:`koinon.fairness.units`), so a draw takes or leaves a user with everything measured of them.
Strata are the partners a user is at; each keeps its number of users in every draw.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import poisson

from koinon.fairness.moments import Moments

__all__ = ["bootstrap_means", "permuted_moments"]

Doubles = NDArray[np.float64]
Labels = NDArray[np.integer]

_BLOCK = 4096


def bootstrap_means(
    values: Doubles,
    groupings: Sequence[Labels],
    sizes: Sequence[int],
    stratum: Labels,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> list[Doubles]:
    """Resampled group means, one drawing for all metrics and groupings.

    Each user counts a Poisson(1) number of times in each draw, and each stratum is scaled to its size: the bootstrap
    of Chamandy, Muralidharan, Najmi and Naidu (2012), in one pass over the users and in memory that does not grow with
    them.

    Parameters
    ----------
    values
        ``float64[users, metrics]``, nan where a user has no value.
    groupings, sizes
        For each grouping ``int[users]``, below 0: in no group; and how many groups it has.
    stratum
        ``int[users]`` from 0.
    draws, seed
        Repetitions, and what they depend on.

    Returns
    -------
    For each grouping ``float64[draws, groups, metrics]``; nan where a draw has nobody with a value.
    """
    users, metrics = values.shape
    known = np.isfinite(values)
    kinds, which = np.unique(known, axis=1, return_inverse=True) if users else (known[:, :1], np.zeros(metrics, int))
    columns = np.hstack([np.ones((users, 1)), np.where(known, values, 0.0), kinds]).astype(np.float32)
    # users in the same stratum and the same group of every grouping lie together, so that a group is a few slices
    keys = np.column_stack([stratum, *groupings]).astype(np.int64)
    atoms, atom = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(atom, kind="stable")
    columns = columns[order]
    ends = np.cumsum(np.bincount(atom, minlength=len(atoms)))
    table = _poisson_table()
    rng = np.random.Generator(np.random.SFC64(seed))
    totals = [np.zeros((draws, size, columns.shape[1])) for size in sizes]
    for here in range(int(stratum.max()) + 1 if users else 0):
        sums = [np.zeros_like(total) for total in totals]
        drawn = np.zeros(draws)
        mine = np.flatnonzero(atoms[:, 0] == here)
        for index in mine:
            start = ends[index - 1] if index else 0
            for low in range(start, ends[index], _BLOCK):
                part = columns[low : min(low + _BLOCK, ends[index])]
                weight = table[rng.integers(0, 65536, (draws, len(part)), dtype=np.uint16)]
                found = (weight @ part).astype(np.float64)
                drawn += found[:, 0]
                for total, label in zip(sums, atoms[index, 1:], strict=True):
                    if label >= 0:
                        total[:, label] += found
        scale = len(stratum[stratum == here]) / np.maximum(drawn, 1.0)
        for total, own in zip(totals, sums, strict=True):
            total += own * scale[:, None, None]
    means = []
    for total in totals:
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(total[:, :, 1 : metrics + 1] / total[:, :, metrics + 1 :][:, :, which.ravel()])
    return means


def permuted_moments(
    values: Doubles, group: Labels, groups: int, block: Labels, *, draws: int = 1000, seed: int = 0
) -> Moments:
    """Moments under labels dealt out anew among the users of each block: what chance alone would show.

    Parameters
    ----------
    values
        ``float64[users, metrics]``, nan where a user has no value.
    group, groups
        ``int[users]`` from 0 (users in no group are left out by the caller), and how many groups there are.
    block
        ``int[users]`` from 0: the level of a control feature; labels stay within it. One block where nothing is held
        equal: a gap that goes with the partner is a gap.
    draws, seed
        Repetitions, and what they depend on.

    Returns
    -------
    Moments
        With a leading axis ``draws``.
    """
    metrics = values.shape[1]
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    columns = np.hstack([known.astype(np.float64), filled, filled**2])
    by_block = np.argsort(block, kind="stable")
    bounds = np.concatenate(([0], np.cumsum(np.bincount(block))))
    by_group = np.argsort(group[by_block], kind="stable")
    indptr = np.searchsorted(group[by_block][by_group], np.arange(groups + 1))
    ones = np.ones(len(values))
    rng = np.random.default_rng(seed)
    summed = np.zeros((draws, groups, 3 * metrics))
    for draw in range(draws):
        dealt = by_block.copy()
        for low, high in itertools.pairwise(bounds):
            rng.shuffle(dealt[low:high])
        summed[draw] = csr_matrix((ones, dealt[by_group], indptr), shape=(groups, len(values))) @ columns
    return Moments(summed[..., :metrics], summed[..., metrics : 2 * metrics], summed[..., 2 * metrics :])


@cache
def _poisson_table() -> NDArray[np.float32]:
    """A Poisson(1) count for each of 65,536 equally likely numbers, ``float32``."""
    counts: NDArray[np.float32] = poisson.ppf((np.arange(65536) + 0.5) / 65536, 1.0).astype(np.float32)
    return counts
