"""What the lists themselves are like: how much of the catalogue they show, how evenly, how novel, how diverse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["coverage", "gini", "intra_list_diversity", "novelty", "top_lists"]

Doubles = NDArray[np.float64]


def top_lists(scores: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Best ``k`` columns per row, ``int32[rows, k]``, best first; equal scores in random order.

    ``-inf`` is never listed; -1 fills rows with fewer candidates than ``k``.
    """
    rows, columns = scores.shape
    width = min(k, columns)
    entry = np.partition(scores, columns - width, axis=1)[:, columns - width]
    listed = (scores >= entry[:, None]) & np.isfinite(scores)
    row, column = np.nonzero(listed)
    order = np.lexsort((rng.random(len(row)), -scores[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    keep = place < k
    lists = np.full((rows, k), -1, dtype=np.int32)
    lists[row[keep], place[keep]] = column[keep]
    return lists


def coverage(lists: NDArray[np.int32], items: int) -> float:
    """Share of the catalogue that stands in at least one list, 0 to 1."""
    return len(np.unique(lists[lists >= 0])) / items if items else float("nan")


def gini(lists: NDArray[np.int32], items: int) -> float:
    """Gini coefficient of how often each item is shown: 0 all alike, towards 1 a few take all; nan without lists."""
    shown = np.sort(np.bincount(lists[lists >= 0], minlength=items)).astype(np.float64)
    total = shown.sum()
    if total == 0:
        return float("nan")
    rank = np.arange(1, items + 1)
    return float(((2 * rank - items - 1) * shown).sum() / (items * total))


def novelty(lists: NDArray[np.int32], item_counts: NDArray[np.int64], users: int) -> Doubles:
    """Mean self-information of a list's items, ``float64[rows]``, bits: ``-log2((n_i + 1) / (users + 1))``.

    Higher is less expected (Vargas and Castells 2011); 0 for items everybody has; nan for an empty list.
    """
    surprise = -np.log2((item_counts + 1.0) / (users + 1.0))
    return _row_mean(np.where(lists >= 0, surprise[lists], 0.0).sum(axis=1), (lists >= 0).sum(axis=1))


def intra_list_diversity(lists: NDArray[np.int32], vectors: NDArray[np.float32]) -> Doubles:
    """Mean ``1 - cosine`` over a list's pairs, ``float64[rows]``, 0 to 2; ``vectors`` are unit rows ``[items, d]``.

    nan for lists of fewer than two items. (Ziegler et al. 2005, with distance in the semantic space.)
    """
    size = (lists >= 0).sum(axis=1)
    shown = np.where((lists >= 0)[:, :, None], vectors[lists], 0.0).astype(np.float64)
    pairs = (shown.sum(axis=1) ** 2).sum(axis=1) - (shown**2).sum(axis=(1, 2))
    return 1.0 - _row_mean(pairs, size * (size - 1)) if len(lists) else np.empty(0)


def _row_mean(total: Doubles, size: NDArray[np.integer]) -> Doubles:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Doubles = np.where(size > 0, total / np.maximum(size, 1), np.nan)
    return mean
