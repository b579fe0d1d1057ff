"""Marks of events as inputs: a small vocabulary of kinds and of weights, learned from the training events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Interactions, Marks

__all__ = ["STATE", "MarkWords", "Marked"]

Marked = Literal["none", "kind", "weight", "kind+weight"]

LEVELS = 16
"""So many different weights have a word each; of more, so many quantiles do."""
STATE = frozenset({"mark_kinds", "mark_levels"})
"""Names under which it is kept."""


@dataclass(frozen=True)
class MarkWords:
    """Which words tell an event's marks; word 0 tells nothing.

    Attributes
    ----------
    kinds
        Of the training events; each is a word.
    levels
        ``float32[≤ 16]`` ascending: weights that are a word each. Any other weight is told by the nearest.
    """

    kinds: tuple[str, ...]
    levels: NDArray[np.float32]

    @classmethod
    def of(cls, events: Interactions, told: Marked) -> Self | None:
        """From training events; ``None`` where nothing is to be told, or they have no marks."""
        marks = events.marks
        if told == "none" or marks is None:
            return None
        kinds = tuple(marks.kinds[kind] for kind in np.unique(marks.kind[marks.kind >= 0])) if "kind" in told else ()
        levels = np.empty(0, dtype=np.float32)
        if "weight" in told:
            known = marks.weight[np.isfinite(marks.weight)]
            levels = np.unique(known)
            if len(levels) > LEVELS:
                levels = np.unique(np.quantile(known, (np.arange(LEVELS) + 0.5) / LEVELS).astype(np.float32))
        return cls(kinds, levels) if len(kinds) + len(levels) else None

    @property
    def size(self) -> int:
        """Words, the one that tells nothing among them."""
        return 1 + len(self.kinds) + len(self.levels)

    def read(self, marks: Marks | None, count: int) -> NDArray[np.int64]:
        """Words of events ``int64[count, 2]``, kind and weight; 0 for what is unknown or was never seen in training."""
        words = np.zeros((count, 2), dtype=np.int64)
        if marks is None:
            return words
        place = {kind: 1 + row for row, kind in enumerate(self.kinds)}
        # the last of them is for the kind -1
        words[:, 0] = np.array([*(place.get(kind, 0) for kind in marks.kinds), 0])[marks.kind]
        if len(self.levels):
            known = np.isfinite(marks.weight)
            between = (self.levels[1:] + self.levels[:-1]) / 2
            words[known, 1] = 1 + len(self.kinds) + np.searchsorted(between, marks.weight[known])
        return words

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return it as named arrays."""
        kinds = np.frombuffer(json.dumps(self.kinds).encode(), dtype=np.uint8)
        return {"mark_kinds": kinds, "mark_levels": self.levels}

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[np.generic]]) -> Self | None:
        """Take back what :meth:`state` gave; ``None`` where the state has none."""
        if "mark_kinds" not in state:
            return None
        kinds = json.loads(np.asarray(state["mark_kinds"], dtype=np.uint8).tobytes())
        return cls(tuple(kinds), np.asarray(state["mark_levels"], dtype=np.float32))
