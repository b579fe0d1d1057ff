"""Marks of events as inputs: a small vocabulary of kinds, weights and contexts, learned from the training events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Interactions, Marks

__all__ = ["STATE", "MarkWords", "Marked"]

Marked = Literal[
    "none", "kind", "weight", "context", "kind+weight", "kind+context", "weight+context", "kind+weight+context"
]

LEVELS = 16
"""So many different weights have a word each; of more, so many quantiles do."""
VALUES = 256
"""Of a context with more values than these the most frequent have a word each, the others none."""
STATE = frozenset({"mark_kinds", "mark_levels", "mark_context"})
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
    context
        For each context of the training events the values that are a word each.
    """

    kinds: tuple[str, ...]
    levels: NDArray[np.float32]
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
        context = {}
        for name, coded in sorted(marks.context.items()) if "context" in told else ():
            counts = np.bincount(coded.code[coded.code >= 0], minlength=len(coded.values))
            frequent = np.argsort(-counts, kind="stable")[:VALUES]
            if values := tuple(coded.values[place] for place in frequent if counts[place]):
                context[name] = values
        words = cls(kinds, levels, context)
        return words if words.size > 1 else None

    @property
    def size(self) -> int:
        """Words, the one that tells nothing among them."""
        return 1 + len(self.kinds) + len(self.levels) + sum(map(len, self.context.values()))

    def read(self, marks: Marks | None, count: int) -> NDArray[np.int64]:
        """Words of events ``int64[count, 2 + contexts]``: kind, weight, contexts by name.

        0 stands for what is unknown or was never seen in training.
        """
        words = np.zeros((count, 2 + len(self.context)), dtype=np.int64)
        if marks is None:
            return words
        words[:, 0] = _looked_up(marks.kind, marks.kinds, self.kinds, first=1)
        if len(self.levels):
            known = np.isfinite(marks.weight)
            between = (self.levels[1:] + self.levels[:-1]) / 2
            words[known, 1] = 1 + len(self.kinds) + np.searchsorted(between, marks.weight[known])
        first = 1 + len(self.kinds) + len(self.levels)
        for column, (name, values) in enumerate(self.context.items(), start=2):
            if name in marks.context:
                told = marks.context[name]
                words[:, column] = _looked_up(told.code, told.values, values, first=first)
            first += len(values)
        return words

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return it as named arrays."""
        kinds, context = (
            np.frombuffer(json.dumps(told).encode(), dtype=np.uint8) for told in (self.kinds, self.context)
        )
        return {"mark_kinds": kinds, "mark_levels": self.levels, "mark_context": context}

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[np.generic]]) -> Self | None:
        """Take back what :meth:`state` gave; ``None`` where the state has none."""
        if "mark_kinds" not in state:
            return None
        kinds, context = (
            json.loads(np.asarray(state[name], dtype=np.uint8).tobytes()) if name in state else {}
            for name in ("mark_kinds", "mark_context")
        )
        levels = np.asarray(state["mark_levels"], dtype=np.float32)
        return cls(tuple(kinds), levels, {name: tuple(values) for name, values in context.items()})


def _looked_up(
    code: NDArray[np.integer[Any]], values: Sequence[str], words: Sequence[str], *, first: int
) -> NDArray[np.int64]:
    """Words of coded values, the first of them ``first``; 0 for those that have none and for the code -1."""
    place = {word: first + row for row, word in enumerate(words)}
    found: NDArray[np.int64] = np.array([*(place.get(value, 0) for value in values), 0], dtype=np.int64)[code]
    return found
