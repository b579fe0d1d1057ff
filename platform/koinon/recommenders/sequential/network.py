"""What sequence networks share: items and positions in, blocks, one vector per row out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from koinon.recommenders.sequential._config import SequenceConfig
from koinon.recommenders.sequential.histories import Batch
from koinon.recommenders.sequential.items import ItemEncoder
from koinon.recommenders.sequential.jagged import GAP_BUCKETS, gap_buckets
from koinon.recommenders.sequential.losses import next_item_loss

__all__ = ["SequenceNetwork"]


class SequenceNetwork(nn.Module):
    """Reads sequences of events; each row's vector is held against every item's to say what comes next.

    Parameters
    ----------
    config
        Settings.
    items
        Items' vectors, in and out.
    timed
        Whether events have times.
    """

    def __init__(self, config: SequenceConfig, items: ItemEncoder, *, timed: bool) -> None:
        super().__init__()
        self.config, self.timed = config, timed
        self.items = items
        # one more than the history: a candidate stands after it
        self.positions = nn.Parameter(torch.empty(config.length + 1, config.width))
        nn.init.trunc_normal_(self.positions, std=config.width**-0.5)
        self.gaps = nn.Parameter(torch.zeros(GAP_BUCKETS, config.width)) if config.gaps and timed else None
        self.marks: nn.Parameter | None = None
        self.dropout = nn.Dropout(config.dropout)

    @property
    def own_clock(self) -> bool:
        """Whether a row's time is its own event's, whatever comes next."""
        return True

    def tell_marks(self, words: int) -> None:
        """Tell events' marks by so many words; at first they all say nothing."""
        self.marks = nn.Parameter(torch.zeros(words, self.config.width))

    def embed(self, items: Tensor, positions: Tensor, gaps: Tensor | None, marks: Tensor | None = None) -> Tensor:
        """``[T, width]``: what enters the first block."""
        rows: Tensor = self.items(items) * self.config.width**0.5
        rows = rows + nn.functional.embedding(positions, self.positions)
        if self.gaps is not None and gaps is not None:
            rows = rows + nn.functional.embedding(gap_buckets(gaps), self.gaps)
        if self.marks is not None and marks is not None:
            rows = rows + nn.functional.embedding_bag(marks, self.marks, mode="sum", padding_idx=0)
        entered: Tensor = self.dropout(rows)
        return entered

    def forward(self, batch: Batch) -> Tensor:
        """``[T, width]``: every row's vector, of length 1 if the settings say so."""
        raise NotImplementedError

    def finish(self, rows: Tensor) -> Tensor:
        """Scale vectors to length 1 if the settings say so."""
        return nn.functional.normalize(rows.float(), dim=-1, eps=1e-6) if self.config.unit else rows.float()

    def table(self) -> Tensor:
        """``[items, width]``: what rows are held against."""
        return self.finish(self.items.table())

    def loss(self, batch: Batch) -> Tensor:
        """What training minimises on a batch with targets."""
        return self.next_item_loss(self(batch), batch)

    def next_item_loss(self, rows: Tensor, batch: Batch) -> Tensor:
        """Mean loss of telling every row's next item."""
        assert batch.targets is not None
        config, table = self.config, self.table()
        if config.precision == "bf16":
            rows, table = rows.bfloat16(), table.bfloat16()
        return next_item_loss(
            rows,
            table,
            batch.targets,
            kind=config.loss,
            negatives=config.negatives,
            temperature=config.temperature,
        )

    def fused(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``function`` as it is, or compiled if the settings say so."""
        return torch.compile(function, dynamic=True) if self.config.compile else function
