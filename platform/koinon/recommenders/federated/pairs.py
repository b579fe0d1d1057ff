"""The pre-agreed pairs of identities, and sums over them.

Which pairs are asked for follows from catalogues and from the server's earlier releases, never from one partner's
events. A pair is eligible if at least two partners list both its works: from any other nobody could gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PairList", "choose_pairs"]

BLOCK = 512


@dataclass(frozen=True)
class PairList:
    """Unordered pairs of identities, each once, as the upper triangle of a sparse matrix.

    Attributes
    ----------
    start
        ``int64[n + 1]``: where each identity's pairs begin.
    other
        ``int32[pairs]``: the second identity, greater than the first, ascending within a row.
    """

    start: NDArray[np.int64]
    other: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.other)

    @property
    def identities(self) -> int:
        """Number of identities."""
        return len(self.start) - 1

    def held(self, own: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return ``(place in the list, a, b)`` of the pairs whose both ends are in ``own`` (distinct identities).

        ``a`` and ``b`` are positions in ``own``.
        """
        where = np.full(self.identities, -1, dtype=np.int64)
        where[own] = np.arange(len(own))
        first = np.repeat(where, np.diff(self.start))
        second = where[self.other]
        place = np.flatnonzero((first >= 0) & (second >= 0))
        return place, first[place], second[place]


def choose_pairs(
    listings: Sequence[NDArray[np.int32]], counts: NDArray[np.floating], limit: int, *, listed_by: int = 2
) -> PairList:
    """Return every eligible pair among the most taken identities, as many of these as ``limit`` pairs allow.

    A block of identities keeps each partner's sums positive semi-definite, which leaving out single pairs does not
    (EASE then has no solution), and what is popular carries most of the signal. Nearest texts in place of it lose
    most of what the sums are good for (docs/federated-gram.md has the figures).

    Parameters
    ----------
    listings
        Per partner the identities it lists.
    counts
        ``float[n]``: how often each identity was taken, summed over all partners in an earlier round.
    limit
        Pairs at most.
    listed_by
        Partners that must list both ends.
    """
    n = len(counts)
    order = np.argsort(-np.asarray(counts, dtype=np.float64), kind="stable")
    rank = np.empty(n, dtype=np.int32)
    rank[order] = np.arange(n)
    member = np.zeros((len(listings), n), dtype=np.float32)
    for row, own in zip(member, listings, strict=True):
        row[own] = 1.0
    firsts, seconds = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.int32)]
    for begin in range(0, n, BLOCK):
        together = member[:, begin : begin + BLOCK].T @ member
        line, column = np.nonzero(np.triu(together >= listed_by, begin + 1))
        firsts.append((line + begin).astype(np.int32))
        seconds.append(column.astype(np.int32))
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    if len(first) > limit:
        later = np.maximum(rank[first], rank[second])
        taken = np.cumsum(np.bincount(later, minlength=n))
        inside = later < np.searchsorted(taken, limit, side="right")
        first, second = first[inside], second[inside]
    start = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=n))]).astype(np.int64)
    return PairList(start, second)
