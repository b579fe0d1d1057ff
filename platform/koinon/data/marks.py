"""What an event tells beside who, what, when: its kind (view, purchase …), its weight (stars, plays), its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["PSEUDO", "Context", "Marks"]

PSEUDO = "pseudo"
"""Kind of what never happened: such a row counts in no split and in no click data, wherever it came from."""


@dataclass(frozen=True)
class Context:
    """One circumstance of events, such as the device or the place.

    Attributes
    ----------
    code
        ``int32[n]``, index into ``values``; -1 where it is not known.
    values
        What it may be, in any order.
    """

    code: NDArray[np.int32]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Marks:
    """Kinds, weights and contexts of events, beside their other columns.

    Attributes
    ----------
    kind
        ``int16[n]``, index into ``kinds``; -1 where it is not known.
    weight
        ``float32[n]``; nan where it is not known.
    kinds
        Names of kinds, in any order.
    context
        By name; empty where the source declares none.
    """

    kind: NDArray[np.int16]
    weight: NDArray[np.float32]
    kinds: tuple[str, ...]
    context: Mapping[str, Context] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def of(
        cls,
        kinds: Sequence[str | None],
        weights: Sequence[float | None],
        context: Mapping[str, Sequence[str | None]] | None = None,
    ) -> Self:
        """From one kind, one weight and one value of each context per event; ``None`` where it is not known."""
        names, kind = _coded(kinds)
        weight = np.array([np.nan if weight is None else weight for weight in weights], dtype=np.float32)
        circumstances = {}
        for name, told in (context or {}).items():
            values, code = _coded(told)
            circumstances[name] = Context(code, values)
        return cls(kind.astype(np.int16), weight, names, circumstances)

    def take(self, keep: slice | NDArray[np.bool_] | NDArray[np.integer]) -> Marks:
        """Return those of the events selected by a slice, a mask or positions."""
        context = {name: Context(told.code[keep], told.values) for name, told in self.context.items()}
        return Marks(self.kind[keep], self.weight[keep], self.kinds, context)

    def and_unknown(self, count: int) -> Marks:
        """Return these, followed by events of which nothing is known."""
        kind = np.concatenate((self.kind, np.full(count, -1, dtype=np.int16)))
        weight = np.concatenate((self.weight, np.full(count, np.nan, dtype=np.float32)))
        blank = np.full(count, -1, dtype=np.int32)
        context = {
            name: Context(np.concatenate((told.code, blank)), told.values) for name, told in self.context.items()
        }
        return Marks(kind, weight, self.kinds, context)


def _coded(told: Sequence[str | None]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """What occurs, in alphabetical order, and each one's place in it; -1 for ``None``."""
    values = tuple(sorted({value for value in told if value is not None}))
    place = {value: row for row, value in enumerate(values)}
    return values, np.array([-1 if value is None else place[value] for value in told], dtype=np.int32)
