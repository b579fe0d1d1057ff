"""Jagged batches: sequences of any lengths end to end, and attention over them without work on padding.

Everything that treats events one by one runs on the concatenated rows ``[T, …]``. Attention needs pairs: sequences of
near-equal length are stacked into dense blocks, and a block is worked through in tiles of query rows against the keys
up to them. What comes after a sequence's end in its block is later than all of its rows, so the causal mask hides it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["GAP_BUCKETS", "Block", "Layout", "gap_buckets"]

GAP_BUCKETS = 129
"""Buckets of a time gap: ``⌊ln(max(|seconds|, 1)) / 0.301⌋``, at most 128 (Zhai et al. 2024, public code)."""
WASTE = 0.85
"""Sequences share a block if the shorter has at least this share of the longest's rows."""
TILE_CELLS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Query-key pairs worked on at once: what stays in a core's cache; on a GPU what is worth a kernel."""
TILE_ROWS = {"cpu": 64, "cuda": 1024}
KEPT_CELLS = 1 << 26
"""Time-gap buckets are kept from one layer to the next up to so many; beyond they are computed again."""


@dataclass(frozen=True)
class Block:
    """Sequences of near-equal length, stacked.

    Attributes
    ----------
    rows
        ``int64[b * longest]``: where each cell's event stands among the batch's rows; past a sequence's end its last.
    places, own
        ``int64[n]`` each: the cells that are real, and the rows they come from.
    starts, lengths
        ``int64[b]`` each: first row and number of rows of every sequence.
    sequences, longest
        b and the block's width.
    """

    rows: Tensor
    places: Tensor
    own: Tensor
    starts: Tensor
    lengths: Tensor
    sequences: int
    longest: int

    def stack(self, values: Tensor, *, zero: bool = False) -> Tensor:
        """``[T, …] → [b, longest, …]``; ``zero``: past a sequence's end there are zeros."""
        shape = (self.sequences, self.longest, *values.shape[1:])
        if not zero or len(self.own) == len(self.rows):
            return values.index_select(0, self.rows).view(shape)
        cells = values.new_zeros((self.sequences * self.longest, *values.shape[1:]))
        return cells.index_copy_(0, self.places, values.index_select(0, self.own)).view(shape)

    def unstack(self, cells: Tensor, into: Tensor) -> None:
        """Put ``[b, longest, …]`` back into the rows ``[T, …]`` they came from."""
        flat = cells.reshape(self.sequences * self.longest, *cells.shape[2:])
        into.index_copy_(0, self.own, flat if len(self.own) == len(flat) else flat.index_select(0, self.places))


class Layout:
    """How the rows of a batch make up sequences.

    Parameters
    ----------
    lengths
        Rows of each sequence, in the order in which they follow one another; zeros are allowed.
    times, clocks
        ``int64[T]`` seconds: when each event happened, and the time that each row is asked at; ``None`` without times.
    device
        Where the batch lives.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.integer],
        device: torch.device,
        times: Tensor | None = None,
        clocks: Tensor | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.device = device
        self.starts = np.concatenate(([0], np.cumsum(self.lengths)))
        self._times, self._clocks = times, clocks
        self._buckets: dict[tuple[int, int], Tensor] = {}

    @property
    def rows(self) -> int:
        """T."""
        return int(self.starts[-1])

    @cached_property
    def positions(self) -> Tensor:
        """``int64[T]``: place of each row in its own sequence, from 0."""
        within = np.arange(self.rows) - np.repeat(self.starts[:-1], self.lengths)
        return torch.from_numpy(within).to(self.device)

    @cached_property
    def last(self) -> Tensor:
        """``int64[sequences]``: the last row of each sequence; all must have one."""
        return torch.from_numpy(self.starts[1:] - 1).to(self.device)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The sequences that are not empty, in blocks of near-equal length."""
        order = np.argsort(-self.lengths, kind="stable")
        order = order[self.lengths[order] > 0]
        blocks, first = [], 0
        while first < len(order):
            longest = int(self.lengths[order[first]])
            most = max(1, TILE_CELLS[self.device.type] // (min(longest, TILE_ROWS[self.device.type]) * longest))
            fit = int(np.searchsorted(-self.lengths[order], -WASTE * longest, side="right"))
            chosen = order[first : max(first + 1, min(fit, first + most))]
            blocks.append(self._block(chosen, longest))
            first += len(chosen)
        return tuple(blocks)

    def _block(self, sequences: NDArray[np.integer], longest: int) -> Block:
        steps = np.arange(longest)
        lengths, starts = self.lengths[sequences, None], self.starts[sequences, None]
        rows = (starts + np.minimum(steps, lengths - 1)).ravel()
        places = np.flatnonzero((steps < lengths).ravel())

        def put(array: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(array).to(self.device)

        return Block(
            rows=put(rows),
            places=put(places),
            own=put(rows[places]),
            starts=put(starts[:, 0]),
            lengths=put(lengths[:, 0]),
            sequences=len(sequences),
            longest=longest,
        )

    def tiles(self, block: Block) -> Iterator[tuple[int, int]]:
        """Query rows ``[first, stop)`` of a block worked on together; their keys are ``[0, stop)``."""
        height = TILE_ROWS[self.device.type]
        for first in range(0, block.longest, height):
            yield first, min(first + height, block.longest)

    def buckets(self, number: int, first: int, stop: int) -> Tensor:
        """``int32[b, stop - first, stop]``: bucket of the gap between a tile's rows' clocks and its keys' times."""
        key = (number, first)
        if key not in self._buckets:
            assert self._times is not None
            assert self._clocks is not None
            block = self.blocks[number]
            clocks, times = block.stack(self._clocks)[:, first:stop, None], block.stack(self._times)[:, None, :stop]
            found = gap_buckets(clocks - times)
            if sum(kept.numel() for kept in self._buckets.values()) + found.numel() > KEPT_CELLS:
                return found
            self._buckets[key] = found
        return self._buckets[key]

    @property
    def timed(self) -> bool:
        """Whether there are times."""
        return self._times is not None and self._clocks is not None


def gap_buckets(seconds: Tensor) -> Tensor:
    """Bucket of time gaps in seconds, ``int32``, 0 to 128."""
    return seconds.abs().clamp_(min=1).float().log_().mul_(1 / 0.301).clamp_(max=GAP_BUCKETS - 1).to(torch.int32)
