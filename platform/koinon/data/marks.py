"""What an event tells beside who, what and when: its kind (view, purchase, rating …) and its weight (stars, plays)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["PSEUDO", "Marks"]

PSEUDO = "pseudo"
"""Kind of what never happened: such a row counts in no split and in no click data, wherever it came from."""


@dataclass(frozen=True)
class Marks:
    """Kinds and weights of events, beside their other columns.

    Attributes
    ----------
    kind
        ``int16[n]``, index into ``kinds``; -1 where it is not known.
    weight
        ``float32[n]``; nan where it is not known.
    kinds
        Names of kinds, in any order.
    """

    kind: NDArray[np.int16]
    weight: NDArray[np.float32]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kind)

    @classmethod
    def of(cls, kinds: Sequence[str | None], weights: Sequence[float | None]) -> Self:
        """From one kind and one weight per event; ``None`` where it is not known."""
        names = tuple(sorted({kind for kind in kinds if kind is not None}))
        kind = np.array([-1 if kind is None else names.index(kind) for kind in kinds], dtype=np.int16)
        weight = np.array([np.nan if weight is None else weight for weight in weights], dtype=np.float32)
        return cls(kind, weight, names)

    def take(self, keep: slice | NDArray[np.bool_] | NDArray[np.integer]) -> Marks:
        """Return those of the events selected by a slice, a mask or positions."""
        return Marks(self.kind[keep], self.weight[keep], self.kinds)

    def and_unknown(self, count: int) -> Marks:
        """Return these, followed by events of which neither kind nor weight is known."""
        kind = np.concatenate((self.kind, np.full(count, -1, dtype=np.int16)))
        return Marks(kind, np.concatenate((self.weight, np.full(count, np.nan, dtype=np.float32))), self.kinds)
