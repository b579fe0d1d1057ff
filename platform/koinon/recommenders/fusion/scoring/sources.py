"""What reads texts for a request: the space's similarity, or a language model's likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from koinon.recommenders.conventional import encode_wishes
from koinon.recommenders.fusion.scoring._config import GatedConfig
from koinon.recommenders.llm_as_rs.prompted import PromptedRanker
from koinon.recommenders.protocol import Request
from koinon.space import Space

__all__ = ["Evidence", "Likelihood", "Similarity", "Source"]

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """What texts say of some items.

    Attributes
    ----------
    places
        ``int64[n]``: items, none of them in the history.
    told
        ``float32[n]``: their scores, comparable within one request.
    """

    places: NDArray[np.int64]
    told: Scores


class Source(Protocol):
    """Reads texts."""

    def evidence(self, request: Request, row: Scores) -> Evidence | None:
        """What texts say; ``row`` holds the base's scores ``float32[items]``. ``None``: nothing is known to go by."""
        ...


class Similarity:
    """Cosines of the space to the texts of a history, to liked texts and to a wish in words.

    Parameters
    ----------
    vectors
        ``float32[items, d]``: unit vectors of the catalogue's texts.
    space
        Encodes what a person typed; it is not written to any cache.
    config
        ``history`` and ``nearest`` are read.
    """

    def __init__(self, vectors: Scores, space: Space, config: GatedConfig) -> None:
        self.vectors, self.config = vectors, config
        self._space = space

    def evidence(self, request: Request, row: Scores) -> Evidence | None:
        """Score every item outside the history."""
        told = self.all(request)
        if told is None:
            return None
        places = np.setdiff1d(np.arange(len(told)), request.history)
        return Evidence(places, told[places])

    def all(self, request: Request) -> Scores | None:
        """``float32[items]``; ``None`` without a history and without words."""
        said = [*request.liked, *([request.query] if request.query else [])]
        known = self.vectors[request.history[-self.config.history :]]
        if said:
            known = np.concatenate((known, encode_wishes(self._space, said)))
        if not len(known):
            return None
        if not self.config.nearest:
            mean: Scores = self.vectors @ known.mean(axis=0)
            return mean
        cosines = self.vectors @ known.T
        kept = min(self.config.nearest, cosines.shape[1])
        greatest = np.partition(cosines, cosines.shape[1] - kept, axis=1)[:, -kept:]
        return np.asarray(greatest.mean(axis=1), dtype=np.float32)


class Likelihood:
    """A prompted language model asked about the base's best and about rare items whose texts are near.

    Parameters
    ----------
    ranker
        Asks (:meth:`PromptedRanker.parts`); its ``candidates`` must hold both kinds.
    similarity
        Finds the rare items; ``None``: the base's best alone are asked about.
    counts
        ``int64[items]``: training events.
    config
        ``candidates``, ``rare_candidates`` and ``rare_events`` are read.
    """

    def __init__(
        self, ranker: PromptedRanker, similarity: Similarity | None, counts: NDArray[np.int64], config: GatedConfig
    ) -> None:
        self.ranker, self.similarity, self.counts, self.config = ranker, similarity, counts, config

    def evidence(self, request: Request, row: Scores) -> Evidence | None:
        """Score the candidates."""
        if not (len(request.history) or request.liked or request.query):
            return None
        chosen = self.chosen(request, row)
        parts = self.ranker.parts(request, row[chosen], chosen.astype(np.int32))
        return Evidence(chosen[parts.places], parts.told)

    def chosen(self, request: Request, row: Scores) -> NDArray[np.int64]:
        """``int64[n]``: whom to ask about."""
        free = np.setdiff1d(np.arange(len(row)), request.history)
        best = free[np.lexsort((free, -row[free]))][: self.config.candidates]
        near = self.similarity.all(request) if self.similarity is not None and self.config.rare_candidates else None
        if near is None:
            return best
        rare = np.setdiff1d(free[self.counts[free] <= self.config.rare_events], best)
        nearest = rare[np.lexsort((rare, -near[rare]))][: self.config.rare_candidates]
        return np.concatenate((best, nearest))
