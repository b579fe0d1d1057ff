"""The semantic prior: which items speak for which, by their texts alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

__all__ = ["nearest_texts", "semantic_prior", "text_evidence"]

Vectors = NDArray[np.float32]

LIKED_NEIGHBOURS = 20
LIKED_SHARPNESS = 8.0


def semantic_prior(vectors: Vectors, neighbours: int = 50) -> csc_matrix:
    """``S``, ``float32[items, items]``: column j holds item j's nearest texts, scaled by the root of their sum.

    The diagonal is zero *before* neighbours are chosen, cosines that are not positive are dropped, and each column is
    divided by ``√Σ_i S_ij``: a crowded neighbourhood weighs more than a lonely one, but not in proportion.
    """
    items = len(vectors)
    rows, columns, values = nearest_texts(vectors, vectors, neighbours, skip_self=True)
    prior = csc_matrix((values, (columns, rows)), shape=(items, items))
    sums = np.asarray(prior.sum(axis=0)).ravel()
    prior.data = (prior.data / np.sqrt(np.repeat(sums, np.diff(prior.indptr)))).astype(np.float32)
    return prior


def text_evidence(texts: Vectors, vectors: Vectors) -> csr_matrix:
    """``float32[texts, items]``: each text as a mixture of the catalogue's nearest items, rows summing to 1.

    Cosines are raised to a high power, so that the same work in another edition outweighs the rest.
    """
    rows, columns, values = nearest_texts(texts, vectors, LIKED_NEIGHBOURS)
    sharp = csr_matrix((values**LIKED_SHARPNESS, (rows, columns)), shape=(len(texts), len(vectors)))
    sums = np.maximum(np.asarray(sharp.sum(axis=1)).ravel(), np.finfo(np.float32).tiny)
    sharp.data = (sharp.data / np.repeat(sums, np.diff(sharp.indptr))).astype(np.float32)
    return sharp


def nearest_texts(
    asked: Vectors, vectors: Vectors, neighbours: int, *, skip_self: bool = False, block: int = 512
) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors]:
    """Nearest ``vectors`` of each of ``asked`` by cosine: ``(asked row, vector row, cosine > 0)``, flat."""
    width = min(neighbours, len(vectors))
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]] = []
    for start in range(0, len(asked), block):
        similar = asked[start : start + block] @ vectors.T
        own = np.arange(len(similar))
        if skip_self:
            similar[own, own + start] = 0.0
        nearest = np.argpartition(-similar, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(similar, nearest, axis=1)
        row, place = np.nonzero(values > 0)
        found.append((row + start, nearest[row, place], values[row, place]))
    empty = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    rows, columns, values = (np.concatenate(arrays) for arrays in zip(empty, *found, strict=True))
    return rows, columns, values
