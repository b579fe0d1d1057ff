"""A space from which no straight line can read a group: linear concept erasure over people's mean vectors.

A person stands in the space where the things they took stand on average. An affine map of the items' vectors moves that
mean by the same map, so what is erased from people is erased by changing items alone, and whoever is served need not
say which group they belong to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.space import Space

__all__ = ["ErasedSpace", "Eraser", "VectorMap", "eraser_of", "mean_vectors"]

Doubles = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Eraser:
    """The smallest affine change after which people's vectors and their group are uncorrelated.

    ``x - W⁺ P W (x - mean)`` with ``W`` the whitening of people's vectors and ``P`` the projection onto their
    whitened covariance with the group: LEACE (Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff and Biderman 2023,
    theorem 4.3). Every linear classifier of the group then does no better than a constant.

    Attributes
    ----------
    mean
        ``float64[dimension]`` of people's vectors.
    removed
        ``float64[dimension, dimension]``, ``W⁺ P W``; its rank is at most groups - 1.
    """

    mean: Doubles
    removed: Doubles

    def __call__(self, vectors: Doubles) -> Doubles:
        """Return changed vectors ``float64[n, dimension]``."""
        changed: Doubles = vectors - (vectors - self.mean) @ self.removed.T
        return changed

    def fingerprint(self) -> str:
        """Hash of the map."""
        return hashlib.sha256(self.removed.tobytes() + self.mean.tobytes()).hexdigest()


class VectorMap(Protocol):
    """A map of vectors ``float64[n, dimension]`` that takes a group out of them."""

    def __call__(self, vectors: Doubles, /) -> Doubles:
        """Return changed vectors."""
        ...

    def fingerprint(self) -> str:
        """Hash of the map."""
        ...


def mean_vectors(domain: Domain, vectors: NDArray[np.floating]) -> Doubles:
    """Mean of each person's training items, ``float64[users, dimension]``; the catalogue's mean for nobody's history.

    ``vectors`` ``float[items, dimension]``.
    """
    counts = np.asarray(domain.matrix.sum(axis=1)).ravel()[:, None]
    wide = vectors.astype(np.float64)
    sums = domain.matrix.astype(np.float64) @ wide
    means: Doubles = np.where(counts > 0, sums / np.maximum(counts, 1.0), wide.mean(axis=0))
    return means


def eraser_of(people: Doubles, group: NDArray[np.integer]) -> Eraser:
    """Fit an eraser on people's vectors ``float64[users, dimension]`` and groups ``int[users]`` (-1: not counted)."""
    known = group >= 0
    x = people[known]
    mean = x.mean(axis=0)
    labels = np.eye(int(group.max()) + 1)[group[known]]
    centred = x - mean
    together = centred.T @ (labels - labels.mean(axis=0)) / len(x)
    value, basis = np.linalg.eigh(centred.T @ centred / len(x))
    sound = value > value.max(initial=0.0) * 1e-10
    root = np.sqrt(np.where(sound, value, 1.0))
    whiten = (basis * np.where(sound, 1.0 / root, 0.0)) @ basis.T
    colour = (basis * np.where(sound, root, 0.0)) @ basis.T
    left, size, _ = np.linalg.svd(whiten @ together, full_matrices=False)
    left = left[:, size > size.max(initial=0.0) * 1e-10]
    return Eraser(mean, colour @ left @ left.T @ whiten)


class ErasedSpace:
    """A space whose vectors an eraser, or another map, has changed, of length 1 again.

    Erasure is exact before vectors are brought back to length 1. That lets a little in again, the less the smaller the
    part of a vector that was taken; a classifier on :func:`mean_vectors` says how much.

    Parameters
    ----------
    space
        Any space.
    eraser
        Of people who stand in it, or :func:`koinon.fairness.mitigation.adversarial.adversarial_map`.
    dial
        0: the space as it is; 1: erased; between, the vectors between.
    """

    def __init__(self, space: Space, eraser: VectorMap, dial: float = 1.0) -> None:
        self.space, self.eraser, self.dial = space, eraser, dial

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.space.dimension

    @property
    def fingerprint(self) -> str:
        """Hash of the space beneath, the eraser and the dial."""
        said = f"{self.space.fingerprint} {self.dial!r} {self.eraser.fingerprint()}"
        return hashlib.sha256(said.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        given = self.space.encode(texts).astype(np.float64)
        changed = (1 - self.dial) * given + self.dial * self.eraser(given)
        norm = np.linalg.norm(changed, axis=1, keepdims=True)
        unit: Vectors = np.divide(changed, norm, out=np.zeros_like(changed), where=norm > 0).astype(np.float32)
        return unit
