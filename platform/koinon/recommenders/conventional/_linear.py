"""What item-item linear models share: ``scores = history @ weights``, with popularity where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.conventional._popularity import popularity_prior
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked, history_matrix
from koinon.space import Space

__all__ = ["LinearConfig", "LinearItemModel"]

Scores = NDArray[np.float32]


class LinearConfig(Config):
    """Settings of every item-item linear model."""

    popularity_weight: float = Field(default=0.0, ge=0.0)
    """How much of the popularity prior (0 to 1) is added to every score. Requests without evidence get it alone."""
    half_life_days: float | None = Field(default=None, gt=0)
    window_days: float | None = Field(default=None, gt=0)
    """Of that prior, both: see :class:`PopularityConfig`."""
    recency: float = Field(default=1.0, gt=0.0, le=1.0)
    """Weight of each history item relative to the one that came after it; 1: all alike."""


class LinearItemModel(Ranked):
    """Scores by a weighted sum over the history: ``score[u, j] = Σ_i x[u, i] · weights[i, j] + prior_j``.

    Attributes
    ----------
    weights
        ``float32[items, items]``, dense or sparse; row: history item, column: scored item.
    popularity
        ``float32[items]``, 0 to 1.
    """

    def __init__(self, config: LinearConfig) -> None:
        self.config: LinearConfig = config
        self.weights: Scores | csr_matrix = np.empty((0, 0), dtype=np.float32)
        self.popularity: Scores = np.empty(0, dtype=np.float32)

    @property
    def n_items(self) -> int:
        """Size of the catalogue it was fitted on."""
        return len(self.popularity)

    def adopt(self, weights: Scores | csr_matrix, domain: Domain) -> Self:
        """Take these weights as fitted on ``domain``."""
        # rows lie together: a sparse history times columns would copy the whole matrix at every request
        self.weights = weights if isinstance(weights, csr_matrix) else np.ascontiguousarray(weights)
        self.popularity = popularity_prior(domain, self.config.half_life_days, self.config.window_days)
        return self

    def evidence(self, requests: Sequence[Request]) -> csr_matrix:
        """``float32[requests, items]``: how much each catalogue item speaks for each request."""
        return history_matrix(requests, self.n_items, self.config.recency)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted, K405 a history names an item outside the catalogue.
        """
        self.require_fitted()
        return self.score_evidence(self.evidence(requests), candidates)

    def score_evidence(self, evidence: csr_matrix, candidates: NDArray[np.int32] | None = None) -> Scores:
        """Score rows of evidence ``float32[rows, items]``; rows without any get the popularity prior alone."""
        chosen = slice(None) if candidates is None else candidates
        scores = _dense(evidence @ self._columns(chosen)).astype(np.float32, copy=False)
        prior = self.popularity[chosen]
        if self.config.popularity_weight:
            scores += np.float32(self.config.popularity_weight) * prior
        scores[evidence.getnnz(axis=1) == 0] = prior
        return scores

    def attribute(self, request: Request, item: int) -> dict[str, NDArray[np.float64]]:
        """What made ``item``'s score: ``{"history": float64[len(history)], "popularity": float64[1]}``.

        The parts sum to the score; each belongs to one thing the request holds, or to the prior.
        """
        self.require_fitted()
        shares = _dense(self.evidence([request])).ravel()
        prior = float(self.popularity[item]) * (self.config.popularity_weight if shares.any() else 1.0)
        return {"history": self._history_parts(request, item), "popularity": np.array([prior])}

    def _history_parts(self, request: Request, item: int) -> NDArray[np.float64]:
        """What each history item adds; an item that stands there twice gets its part in halves."""
        column = self.column(item)[request.history].astype(np.float64)
        history = history_matrix([request], self.n_items, self.config.recency)
        shares = _dense(history).ravel()[request.history]
        repeats = np.bincount(request.history, minlength=self.n_items)[request.history]
        parts: NDArray[np.float64] = column * shares / repeats
        return parts

    def column(self, item: int) -> Scores:
        """``float32[items]``: how much each history item speaks for ``item``."""
        return _dense(self._columns(np.array([item]))).ravel()

    def _columns(self, chosen: slice | NDArray[np.integer]) -> Any:
        """Some columns of dense or sparse weights."""
        if isinstance(self.weights, np.ndarray):
            return self.weights[:, chosen]
        columns: Any = self.weights.tocsc()
        return columns[:, chosen]

    def require_fitted(self) -> None:
        """Raise K400 unless fitted."""
        if not self.n_items:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned, as named arrays."""
        learned: dict[str, NDArray[np.generic]] = {"popularity": self.popularity}
        if isinstance(self.weights, np.ndarray):
            return {**learned, "weights": self.weights}
        sparse = csr_matrix(self.weights)
        return {**learned, "data": sparse.data, "indices": sparse.indices, "indptr": sparse.indptr}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned on ``domain``'s catalogue."""
        self.popularity = state["popularity"].astype(np.float32)
        if "weights" in state:
            self.weights = np.ascontiguousarray(state["weights"], dtype=np.float32)
        else:
            parts = (
                state["data"].astype(np.float32),
                state["indices"].astype(np.int32),
                state["indptr"].astype(np.int32),
            )
            self.weights = csr_matrix(parts, shape=(self.n_items, self.n_items))
        return self


def _dense(matrix: Any) -> Scores:
    dense: Scores = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    return dense
