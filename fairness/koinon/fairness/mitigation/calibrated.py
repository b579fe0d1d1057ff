"""Lists that hold kinds of items in due proportion: to each person's own history, or to what everybody takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.fairness.mitigation.reranking import Reranked, Shortlists
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import history_matrix

__all__ = ["SMOOTHING", "Calibrated", "greedy_order"]

Doubles = NDArray[np.float64]

SMOOTHING = 0.01
"""Share of the target in a list's proportions, so that a kind a list lacks does not cost infinitely much."""


class Calibrated(Reranked):
    """Greedy calibrated re-ranking (Steck 2018, "Calibrated recommendations", section 3).

    Each place goes to the item that raises ``(1 - dial) Σ relevance - dial · n · KL(target || list)`` most, with ``n``
    the items placed so far, so that both terms grow alike. The objective is submodular, and greedy choice is within
    ``1 - 1/e`` of the best.

    Parameters
    ----------
    inner
        Any recommender.
    kinds
        ``float64[items, kinds]``, rows sum to 1 or are 0 (of no kind): categories, languages, bands of popularity.
    dial
        0: the recommender's own order; 1: proportions alone.
    towards
        ``own``: the proportions of the person's history. ``everybody``: those of all training events, one and the
        same list mix for all: as the dial rises, personal relevance yields to what society as a whole takes.
    k
        Length of the lists that are calibrated; the rest of the shortlist follows in its old order.
    depth
        Items that may be listed.
    """

    name: ClassVar[str] = "calibrated"

    def __init__(
        self,
        inner: Recommender,
        kinds: Doubles,
        *,
        dial: float,
        towards: Literal["own", "everybody"] = "own",
        k: int = 10,
        depth: int = 100,
    ) -> None:
        super().__init__(inner, depth=depth)
        self.kinds, self.dial, self.towards, self.k = kinds, dial, towards, k
        self.everybody: Doubles = np.empty(0)

    def learn(self, domain: Domain) -> Self:
        """Count what everybody takes."""
        self.everybody = _shares(domain.item_counts.astype(np.float64)[None] @ self.kinds)[0]
        return self

    def targets(self, requests: Sequence[Request]) -> Doubles:
        """``float64[requests, kinds]``: the proportions due; everybody's where a history has no kind."""
        if self.towards == "everybody":
            return np.tile(self.everybody, (len(requests), 1))
        own = _shares(history_matrix(requests, len(self.kinds)) @ self.kinds)
        return np.where(own.sum(axis=1, keepdims=True) > 0, own, self.everybody)

    def reordered(self, requests: Sequence[Request], shortlists: Shortlists) -> NDArray[np.int64]:
        """Greedy choice for the first ``k`` places."""
        return greedy_order(
            shortlists.relevance,
            self.kinds[shortlists.item],
            self.targets(requests),
            dial=self.dial,
            k=self.k,
            there=shortlists.there,
        )


def greedy_order(
    relevance: Doubles, kinds: Doubles, target: Doubles, *, dial: float, k: int, there: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return the order of each shortlist, ``int64[requests, depth]``: the greedy first ``k``, then the rest as it was.

    Parameters
    ----------
    relevance
        ``float64[requests, depth]``, best first.
    kinds
        ``float64[requests, depth, kinds]``, rows sum to 1 or 0.
    target
        ``float64[requests, kinds]``, rows sum to 1.
    dial, k
        As in :class:`Calibrated`.
    there
        ``bool[requests, depth]``: which may be chosen; default: all.
    """
    rows, depth = relevance.shape
    free = np.ones((rows, depth), dtype=np.bool_) if there is None else there.copy()
    total = np.zeros((rows, kinds.shape[2]))
    chosen = np.empty((rows, min(k, depth)), dtype=np.int64)
    every = np.arange(rows)
    for place in range(chosen.shape[1]):
        shares = (total[:, None] + kinds) / (place + 1)
        mixed = (1 - SMOOTHING) * shares + SMOOTHING * target[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.where(target[:, None] > 0, target[:, None] * np.log(target[:, None] / mixed), 0.0).sum(axis=2)
        # gains from here on differ by this item's relevance and the list's new divergence alone
        value = (1 - dial) * relevance - dial * (place + 1) * apart
        best = np.where(free, value, -np.inf).argmax(axis=1)
        best = np.where(free.any(axis=1), best, (~_taken(chosen[:, :place], depth)).argmax(axis=1))
        chosen[:, place] = best
        free[every, best] = False
        total += kinds[every, best]
    taken = _taken(chosen, depth)
    rest = np.argsort(taken, axis=1, kind="stable")[:, : depth - chosen.shape[1]]
    return np.hstack([chosen, rest])


def _taken(chosen: NDArray[np.int64], depth: int) -> NDArray[np.bool_]:
    marked = np.zeros((len(chosen), depth), dtype=np.bool_)
    np.put_along_axis(marked, chosen, True, axis=1)
    return marked


def _shares(counts: Doubles) -> Doubles:
    total = counts.sum(axis=1, keepdims=True)
    shares: Doubles = np.divide(counts, total, out=np.zeros_like(counts, dtype=np.float64), where=total > 0)
    return shares
