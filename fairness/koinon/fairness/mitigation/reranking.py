"""A recommender whose best items are put into another order: what every re-ranking shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.space import Space

__all__ = ["Remembered", "Reranked", "Shortlists", "shortlists_of"]

Doubles = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Shortlists:
    """The best unseen items of each request, best first.

    Attributes
    ----------
    column
        ``int64[requests, depth]`` into the candidates that were scored.
    item
        ``int32[requests, depth]`` items.
    relevance
        ``float64[requests, depth]``: the recommender's score, from 1 for the best to 0 for the last of the list, so
        that people can be weighed against each other. 0 throughout where all scores are equal.
    there
        ``bool[requests, depth]``: false where fewer items are unseen.
    """

    column: NDArray[np.int64]
    item: NDArray[np.int32]
    relevance: Doubles
    there: NDArray[np.bool_]


def shortlists_of(
    scores: Scores, requests: Sequence[Request], depth: int, candidates: NDArray[np.int32] | None = None
) -> Shortlists:
    """Cut scores ``float32[requests, candidates]`` down to the ``depth`` best unseen; equal ones in catalogue order."""
    free = np.array(scores, dtype=np.float64)
    rows, width = free.shape
    if candidates is None:
        for row, request in enumerate(requests):
            free[row, request.history] = -np.inf
    else:
        for row, request in enumerate(requests):
            free[row, np.isin(candidates, request.history)] = -np.inf
    depth = min(depth, width)
    # a stable sort of what can be among the best: everything not below the depth-th score
    entry = np.partition(free, width - depth, axis=1)[:, width - depth] if depth else np.full(rows, np.inf)
    column = np.empty((rows, depth), dtype=np.int64)
    for row in range(rows):
        near = np.flatnonzero(free[row] >= entry[row])
        column[row] = near[np.argsort(-free[row, near], kind="stable")[:depth]]
    value = np.take_along_axis(free, column, axis=1)
    there = np.isfinite(value)
    low = np.where(there, value, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        relevance = (value - low) / (value[:, :1] - low)
    relevance = np.where(there & np.isfinite(relevance), relevance, 0.0)
    item = (column if candidates is None else candidates[column]).astype(np.int32)
    return Shortlists(column, item, relevance, there)


class Reranked(Ranked):
    """Puts the best ``depth`` unseen items of any recommender into another order; all others stay below them.

    Parameters
    ----------
    inner
        Any recommender; ``fit`` fits it, ``learn`` takes it as it is.
    depth
        Items of each request that may change places.
    """

    name: ClassVar[str] = "reranked"

    def __init__(self, inner: Recommender, *, depth: int = 100) -> None:
        self.inner, self.depth = inner, depth

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the recommender beneath, then learn what the re-ranking needs."""
        self.inner = self.inner.fit(domain, space, rng=rng)
        return self.learn(domain)

    def learn(self, domain: Domain) -> Self:
        """Learn what the re-ranking needs from the training events of ``domain``."""
        raise NotImplementedError

    def reordered(self, requests: Sequence[Request], shortlists: Shortlists) -> NDArray[np.int64]:
        """Return each shortlist's places in the new order, ``int64[requests, depth]``."""
        raise NotImplementedError

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``: 1 to 2 for the shortlist in its new order, at most 0 for others.

        Seen items are left with whatever score they get; they are masked by those who list.
        """
        inner = self.inner
        if candidates is None and isinstance(inner, Remembered) and inner.depth == min(self.depth, inner.items):
            return _listed(inner.shortlists(requests), inner.items, self.reordered, requests)
        scores = np.array(self.inner.score(requests, candidates), dtype=np.float32)
        if scores.size == 0:
            return scores
        lists = shortlists_of(scores, requests, self.depth, candidates)
        order = self.reordered(requests, lists)
        column = np.take_along_axis(lists.column, order, axis=1)
        there = np.take_along_axis(lists.there, order, axis=1)
        listed = np.where(lists.there, np.take_along_axis(scores, lists.column, axis=1), np.inf)
        lowest = listed.min(axis=1, keepdims=True)
        scores -= np.where(np.isfinite(lowest), lowest, 0.0).astype(np.float32)
        depth = order.shape[1]
        new = np.broadcast_to(2.0 - np.arange(depth, dtype=np.float32) / depth, order.shape)
        row, place = np.nonzero(there)
        scores[row, column[row, place]] = new[row, place]
        return scores


class Remembered(Ranked):
    """Keeps the shortlists of a fitted recommender, so that many re-rankings of one evaluation ask it once.

    Only the first ``depth`` places of its own lists are right; scores of all other items are 0. Re-rank as many.

    Parameters
    ----------
    inner
        Fitted.
    items
        Size of the catalogue.
    depth
        Length of a shortlist.
    """

    name: ClassVar[str] = "remembered"

    def __init__(self, inner: Recommender, items: int, *, depth: int = 100) -> None:
        self.inner, self.items, self.depth = inner, items, min(depth, items)
        self._kept: dict[tuple[int | None, bytes], tuple[NDArray[np.generic], ...]] = {}

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the recommender beneath and forget what was kept."""
        self.inner, self.items = self.inner.fit(domain, space, rng=rng), domain.n_items
        self._kept.clear()
        return self

    def shortlists(self, requests: Sequence[Request]) -> Shortlists:
        """Shortlists over the whole catalogue, asked for once per user and history."""
        keys = [(one.user, np.asarray(one.history).tobytes()) for one in requests]
        new = [place for place, key in enumerate(keys) if key not in self._kept]
        if new:
            asked = [requests[place] for place in new]
            found = shortlists_of(self.inner.score(asked), asked, self.depth)
            for row, place in enumerate(new):
                self._kept[keys[place]] = (found.item[row], found.relevance[row].astype(np.float32), found.there[row])
        item, relevance, there = (np.stack(part) for part in zip(*(self._kept[key] for key in keys), strict=True))
        return Shortlists(item.astype(np.int64), item, relevance.astype(np.float64), there)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``: above 0 for the shortlist alone."""
        if not requests:
            return np.empty((0, self.items if candidates is None else len(candidates)), dtype=np.float32)
        scores = _listed(self.shortlists(requests), self.items, None, requests)
        return scores if candidates is None else scores[:, candidates]


def _listed(
    lists: Shortlists,
    items: int,
    reordered: Callable[[Sequence[Request], Shortlists], NDArray[np.int64]] | None,
    requests: Sequence[Request],
) -> Scores:
    """1 to 2 for a shortlist, in another order where one is given; 0 for every other item."""
    scores = np.zeros((len(requests), items), dtype=np.float32)
    item, there = lists.item, lists.there
    if reordered is not None:
        order = reordered(requests, lists)
        item, there = np.take_along_axis(item, order, axis=1), np.take_along_axis(there, order, axis=1)
    row, place = np.nonzero(there)
    scores[row, item[row, place]] = (2.0 - np.arange(item.shape[1], dtype=np.float32) / item.shape[1])[place]
    return scores
