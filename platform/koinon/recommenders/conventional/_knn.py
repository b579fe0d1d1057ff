"""ItemKNN: the items whose readers overlap most."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from koinon.data import Domain
from koinon.recommenders.conventional._linear import LinearConfig, LinearItemModel
from koinon.recommenders.conventional._solve import Matrix, gram_matrix
from koinon.space import Space

__all__ = ["ItemKNN", "ItemKNNConfig", "item_neighbours"]


class ItemKNNConfig(LinearConfig):
    """Settings of :class:`ItemKNN`."""

    neighbours: int = Field(default=100, ge=1)
    """How many neighbours of each scored item are kept."""
    shrink: float = Field(default=10.0, ge=0.0)
    """Added to the denominator, so that overlaps of one or two readers count for little."""


class ItemKNN(LinearItemModel):
    """Shrunk cosine between item columns, nearest neighbours only (Deshpande and Karypis 2004)."""

    name: ClassVar[str] = "itemknn"
    config_type: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig

    def __init__(self, config: ItemKNNConfig | None = None) -> None:
        super().__init__(config or ItemKNNConfig())

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Find every item's neighbours; ``space`` and ``rng`` are not used."""
        assert isinstance(self.config, ItemKNNConfig)
        gram = gram_matrix(domain.matrix, dtype=np.float32)
        return self.adopt(item_neighbours(gram, self.config.neighbours, self.config.shrink), domain)


def item_neighbours(gram: Matrix, neighbours: int, shrink: float, block: int = 512) -> csr_matrix:
    """``float32[items, items]``: column j holds ``g_ij / (√(g_ii g_jj) + shrink)`` for j's nearest items i ≠ j."""
    items = len(gram)
    norms = np.sqrt(np.diag(gram))
    width = min(neighbours, items)
    parts: list[tuple[NDArray[np.integer], NDArray[np.integer], Matrix]] = []
    for start in range(0, items, block):
        overlap = gram[start : start + block]
        own = norms[start : start + block]
        similar = overlap / np.maximum(np.outer(own, norms) + shrink, np.finfo(np.float32).tiny)
        similar[np.arange(len(own)), np.arange(len(own)) + start] = 0.0
        nearest = np.argpartition(-similar, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(similar, nearest, axis=1)
        scored, place = np.nonzero(values)
        parts.append((nearest[scored, place], scored + start, values[scored, place]))
    rows, scored_items, data = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return csr_matrix((data.astype(np.float32), (rows, scored_items)), shape=(items, items))
