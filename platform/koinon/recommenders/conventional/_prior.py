"""The semantic prior: which items speak for which, by their texts alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from koinon.space import CachedSpace, Space, SpaceView, nearest

__all__ = ["encode_wishes", "nearest_texts", "semantic_prior", "text_evidence"]

Vectors = NDArray[np.float32]

LIKED_NEIGHBOURS = 20
LIKED_SHARPNESS = 8.0


def semantic_prior(vectors: Vectors, neighbours: int = 50) -> csc_matrix:
    """``S``, ``float32[items, items]``: column j holds item j's nearest texts, scaled by the root of their sum.

    The diagonal is zero *before* neighbours are chosen, cosines that are not positive are dropped, and each column is
    divided by ``√Σ_i S_ij``: a crowded neighbourhood weighs more than a lonely one, but not in proportion.
    """
    items = len(vectors)
    rows, columns, values = nearest_texts(vectors, neighbours)
    prior = csc_matrix((values, (columns, rows)), shape=(items, items))
    sums = np.asarray(prior.sum(axis=0)).ravel()
    prior.data = (prior.data / np.sqrt(np.repeat(sums, np.diff(prior.indptr)))).astype(np.float32)
    return prior


def text_evidence(texts: Vectors, vectors: Vectors) -> csr_matrix:
    """``float32[texts, items]``: each text as a mixture of the catalogue's nearest items, rows summing to 1.

    Cosines are raised to a high power, so that the same work in another edition outweighs the rest.
    """
    rows, columns, values = nearest_texts(texts, LIKED_NEIGHBOURS, vectors)
    sharp = csr_matrix((values**LIKED_SHARPNESS, (rows, columns)), shape=(len(texts), len(vectors)))
    sums = np.maximum(np.asarray(sharp.sum(axis=1)).ravel(), np.finfo(np.float32).tiny)
    sharp.data = (sharp.data / np.repeat(sums, np.diff(sharp.indptr))).astype(np.float32)
    return sharp


def encode_wishes(space: Space, texts: Sequence[str]) -> Vectors:
    """Encode what a person typed, ``float32[texts, dimension]``; it is not written to any cache."""
    return space.encode(texts, remember=False) if isinstance(space, CachedSpace | SpaceView) else space.encode(texts)


def nearest_texts(
    asked: Vectors, neighbours: int, vectors: Vectors | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32], Vectors]:
    """Nearest ``vectors`` (``None``: the other rows of ``asked``) by cosine: ``(row, column, cosine > 0)``, flat."""
    found, cosines = nearest(asked, neighbours, vectors)
    row, place = np.nonzero(cosines > 0)
    return row, found[row, place], cosines[row, place]
