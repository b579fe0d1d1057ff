"""Semantic ids: every item of a catalogue told by code words of the space, no two items by the same.

Items of the same code words get one more token within the catalogue, 0, 1, 2 … (Rajput et al. 2023, "Recommender
systems with generative retrieval", section 3.1). The words mean the same to everybody who has the codebook; the last
token means something in this catalogue alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SemanticIds", "semantic_ids"]

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class SemanticIds:
    """The semantic ids of a catalogue.

    Attributes
    ----------
    words
        ``int32[items, levels]``.
    last
        ``int32[items]``: tells apart items of the same words; 0 where there is only one.
    """

    words: Ints
    last: Ints

    @property
    def paths(self) -> Ints:
        """``int32[items, levels + 1]``: words and last token, no two rows equal."""
        return np.column_stack((self.words, self.last))


def semantic_ids(words: Ints, *, first: NDArray[np.integer] | None = None, kept: Ints | None = None) -> SemanticIds:
    """Give items of equal words their last tokens.

    Parameters
    ----------
    words
        ``int32[items, levels]``, as :meth:`koinon.space.codebook.Codebook.encode` gives them.
    first
        ``[items]``: among equals the item with the most gets 0; then as listed. ``None``: as listed.
    kept
        ``int32[items]``: last tokens that items have already and keep, -1 for those that have none; a newcomer gets the
        next token above its equals'.
    """
    items = len(words)
    if not items:
        return SemanticIds(words, np.empty(0, dtype=np.int32))
    kept = np.full(items, -1, dtype=np.int32) if kept is None else kept
    weight = np.zeros(items) if first is None else -np.asarray(first, dtype=np.float64)
    group = np.unique(words, axis=0, return_inverse=True)[1].ravel()
    taken = np.full(int(group.max()) + 1, -1, dtype=np.int64)
    np.maximum.at(taken, group, kept)
    new = np.flatnonzero(kept < 0)
    new = new[np.lexsort((new, weight[new], group[new]))]
    starts = np.flatnonzero(np.diff(group[new], prepend=-1))
    within = np.arange(len(new)) - np.repeat(starts, np.diff(np.append(starts, len(new))))
    last = kept.astype(np.int32)
    last[new] = taken[group[new]] + 1 + within
    return SemanticIds(words.astype(np.int32, copy=False), last)
