"""ItemKNN: the items whose readers overlap most."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from koinon.data import Domain
from koinon.recommenders.conventional._linear import LinearConfig, LinearItemModel
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
    Config: ClassVar[type[ItemKNNConfig]] = ItemKNNConfig

    def __init__(self, config: ItemKNNConfig | None = None) -> None:
        super().__init__(config or ItemKNNConfig())

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Find every item's neighbours; ``space`` and ``rng`` are not used."""
        assert isinstance(self.config, ItemKNNConfig)
        return self.adopt(item_neighbours(domain.matrix, self.config.neighbours, self.config.shrink), domain)


def item_neighbours(matrix: csr_matrix, neighbours: int, shrink: float, block: int = 512) -> csr_matrix:
    """``float32[items, items]``: column j holds ``g_ij / (√(g_ii g_jj) + shrink)`` for j's nearest items i ≠ j."""
    columns = matrix.tocsc()
    norms = np.sqrt(np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel())
    items = matrix.shape[1]
    parts: list[tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float64]]] = []
    for start in range(0, items, block):
        stop = min(start + block, items)
        overlap = np.asarray((columns[:, start:stop].T @ matrix).todense(), dtype=np.float64)
        overlap[np.arange(stop - start), np.arange(start, stop)] = 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            similar = np.where(overlap > 0, overlap / (np.outer(norms[start:stop], norms) + shrink), 0.0)
        width = min(neighbours, items)
        nearest = np.argpartition(-similar, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(similar, nearest, axis=1)
        scored, place = np.nonzero(values)
        parts.append((nearest[scored, place], scored + start, values[scored, place]))
    rows, scored_items, data = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return csr_matrix((data.astype(np.float32), (rows, scored_items)), shape=(items, items))
