"""iALS: one vector per item, fitted so that what people have taken stands out of everything they have not.

    L(W, H) = Σ_(u,i) taken (w_u·h_i - 1)² + α Σ_u Σ_i (w_u·h_i)²
              + λ Σ_u (n_u + α·items)^ν |w_u|² + λ Σ_i (n_i + α·users)^ν |h_i|²

(Hu, Koren and Volinsky 2008; the weights of the ridge are those of Rendle et al. 2021, "Revisiting the performance of
iALS on item recommendation benchmarks".) Each half of a sweep is a least-squares problem per row, solved exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

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

__all__ = ["IALS", "IALSConfig", "solve_rows"]

Floats = NDArray[np.float32]
CELLS = 65_536
"""Rows times longest row that are solved at once: 16 MB at 64 factors."""


class IALSConfig(Config):
    """Settings of :class:`IALS`."""

    factors: int = Field(default=64, ge=1)
    """Length of a vector."""
    regularization: float = Field(default=0.01, gt=0.0)
    """λ."""
    unobserved: float = Field(default=0.1, gt=0.0)
    """α, the weight of every pair that was not taken beside one that was."""
    frequency_power: float = Field(default=1.0, ge=0.0, le=1.0)
    """ν: 1 holds whoever has much as firmly to the ridge as whoever has little; 0 is one ridge for all (Hu et al.)."""
    sweeps: int = Field(default=8, ge=1)
    """Times that all people and then all items are solved."""


class IALS(Ranked):
    """Matrix factorisation by alternating least squares; who asks is solved for from the history, known or not.

    Items without a training event have a zero vector and score 0. Requests without history get what is popular.

    Attributes
    ----------
    items
        ``float32[items, factors]``.
    popularity
        ``float32[items]``, 0 to 1.
    """

    name: ClassVar[str] = "ials"
    config_type: ClassVar[type[IALSConfig]] = IALSConfig

    def __init__(self, config: IALSConfig | None = None) -> None:
        self.config = config or IALSConfig()
        self.items: Floats = np.empty((0, 0), dtype=np.float32)
        self.popularity: Floats = np.empty(0, dtype=np.float32)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Sweep; ``rng`` draws where items begin, ``space`` is not used."""
        spread = 0.1 / np.sqrt(self.config.factors)
        begin = rng.normal(0.0, spread, (domain.n_items, self.config.factors)).astype(np.float32)
        return self.fit_from(begin, domain)

    def fit_from(self, items: Floats, domain: Domain) -> Self:
        """Sweep from item vectors ``float32[items, factors]``."""
        taken = domain.matrix
        takers = csr_matrix(taken.T)
        for _ in range(self.config.sweeps):
            items = solve_rows(takers, solve_rows(taken, items, self.config), self.config)
        self.items, self.popularity = items, popularity_prior(domain)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Floats:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted, K405 a history names an item outside the catalogue.
        """
        if not len(self.popularity):
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        chosen = slice(None) if candidates is None else candidates
        history = history_matrix(requests, len(self.items))
        scores: Floats = solve_rows(history, self.items, self.config) @ self.items[chosen].T
        scores[history.getnnz(axis=1) == 0] = self.popularity[chosen]
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned."""
        return {"items": self.items, "popularity": self.popularity}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned."""
        self.items = state["items"].astype(np.float32)
        self.popularity = state["popularity"].astype(np.float32)
        return self


def solve_rows(taken: csr_matrix, factors: Floats, config: IALSConfig) -> Floats:
    """Minimise L over one side, the other fixed.

    Parameters
    ----------
    taken
        ``[rows, columns]``; what it stores counts as taken, whatever the value.
    factors
        ``float32[columns, factors]``, the side that is fixed.
    config
        Its weights.

    Returns
    -------
    ``float32[rows, factors]``; zeros for rows without anything.
    """
    lengths = np.diff(taken.indptr)
    common = np.float32(config.unobserved) * (factors.T @ factors)
    ridge = config.regularization * (lengths + config.unobserved * len(factors)) ** config.frequency_power
    identity = np.eye(factors.shape[1], dtype=np.float32)
    padded = np.concatenate((factors, np.zeros((1, factors.shape[1]), dtype=np.float32)))
    solved = np.zeros((len(lengths), factors.shape[1]), dtype=np.float32)
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        rows = order[start : start + max(1, CELLS // int(longest))]
        inside = np.arange(longest) < lengths[rows, None]
        place = np.where(inside, taken.indptr[rows, None] + np.arange(longest), 0)
        own = padded[np.where(inside, taken.indices[place], len(factors))]
        matrix = own.transpose(0, 2, 1) @ own + common
        matrix += ridge[rows, None, None].astype(np.float32) * identity
        solved[rows] = np.linalg.solve(matrix, own.sum(axis=1)[:, :, None])[:, :, 0]
        start += len(rows)
    return solved
