"""How good semantic ids are: how often items collide, how evenly words are used, how well neighbours keep together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.space.codebook import Codebook
from koinon.space.neighbours import nearest

__all__ = ["CodeQuality", "code_quality"]


@dataclass(frozen=True)
class CodeQuality:
    """What a codebook makes of one catalogue.

    Attributes
    ----------
    items
        In the catalogue.
    collisions
        Share of items, 0 to 1, whose words another item has too; ``same_text``: of items whose very vector another has,
        which no codebook could tell apart.
    perplexity
        For each level ``exp(-Σ p log p)`` of how often its words are used: so many words, used evenly, tell as much.
    error
        For each number of first words, mean squared distance between vectors and what these words say.
    together
        For each number of first words: of an item's k nearest in the space, the share that has the same.
    at_random
        The same for k items at random: ``together`` must be held against it.
    kept
        Of an item's k nearest in the space, the share that is among its k nearest by words alone.
    """

    items: int
    collisions: float
    same_text: float
    perplexity: tuple[float, ...]
    error: tuple[float, ...]
    together: tuple[float, ...]
    at_random: tuple[float, ...]
    kept: float


def code_quality(vectors: NDArray[np.float32], codebook: Codebook, k: int = 10) -> CodeQuality:
    """Measure a codebook on a catalogue's vectors, ``float32[items, d]`` of L2 norm 1, at least two.

    Raises
    ------
    SpaceError
        K340, K341 the vectors do not fit.
    """
    words = codebook.encode(vectors)
    near, _ = nearest(vectors, k, index="exact")
    levels = range(1, codebook.levels + 1)
    groups = [np.unique(words[:, :first], axis=0, return_inverse=True)[1].ravel() for first in levels]
    told = [codebook.decode(words[:, :first]) for first in levels]
    lengths = np.maximum(np.linalg.norm(told[-1], axis=1, keepdims=True), np.float32(1e-9))
    by_words, _ = nearest(told[-1] / lengths, k, index="exact")
    kept = [len(set(one) & set(other)) for one, other in zip(near.tolist(), by_words.tolist(), strict=True)]
    return CodeQuality(
        items=len(vectors),
        collisions=_shared(groups[-1]),
        same_text=_shared(np.unique(vectors, axis=0, return_inverse=True)[1].ravel()),
        perplexity=tuple(_perplexity(column) for column in words.T),
        error=tuple(float(((vectors - places) ** 2).sum(axis=1).mean()) for places in told),
        together=tuple(float((group[near] == group[:, None]).mean()) for group in groups),
        at_random=tuple(_at_random(group) for group in groups),
        kept=float(np.mean(kept)) / near.shape[1],
    )


def _shared(group: NDArray[np.intp]) -> float:
    """Share of rows that are not alone in their group."""
    return float((np.bincount(group)[group] > 1).mean())


def _perplexity(column: NDArray[np.int32]) -> float:
    share = np.bincount(column) / len(column)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _at_random(group: NDArray[np.intp]) -> float:
    return float((np.bincount(group)[group] - 1).mean() / (len(group) - 1))
