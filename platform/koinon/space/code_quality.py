"""How good semantic ids are: collisions, how evenly words are used, how neighbours keep, what catalogues share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.space.codebook import Codebook
from koinon.space.neighbours import nearest

__all__ = ["CodeAgreement", "CodeQuality", "code_agreement", "code_quality"]


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


@dataclass(frozen=True)
class CodeAgreement:
    """Whether words mean the same in two catalogues.

    Attributes
    ----------
    works
        Pairs of rows that are one work.
    same
        For each number of first words, the share of these pairs that agree in them; nan where there is no such pair.
    near
        The same for each item of the first catalogue and its nearest in the second.
    at_random
        The same for an item of each drawn at random.
    """

    works: int
    same: tuple[float, ...]
    near: tuple[float, ...]
    at_random: tuple[float, ...]


def code_agreement(
    vectors: NDArray[np.float32],
    words: NDArray[np.int32],
    others: NDArray[np.float32],
    other_words: NDArray[np.int32],
    works: NDArray[np.integer],
) -> CodeAgreement:
    """Hold two catalogues' words against each other.

    Parameters
    ----------
    vectors, others
        ``float32[n, d]`` and ``float32[m, d]`` of L2 norm 1, of one space.
    words, other_words
        ``int32[n, levels]`` and ``int32[m, levels]``.
    works
        ``int[pairs, 2]``: rows of the first and of the second catalogue that are one work.
    """
    near, _ = nearest(vectors, 1, others, index="exact")
    same, close, chance = [], [], []
    for first in range(1, words.shape[1] + 1):
        joined = np.concatenate((words[:, :first], other_words[:, :first]))
        group = np.unique(joined, axis=0, return_inverse=True)[1].ravel()
        one, other = group[: len(words)], group[len(words) :]
        same.append(float((one[works[:, 0]] == other[works[:, 1]]).mean()) if len(works) else float("nan"))
        close.append(float((one == other[near[:, 0]]).mean()))
        counts = np.bincount(other, minlength=int(group.max()) + 1)
        chance.append(float(counts[one].mean() / len(other)))
    return CodeAgreement(len(works), tuple(same), tuple(close), tuple(chance))


def _shared(group: NDArray[np.intp]) -> float:
    """Share of rows that are not alone in their group."""
    return float((np.bincount(group)[group] > 1).mean())


def _perplexity(column: NDArray[np.int32]) -> float:
    share = np.bincount(column) / len(column)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _at_random(group: NDArray[np.intp]) -> float:
    return float((np.bincount(group)[group] - 1).mean() / (len(group) - 1))
