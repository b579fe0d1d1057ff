"""BPR-MF: vectors of people and items such that what a person took scores above what the person did not.

    max Σ_(u,i,j) ln σ(s_ui - s_uj) - λ (|w_u|² + |h_i|² + |h_j|²),   s_ui = w_u·h_i + b_i

with i taken by u and j drawn uniformly from what u has not taken (Rendle et al. 2009, "BPR: Bayesian personalized
ranking from implicit feedback"), by stochastic gradients over small batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
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

__all__ = ["BPR", "BPRConfig"]

Floats = NDArray[np.float32]
REDRAWS = 20
RIDGE = 1.0
TABLE = 2**28
"""Cells of people and items up to which what was taken is looked up in a table of bytes, not searched for."""


class BPRConfig(Config):
    """Settings of :class:`BPR`."""

    factors: int = Field(default=64, ge=1)
    """Length of a vector."""
    regularization: float = Field(default=0.01, ge=0.0)
    """λ, for every triple that a vector is in."""
    learning_rate: float = Field(default=0.05, gt=0.0)
    """Step at the first epoch; it falls in a straight line to a tenth."""
    epochs: int = Field(default=50, ge=1)
    """Times that every event is learned from, each time against another item."""
    batch: int = Field(default=256, ge=1)
    """Triples whose steps are taken together."""


class BPR(Ranked):
    """Matrix factorisation for ranking; who asks is placed by the history, known or not.

    A history of n items is given the vector ``[Σ h_i / √n, 1] · reading``, where ``reading`` is the ridge regression of
    the training people's own vectors on theirs. It hears of what has happened since, no person's vector is kept, and it
    was measured to rank no worse than those vectors (docs/baselines.md). Requests without history get what is popular.

    Attributes
    ----------
    items
        ``float32[items, factors + 1]``; the last column is the item's own score ``b``.
    reading
        ``float32[factors + 1, factors]``.
    popularity
        ``float32[items]``, 0 to 1.
    """

    name: ClassVar[str] = "bpr"
    config_type: ClassVar[type[BPRConfig]] = BPRConfig

    def __init__(self, config: BPRConfig | None = None) -> None:
        self.config = config or BPRConfig()
        self.items: Floats = np.empty((0, 0), dtype=np.float32)
        self.reading: Floats = np.empty((0, 0), dtype=np.float32)
        self.popularity: Floats = np.empty(0, dtype=np.float32)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Learn from the training events; ``rng`` draws beginnings, order and negatives, ``space`` is not used.

        Raises
        ------
        RecommenderError
            K470 the steps were too long and what was learned is not finite.
        """
        taken = csr_matrix(domain.matrix[domain.matrix.getnnz(axis=1) > 0])
        users, items = _descend(taken, self.config, rng)
        if not (np.isfinite(users).all() and np.isfinite(items).all()):
            raise RecommenderError("K470", "BPR's vectors are not finite.", "Lower learning_rate.")
        self.items = items
        read = self._read(taken).astype(np.float64)
        ridge = RIDGE * np.eye(read.shape[1])
        self.reading = np.linalg.solve(read.T @ read + ridge, read.T @ users).astype(np.float32)
        self.popularity = popularity_prior(domain)
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
        vectors = self._read(history) @ self.reading
        scores: Floats = (vectors @ self.items[chosen, :-1].T).astype(np.float32, copy=False)
        scores += self.items[chosen, -1]
        scores[history.getnnz(axis=1) == 0] = self.popularity[chosen]
        return scores

    def _read(self, history: csr_matrix) -> Floats:
        """``float32[rows, factors + 1]``: sums of the items' vectors over √n, and 1."""
        sums = np.asarray(history @ self.items[:, :-1])
        sizes = np.maximum(history.getnnz(axis=1), 1)[:, None]
        return np.concatenate((sums / np.sqrt(sizes), np.ones_like(sizes)), axis=1).astype(np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned."""
        return {"items": self.items, "reading": self.reading, "popularity": self.popularity}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned."""
        self.items, self.reading, self.popularity = (
            state[name].astype(np.float32) for name in ("items", "reading", "popularity")
        )
        return self


def _descend(matrix: csr_matrix, config: BPRConfig, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Learn ``float32[users, factors]`` and, with the items' own scores, ``float32[items, factors + 1]``."""
    people, catalogue = matrix.shape
    pairs = np.sort(np.repeat(np.arange(people), np.diff(matrix.indptr)) * catalogue + matrix.indices)
    taken = _taken(pairs, people * catalogue)
    # a last column of ones on one side makes the other side's last column an item's own score
    w = torch.from_numpy(rng.normal(0.0, 0.1, (people, config.factors + 1)).astype(np.float32))
    h = torch.from_numpy(rng.normal(0.0, 0.1, (catalogue, config.factors + 1)).astype(np.float32))
    w[:, -1], h[:, -1] = 1.0, 0.0
    with torch.inference_mode():
        for epoch in range(config.epochs):
            rate = config.learning_rate * (1.0 - 0.9 * epoch / config.epochs)
            triples = [torch.from_numpy(column) for column in _triples(pairs, taken, catalogue, rng)]
            for start in range(0, len(triples[0]), config.batch):
                u, i, j = (column[start : start + config.batch] for column in triples)
                who, better, worse = w[u], h[i], h[j]
                apart = better - worse
                pull = rate * torch.sigmoid(-(who * apart).sum(1, keepdim=True))
                shrink = rate * config.regularization
                step = pull * apart - shrink * who
                step[:, -1] = 0.0
                w.index_add_(0, u, step)
                h.index_add_(0, i, pull * who - shrink * better)
                h.index_add_(0, j, -pull * who - shrink * worse)
    return w[:, :-1].numpy().copy(), h.numpy().copy()


def _taken(pairs: NDArray[np.int64], cells: int) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]]:
    """Give a function that tells which of some pairs are among ``pairs``, which are ascending and below ``cells``."""
    if cells <= TABLE:
        table = np.zeros(cells, dtype=np.bool_)
        table[pairs] = True
        return lambda asked: table[asked]
    return lambda asked: pairs[np.minimum(np.searchsorted(pairs, asked), len(pairs) - 1)] == asked


def _triples(
    pairs: NDArray[np.int64],
    taken: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
    catalogue: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], ...]:
    """Every pair once in random order with an item that its user has not taken: ``(user, taken, other)``.

    ``pairs`` are ``user * catalogue + item``. Who has taken all but everything may go without.
    """
    shuffled = rng.permutation(pairs)
    user = shuffled // catalogue
    other = rng.integers(catalogue, size=len(pairs))
    clash = np.arange(len(pairs))
    for _ in range(REDRAWS):
        clash = clash[taken(user[clash] * catalogue + other[clash])]
        if not len(clash):
            break
        other[clash] = rng.integers(catalogue, size=len(clash))
    fair = np.ones(len(pairs), dtype=np.bool_)
    fair[clash] = False
    return user[fair], shuffled[fair] % catalogue, other[fair]
