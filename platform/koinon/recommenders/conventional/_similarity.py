"""Likeness of texts alone: what a frozen space says without anybody's behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.conventional._popularity import popularity_prior
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked, history_matrix
from koinon.space import EvenedSpace, Space

__all__ = ["TextSimilarity", "TextSimilarityConfig"]

Scores = NDArray[np.float32]


class TextSimilarityConfig(Config):
    """Settings of :class:`TextSimilarity`."""

    recency: float = Field(default=1.0, gt=0.0, le=1.0)
    """Weight of an item of the history for each later one."""
    evenness: float | None = Field(default=None, ge=0.0, le=1.0)
    """As :attr:`koinon.recommenders.conventional.SemanticEaseConfig.evenness`."""


class TextSimilarity(Ranked):
    """Mean cosine of an item's text to those of the history; without a history, what is popular.

    The yardstick of everything that learns over a space: on items that nobody has taken it is hard to beat.

    Attributes
    ----------
    vectors
        ``float32[items, d]``, unit rows.
    """

    name: ClassVar[str] = "text-similarity"
    config_type: ClassVar[type[TextSimilarityConfig]] = TextSimilarityConfig

    def __init__(self, config: TextSimilarityConfig | None = None) -> None:
        self.config = config or TextSimilarityConfig()
        self.vectors: Scores = np.empty((0, 0), dtype=np.float32)
        self._popularity: Scores = np.empty(0, dtype=np.float32)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Encode the catalogue; nothing is learned and ``rng`` is not used.

        Raises
        ------
        RecommenderError
            K404 there is no space.
        """
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        if self.config.evenness is not None:
            space = EvenedSpace(space, domain.texts, self.config.evenness)
        self.vectors = np.asarray(space.encode(domain.texts), dtype=np.float32)
        self._popularity = popularity_prior(domain, None)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted, K405 a history names an item outside the catalogue.
        """
        if not len(self.vectors):
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        history = history_matrix(requests, len(self.vectors), self.config.recency)
        chosen = slice(None) if candidates is None else candidates
        weight = np.maximum(np.asarray(history.sum(axis=1)).reshape(-1, 1), 1e-9)
        scores = np.asarray((history @ self.vectors) / weight @ self.vectors[chosen].T, dtype=np.float32)
        scores[history.getnnz(axis=1) == 0] = self._popularity[chosen]
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the vectors and what is popular."""
        return {"vectors": self.vectors, "popularity": self._popularity}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender kept on ``domain``'s catalogue."""
        self.vectors = np.asarray(state["vectors"], dtype=np.float32)
        self._popularity = np.asarray(state["popularity"], dtype=np.float32)
        return self
