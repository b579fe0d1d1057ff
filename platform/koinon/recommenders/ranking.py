"""From scores to lists, the same way for every recommender."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Recommendation, Request

__all__ = ["Ranked", "best", "history_matrix"]

Scores = NDArray[np.float32]


def best(scores: Scores, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
    """Return the ``k`` best unseen items per request, best first; equal scores in catalogue order.

    ``scores`` is ``float32[requests, items]``. Lists are shorter where fewer items are unseen.
    """
    lists = []
    for row, request in zip(scores, requests, strict=True):
        free = row.astype(np.float32, copy=True)
        free[request.history] = -np.inf
        width = min(k, len(free))
        entry = np.partition(free, len(free) - width)[len(free) - width] if width > 0 else np.inf
        top = np.flatnonzero(np.isfinite(free) & (free >= entry))
        order = top[np.lexsort((top, -free[top]))][:width]
        lists.append([Recommendation(int(item), float(free[item])) for item in order])
    return lists


def history_matrix(requests: Sequence[Request], items: int, recency: float = 1.0) -> csr_matrix:
    """``float32[requests, items]``: ``recency ** (number of later items)`` for what each history holds, at most 1.

    Raises
    ------
    RecommenderError
        K405 a history names an item outside the catalogue.
    """
    lengths = np.array([len(request.history) for request in requests], dtype=np.int64)
    column = np.concatenate([request.history for request in requests]) if requests else np.empty(0, dtype=np.int32)
    if len(column) and (column.min() < 0 or column.max() >= items):
        raise RecommenderError(
            "K405",
            f"A history names item {int(column.max())}; the catalogue has {items}.",
            "Ask with item indices of the domain the recommender was fitted on.",
        )
    later = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(column)) - 1
    weight = np.power(np.float32(recency), later, dtype=np.float32)
    row = np.repeat(np.arange(len(requests)), lengths)
    matrix = csr_matrix((weight, (row, column)), shape=(len(requests), items))
    matrix.data = np.minimum(matrix.data, np.float32(1.0))
    return matrix


class Ranked:
    """Gives ``recommend`` to anything that has ``score``."""

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``."""
        raise NotImplementedError

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """Return the ``k`` best unseen items per request, best first."""
        return best(self.score(requests), requests, k)
