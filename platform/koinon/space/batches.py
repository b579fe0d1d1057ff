"""Rows of tokens in batches: those of like length together, so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["by_length", "tokens_at_once"]


def tokens_at_once(device: str) -> int:
    """Padded tokens that a network reads at once without gradients.

    On a CPU so many that the states stay in its caches: short texts are read half as fast again as with eight times as
    many. Other devices want to be kept busy.
    """
    return 512 if device.partition(":")[0] == "cpu" else 16_384


def by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Places of rows of like length, longest first, so many padded tokens together at most (or one row)."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    found, first = [], 0
    while first < len(order):
        size = max(1, tokens // max(lengths[order[first]], 1))
        found.append(order[first : first + size])
        first += size
    return found
