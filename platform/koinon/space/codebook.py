"""A residual codebook over the space: a few code words per text, and the words' places, fitted from sums and counts.

A vector is told by its nearest centroid, what is left by the nearest centroid of the next level, and so on (residual
quantisation; Chen, Guan and Wang 2010, "Approximate nearest neighbor search by residual vector quantization"). A level
is fitted by Lloyd's iteration, which needs of the vectors nothing but, for each code, how many it has and their sum: a
federation adds these up and comes to the codebook of the joined catalogues. First centroids come from splitting (Linde,
Buzo and Gray 1980, "An algorithm for vector quantizer design"): from one centroid on, those with the largest error are
split in two, so that no vector has to leave for a start either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from koinon.config import Config
from koinon.errors import SpaceError

__all__ = ["LONGEST", "Codebook", "CodebookConfig", "Draft", "centre_of", "fit_codebook"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LONGEST = 2.0
"""A longer residual counts as one of this length, so that what one item adds is bounded; unit vectors and means of unit
vectors are at most so far apart."""
STEP = 0.3
"""A split moves the halves apart by so many standard deviations of the code, in a random direction."""
TINY = 1e-9
"""A code whose vectors differ by less (mean squared distance) is not split."""
ROWS = 1 << 14


class CodebookConfig(Config):
    """Settings of a codebook."""

    levels: int = Field(default=3, ge=1, le=8)
    """Code words of a text."""
    codes: int = Field(default=256, ge=2, le=4096)
    """Code words to choose from on each level."""
    refine: int = Field(default=4, ge=1)
    """Iterations of a level after its last doubling."""
    centred: bool = False
    """In a federation: every partner's vectors less their mean, which stays with it. Words then tell how an item
    differs from what its shop has on the whole."""

    @property
    def steps(self) -> int:
        """Sums that a level needs: one for each doubling, then ``refine``."""
        return math.ceil(math.log2(self.codes)) + self.refine

    @property
    def rounds(self) -> int:
        """Sums that the whole codebook needs."""
        return self.levels * self.steps


@dataclass(frozen=True)
class Codebook:
    """Code words and their places.

    Attributes
    ----------
    centroids
        ``float32[levels, codes, d]``.
    relative
        Whether words tell how a vector differs from its catalogue's mean.
    centre
        ``float32[d]``: that mean, once the catalogue is known (:meth:`around`).
    """

    centroids: Floats
    relative: bool = False
    centre: Floats | None = None

    def around(self, vectors: Floats) -> Codebook:
        """Return it for the catalogue of these vectors ``float32[n, d]``; one that has its catalogue stays as it is."""
        if not self.relative or self.centre is not None:
            return self
        return replace(self, centre=centre_of(vectors))

    @property
    def levels(self) -> int:
        """Code words of a text."""
        return int(self.centroids.shape[0])

    @property
    def codes(self) -> int:
        """Code words on each level."""
        return int(self.centroids.shape[1])

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.centroids.shape[2])

    def encode(self, vectors: Floats) -> NDArray[np.int32]:
        """Return the code words of vectors ``float32[n, d]``, ``int32[n, levels]``; of equally near ones the first.

        Raises
        ------
        SpaceError
            K341 vectors of another length, or words that are relative to a catalogue's mean, which is not known.
        """
        return self._told(vectors)[0]

    def residuals(self, vectors: Floats) -> Floats:
        """What the code words leave of vectors, ``float32[n, d]``. SpaceError K341 as :meth:`encode`."""
        return self._told(vectors)[1]

    def decode(self, codes: NDArray[np.integer]) -> Floats:
        """Return where code words ``int[n, ≤ levels]`` stand, ``float32[n, d]``; fewer words tell it less exactly."""
        places = np.tile(_origin(self.dimension) if self.centre is None else self.centre, (len(codes), 1))
        for level, words in enumerate(codes.T):
            places += self.centroids[level][words]
        return places

    def _told(self, vectors: Floats) -> tuple[NDArray[np.int32], Floats]:
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise SpaceError(
                "K341",
                f"A codebook for vectors of length {self.dimension} cannot tell vectors of shape {vectors.shape}.",
                "Take the codebook that was fitted in this space.",
            )
        if self.relative and self.centre is None:
            raise SpaceError(
                "K341", "These code words are relative to a catalogue's mean.", "Give the catalogue first: `around`."
            )
        left = np.array(vectors, dtype=np.float32)
        if self.centre is not None:
            left -= self.centre
        codes = np.empty((len(left), self.levels), dtype=np.int32)
        for level, centroids in enumerate(self.centroids):
            codes[:, level] = nearest_centroid(left, centroids)
            left -= centroids[codes[:, level]]
        return codes, left


@dataclass(frozen=True)
class Draft:
    """A codebook at work: whoever has vectors adds up :meth:`moments`, whoever has their total takes a :meth:`step`.

    Attributes
    ----------
    done
        The finished levels.
    centroids
        ``float32[k, d]``: the level at work, as far as it is split.
    taken
        Steps taken on this level.
    """

    done: Codebook
    centroids: Floats
    taken: int = 0

    @classmethod
    def begin(cls, dimension: int, config: CodebookConfig) -> Draft:
        """One centroid at the origin."""
        return cls(Codebook(np.zeros((0, config.codes, dimension), dtype=np.float32)), _origin(dimension))

    def moments(self, vectors: Floats) -> Doubles:
        """For each code at work how many of the vectors it has, the sum of their squared lengths, and their sum.

        Vectors are what the finished levels leave of them, at most :data:`LONGEST`; ``float64[k, 2 + d]``. One vector
        adds to one row, at most ``√(1 + LONGEST² + LONGEST⁴)`` in L2 norm.

        Raises
        ------
        SpaceError
            K341 vectors of another length.
        """
        left = self.done.residuals(vectors)
        squares = np.einsum("nd,nd->n", left, left, dtype=np.float64)
        scale = np.minimum(1.0, LONGEST / np.sqrt(np.maximum(squares, 1e-12)))
        code = nearest_centroid(left, self.centroids)
        size = (len(self.centroids), len(left))
        member = csr_matrix((scale, (code, np.arange(len(left)))), shape=size)
        counts = np.bincount(code, minlength=size[0])
        total = np.bincount(code, squares * scale**2, minlength=size[0])
        sums: Doubles = np.asarray(member @ left.astype(np.float64))
        return np.column_stack((counts, total, sums))

    def step(self, moments: Doubles, config: CodebookConfig, *, seed: int) -> Draft:
        """Move centroids to the means; split what errs most where codes are missing or empty.

        Parameters
        ----------
        moments
            Total of all :meth:`moments`.
        config
            How far a level is split, and when it is done.
        seed
            Of the directions in which centroids are split.
        """
        counts = np.maximum(moments[:, 0], 0.0)
        known = counts > 0.5
        share = np.maximum(counts, 1.0)
        means = np.where(known[:, None], moments[:, 2:] / share[:, None], self.centroids.astype(np.float64))
        error = np.where(known, moments[:, 1] - share * np.einsum("kd,kd->k", means, means), 0.0)
        taken, count = self.taken + 1, len(means)
        if taken == config.steps:
            # where there are fewer different vectors than codes, the last is repeated; the first of equals is taken
            words = means[np.minimum(np.arange(config.codes), count - 1)].astype(np.float32)
            return Draft(Codebook(np.concatenate((self.done.centroids, words[None]))), _origin(means.shape[1]))
        free = np.concatenate((np.flatnonzero(~known), np.arange(count, min(2 * count, config.codes))))
        heaviest = np.argsort(-error, kind="stable")[: min(len(free), int((error > TINY * counts).sum()))]
        free = free[: len(heaviest)]
        spread = np.sqrt(error[heaviest] / share[heaviest] / means.shape[1])
        rng = np.random.default_rng([seed, self.done.levels, taken])
        away = STEP * spread[:, None] * rng.standard_normal((len(heaviest), means.shape[1]))
        split = np.concatenate((means, np.zeros((max(int(free.max(initial=-1)) + 1 - count, 0), means.shape[1]))))
        split[free] = means[heaviest] + away
        split[heaviest] -= away
        return Draft(self.done, split.astype(np.float32), taken)


def fit_codebook(vectors: Floats, config: CodebookConfig, *, seed: int = 0) -> Codebook:
    """Fit a codebook to vectors ``float32[n, d]`` that are all in one place.

    Raises
    ------
    SpaceError
        K341 no vectors.
    """
    if vectors.ndim != 2 or not len(vectors):
        raise SpaceError("K341", f"There is no codebook for vectors of shape {vectors.shape}.", "Give some vectors.")
    draft = Draft.begin(vectors.shape[1], config)
    for _ in range(config.rounds):
        draft = draft.step(draft.moments(vectors), config, seed=seed)
    return draft.done


def centre_of(vectors: Floats) -> Floats:
    """Return the mean of vectors ``float32[n, d]``, ``float32[d]``; zeros where there are none."""
    centre: Floats = (vectors.sum(axis=0, dtype=np.float64) / max(len(vectors), 1)).astype(np.float32)
    return centre


def nearest_centroid(vectors: Floats, centroids: Floats) -> NDArray[np.int32]:
    """Return the nearest row of ``centroids`` for each vector, ``int32[n]``; of equally near ones the first."""
    lengths = np.einsum("kd,kd->k", centroids, centroids) / 2
    found = np.empty(len(vectors), dtype=np.int32)
    for start in range(0, len(vectors), ROWS):
        some = slice(start, start + ROWS)
        found[some] = np.argmax(vectors[some] @ centroids.T - lengths, axis=1)
    return found


def _origin(dimension: int) -> Floats:
    return np.zeros((1, dimension), dtype=np.float32)
