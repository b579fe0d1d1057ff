"""A space seen from one catalogue: about the catalogue's mean, its long axes shortened.

Texts of one shop share much (all are books, all are German), and that shared part is most of every cosine. What is left
of it after the mean is taken away and the axes of the catalogue's spread are drawn towards one length tells items apart
better (whitening; Su et al. 2021, arXiv 2103.15316, whose power is 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from koinon.space.space import Space
from koinon.space.view import SpaceView

__all__ = ["EvenedSpace", "principal_map"]

Floats = NDArray[np.float32]


def principal_map(vectors: Floats, evenness: float, dimension: int | None = None) -> tuple[Floats, Floats]:
    """Principal axes about the mean, the long ones shortened.

    Parameters
    ----------
    vectors
        ``float32[rows, width]``.
    evenness
        0 to 1. An axis is divided by the power ``evenness / 2`` of its variance: 0 leaves all as they are, 1 makes them
        equally long.
    dimension
        Axes that are kept, those of most variance; beyond ``width`` they are zero. Default: ``width``.

    Returns
    -------
    ``float32[dimension, width]`` and the mean, ``float32[width]``.
    """
    given = vectors.astype(np.float64)
    mean = given.mean(axis=0)
    width = len(mean)
    dimension = dimension or width
    variance, axes = np.linalg.eigh(np.cov(given - mean, rowvar=False, bias=True) + 1e-9 * np.eye(width))
    variance, axes = variance[::-1][:dimension], axes[:, ::-1][:, :dimension]
    scale = np.maximum(variance / max(variance[0], 1e-12), 1e-6) ** (-evenness / 2)
    turned = np.zeros((dimension, width))
    turned[: axes.shape[1]] = (axes * scale).T
    return turned.astype(np.float32), mean.astype(np.float32)


class EvenedSpace(SpaceView):
    """A space turned and stretched by what one catalogue's texts are like.

    Parameters
    ----------
    space
        Of any encoder.
    texts
        The catalogue's, two at least.
    evenness
        As for :func:`principal_map`.
    """

    def __init__(self, space: Space, texts: Sequence[str], evenness: float) -> None:
        map_, mean = principal_map(space.encode(texts), evenness)
        digest = hashlib.sha256(f"{space.fingerprint}\0{evenness!r}".encode())
        for text in texts:
            digest.update(b"\0" + text.encode("utf-8", "replace"))

        def turn(vectors: Floats) -> Floats:
            turned: Floats = np.asarray((vectors - mean) @ map_.T, dtype=np.float32)
            return turned

        super().__init__(space, turn, space.dimension, digest.hexdigest())
