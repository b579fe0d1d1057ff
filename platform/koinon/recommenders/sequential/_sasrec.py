"""SASRec's network (Kang and McAuley 2018): causal softmax attention and a point-wise feed-forward layer."""

from __future__ import annotations

from torch import Tensor, nn

from koinon.recommenders.sequential._config import SASRecConfig
from koinon.recommenders.sequential.attention import attend
from koinon.recommenders.sequential.histories import Batch
from koinon.recommenders.sequential.items import ItemEncoder
from koinon.recommenders.sequential.jagged import Layout
from koinon.recommenders.sequential.network import SequenceNetwork

__all__ = ["SASRecNetwork"]


class SASRecNetwork(SequenceNetwork):
    """Pre-norm blocks (section III.B-D); dropout after each part, none on the attention weights."""

    def __init__(self, config: SASRecConfig, items: ItemEncoder, *, timed: bool) -> None:
        super().__init__(config, items, timed=timed)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width, eps=1e-8)

    def forward(self, batch: Batch) -> Tensor:
        """``[T, width]``."""
        rows = self.embed(batch.items, batch.layout.positions, batch.gaps, batch.marks)
        for block in self.blocks:
            rows = block(rows, batch.layout)
        return self.finish(self.norm(rows))


class _Block(nn.Module):
    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        width, inner = config.width, config.width * config.feedforward
        self.heads, self.scale = config.heads, (width // config.heads) ** -0.5
        self.before_attention, self.before_layer = nn.LayerNorm(width, eps=1e-8), nn.LayerNorm(width, eps=1e-8)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layer = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(inner, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """``[T, width] → [T, width]``."""
        projected = self.project(self.before_attention(rows)).view(len(rows), 3, self.heads, -1)
        queries, keys, values = projected.unbind(1)
        attended = attend(queries, keys, values, layout, weighting="softmax", scale=self.scale)
        rows = rows + self.dropout(self.join(attended.flatten(1)))
        changed: Tensor = rows + self.dropout(self.layer(self.before_layer(rows)))
        return changed
