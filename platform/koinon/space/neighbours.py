"""Nearest neighbours by cosine: exact in blocks, FAISS beyond a size."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from koinon.errors import SpaceError

__all__ = ["nearest"]

Index = Literal["auto", "exact", "faiss"]

_EXACT_PAIRS = 4_000_000_000
_BLOCK_PAIRS = 32_000_000
_FAISS_PROBES = 32


def nearest(
    vectors: NDArray[np.float32],
    k: int,
    others: NDArray[np.float32] | None = None,
    index: Index = "auto",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The ``k`` most similar rows for every row of ``vectors``.

    Parameters
    ----------
    vectors
        ``float32[n, d]`` of L2 norm 1, so that inner products are cosines.
    k
        Neighbours wanted, at least 1; fewer columns come back when there are fewer candidates.
    others
        ``float32[m, d]`` to look among; ``None``: the rows of ``vectors`` themselves, each row itself excluded.
    index
        ``exact``; ``faiss`` (extra ``ann``, approximate: an inverted file); ``auto``: exact up to 4·10⁹ pairs.

    Returns
    -------
    indices, similarities
        ``int32[n, k]`` and ``float32[n, k]`` in [-1, 1], most similar first, equal ones by index.

    Raises
    ------
    SpaceError
        K340 shapes that do not fit, K301 FAISS wanted or needed and not installed.
    """
    among = vectors if others is None else others
    if vectors.ndim != 2 or among.ndim != 2 or vectors.shape[1] != among.shape[1] or k < 1:
        raise SpaceError(
            "K340",
            f"Neighbours of vectors {vectors.shape} among {among.shape}, k = {k}: this cannot be.",
            "Give two matrices of the same width and k ≥ 1.",
        )
    itself = others is None
    wanted = min(k, len(among) - itself)
    if wanted < 1 or len(vectors) == 0:
        shape = (len(vectors), max(wanted, 0))
        return np.empty(shape, np.int32), np.empty(shape, np.float32)
    if index == "faiss" or (index == "auto" and len(vectors) * len(among) > _EXACT_PAIRS):
        found, similarities = _by_faiss(vectors, among, wanted + itself)
    else:
        found, similarities = _exact(vectors, among, wanted, itself)
    if index != "exact" and itself and found.shape[1] > wanted:
        found, similarities = _without_itself(found, similarities, wanted)
    order = np.lexsort((found, -similarities), axis=1)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(similarities, order, axis=1)


def _exact(
    vectors: NDArray[np.float32], among: NDArray[np.float32], wanted: int, itself: bool
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    import torch

    indices = np.empty((len(vectors), wanted), np.int32)
    similarities = np.empty((len(vectors), wanted), np.float32)
    columns = torch.from_numpy(np.ascontiguousarray(among, np.float32)).t()
    rows = max(1, _BLOCK_PAIRS // len(among))
    with torch.inference_mode():
        for start in range(0, len(vectors), rows):
            block = torch.from_numpy(np.ascontiguousarray(vectors[start : start + rows], np.float32)) @ columns
            if itself:
                block.as_strided((len(block),), (len(among) + 1,), start).fill_(-torch.inf)
            best = torch.topk(block, wanted, dim=1)
            indices[start : start + rows] = best.indices.numpy()
            similarities[start : start + rows] = best.values.numpy()
    return indices, np.clip(similarities, -1.0, 1.0)


def _by_faiss(
    vectors: NDArray[np.float32], among: NDArray[np.float32], wanted: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    try:
        import faiss
    except ImportError as error:
        raise SpaceError(
            "K301", "So many vectors are searched by FAISS, which is not installed.", "`pip install 'koinon[ann]'`."
        ) from error
    dimension = vectors.shape[1]
    lists = int(max(1, min(4 * np.sqrt(len(among)), len(among) // 39)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    index.nprobe = max(_FAISS_PROBES, lists // 16)
    data = np.ascontiguousarray(among, np.float32)
    index.train(data)
    index.add(data)
    similarities, found = index.search(np.ascontiguousarray(vectors, np.float32), wanted)
    return found.astype(np.int32), np.clip(similarities, -1.0, 1.0)


def _without_itself(
    found: NDArray[np.int32], similarities: NDArray[np.float32], wanted: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Drop each row's own index (or the last column, where the index has not found it)."""
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(found), wanted)
    return found[~own].reshape(shape), similarities[~own].reshape(shape)
