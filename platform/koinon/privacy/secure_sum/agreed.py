"""What a federation's two halves agree on without a word: how a policy's tensors become words, and under which rules.

A word has 64 bits and a total may reach ``2^34`` in any value: that holds the clipped statistics of a billion people,
and sixteen parties' sum is off by at most 6.2·10⁻⁵. Smaller words would need bounds that no policy states.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from koinon.privacy.secure_sum.rules import LEAST_CONTRIBUTORS, Rules
from koinon.privacy.secure_sum.words import Part, WordLayout

__all__ = ["BITS", "TOTAL", "layout", "rules"]

BITS = 64
TOTAL = float(2**34)
"""Bound on the absolute value of any element of a total."""


class Declared(Protocol):
    """A tensor as a policy declares it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...


def layout(tensors: Iterable[Declared], parties: int) -> WordLayout:
    """Return where the declared tensors of a sum of at most ``parties`` lie in its words."""
    return WordLayout([Part(t.name, tuple(t.shape), t.dtype, TOTAL) for t in tensors], max(parties, 1), BITS)


def rules(minimum_participants: int) -> Rules:
    """Return the rules of a federation's sums: its own minimum, and never fewer than three."""
    return Rules(minimum=max(minimum_participants, LEAST_CONTRIBUTORS))
