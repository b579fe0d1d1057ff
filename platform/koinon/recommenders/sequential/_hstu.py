"""HSTU's network (Zhai et al. 2024): pointwise aggregated attention with gates, and a bias by position and time gap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from koinon.recommenders.sequential._config import HSTUConfig
from koinon.recommenders.sequential.attention import attend
from koinon.recommenders.sequential.histories import Batch
from koinon.recommenders.sequential.items import ItemEncoder
from koinon.recommenders.sequential.jagged import GAP_BUCKETS, Layout, gap_buckets
from koinon.recommenders.sequential.network import SequenceNetwork

__all__ = ["HSTUNetwork", "Past"]


@dataclass(frozen=True)
class Past:
    """What later rows look at, of one block.

    Attributes
    ----------
    keys, values
        ``[b, n, heads, d_qk]`` and ``[b, n, heads, d_v]``.
    """

    keys: Tensor
    values: Tensor


class HSTUNetwork(SequenceNetwork):
    """Blocks ``Y = X + W₂(LN(A·V) ⊙ U)``, ``A = silu(Q·Kᵀ + rab) / n`` (equations 1-3); each block has its own bias."""

    def __init__(self, config: HSTUConfig, items: ItemEncoder, *, timed: bool) -> None:
        super().__init__(config, items, timed=timed)
        self.settings = config
        self.blocks = nn.ModuleList(_Block(config, timed=timed and config.time_bias) for _ in range(config.blocks))
        self.rank = nn.Linear(config.width, 1) if config.ranking_negatives else None
        for block in self.each():
            block.enter, block.leave = self.fused(block.enter), self.fused(block.leave)  # type: ignore[method-assign]

    def each(self) -> list[_Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, _Block)]

    @property
    def own_clock(self) -> bool:
        """Whether a row's time is its own event's, whatever comes next."""
        return self.settings.clock == "event"

    def forward(self, batch: Batch) -> Tensor:
        """``[T, width]``."""
        return self.finish(self.read(batch)[0])

    def read(self, batch: Batch) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What leaves the last block, ``[T, width]``, and every block's keys and values ``[T, heads, …]``."""
        rows = self.embed(batch.items, batch.layout.positions, batch.gaps, batch.marks)
        pasts = []
        for block in self.each():
            rows, keys, values = block(rows, batch.layout)
            pasts.append((keys, values))
        return rows, pasts

    def after(
        self,
        items: Tensor,
        lengths: Tensor,
        clocks: Tensor | None,
        times: Tensor | None,
        pasts: list[Past],
        gaps: Tensor | None,
        own: Tensor | None = None,
        marks: Tensor | None = None,
    ) -> tuple[Tensor, list[Past]]:
        """Rows placed right after histories: each looks at its history and at itself, at no other new row.

        Parameters
        ----------
        items
            ``int64[b, c]``: c new rows for each of b histories.
        lengths
            ``int64[b, c]`` or ``[b, 1]``: rows of the history that count for each new row, the first of ``pasts``.
        clocks, own
            ``int64[b, c]`` or ``[b, 1]`` seconds: when the new rows are asked, and when they happen themselves (the
            same if not given); ``None`` without times.
        times
            ``int64[b, n]``: when the histories' events happened.
        pasts
            One for each block.
        gaps
            ``int64[b, c]`` or ``[b, 1]`` seconds since the event before.
        marks
            ``int64[b, c, 2]``: words of the new rows' marks; a candidate has none.

        Returns
        -------
        ``[b, c, width]`` and, for each block, the new rows' own keys and values.
        """
        sequences, count = items.shape
        positions = lengths.expand(sequences, count)
        spread = None if gaps is None else gaps.expand(sequences, count).reshape(-1)
        told = None if marks is None else marks.flatten(0, 1)
        rows = self.embed(items.reshape(-1), positions.reshape(-1), spread, told)
        reach = pasts[0].keys.shape[1]
        away = lengths[:, :, None] - torch.arange(reach, device=items.device)
        hidden = away <= 0
        buckets = own_buckets = None
        if clocks is not None and times is not None:
            buckets = gap_buckets(clocks[:, :, None] - times[:, None, :])
            own_buckets = gap_buckets(clocks - (clocks if own is None else own))
        made = []
        for block, past in zip(self.each(), pasts, strict=True):
            rows, new = block.after(rows, (sequences, count), past, away.clamp(min=0), hidden, buckets, own_buckets)
            made.append(new)
        return rows.view(sequences, count, -1), made

    def rank_after(
        self, items: Tensor, lengths: Tensor, clocks: Tensor | None, times: Tensor | None, pasts: list[Past],
        gaps: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """``[b, c]``: logits of the target-aware head, candidates placed after histories (arguments: :meth:`after`)."""
        assert self.rank is not None
        rows, _ = self.after(items, lengths, clocks, times, pasts, gaps)
        logits: Tensor = self.rank(rows.float()).squeeze(-1)
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """Next-item loss, and the target-aware head's beside it if there is one."""
        rows, pasts = self.read(batch)
        loss = self.next_item_loss(self.finish(rows), batch)
        if self.rank is not None and batch.layout.rows:
            loss = loss + self.settings.ranking_weight * self._ranking_loss(batch, pasts)
        return loss

    def _ranking_loss(self, batch: Batch, pasts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Cross-entropy of the next item against drawn ones, each placed after a beginning of the history.

        A few places in every sequence are drawn; the keys and values of the history up to there are those of the pass
        over the whole sequence, since no row depends on later ones.
        """
        assert batch.targets is not None
        config, device = self.settings, batch.items.device
        total, count = torch.zeros((), device=device), 0
        for block in batch.layout.blocks:
            shape = (block.sequences, config.ranking_places)
            cut = (torch.rand(shape, device=device) * block.lengths[:, None]).long()
            row = block.starts[:, None] + cut
            target = batch.targets[row][..., None]
            drawn = torch.randint(self.items.count, (*shape, config.ranking_negatives), device=device)
            times = clocks = gaps = None
            if batch.times is not None and batch.asked is not None:
                times, clocks = block.stack(batch.times), batch.asked[row]
                gaps, clocks = self._each_candidate(clocks - batch.times[row]), self._each_candidate(clocks)
            known = [Past(block.stack(keys), block.stack(values)) for keys, values in pasts]
            candidates = torch.cat((target, drawn), 2)
            lengths = self._each_candidate(cut + 1)
            logits = self.rank_after(candidates.flatten(1), lengths, clocks, times, known, gaps).view(candidates.shape)
            repeated = torch.cat((torch.zeros_like(target, dtype=torch.bool), drawn == target), 2)
            logits = logits.masked_fill(repeated, float("-inf"))
            total = total - nn.functional.log_softmax(logits, 2)[..., 0].sum()
            count += cut.numel()
        return total / count

    def _each_candidate(self, places: Tensor) -> Tensor:
        """``[b, places] → [b, places * (1 + ranking_negatives)]``."""
        return places.repeat_interleave(1 + self.settings.ranking_negatives, 1)


class _Block(nn.Module):
    def __init__(self, config: HSTUConfig, *, timed: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.qk = config.qk_width or config.width // config.heads
        self.v = config.v_width or config.width // config.heads
        self.scale = 1.0 / config.length
        self.width = config.width
        self.project = nn.Linear(config.width, 2 * self.heads * (self.qk + self.v), bias=False)
        self.join = nn.Linear(self.heads * self.v, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.position_bias = nn.Parameter(torch.empty(config.length + 1).normal_(std=0.02))
        self.time_bias = nn.Parameter(torch.empty(GAP_BUCKETS).normal_(std=0.02)) if timed else None
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.xavier_uniform_(self.join.weight)
        nn.init.zeros_(self.join.bias)

    def nothing(self) -> tuple[Tensor, Tensor]:
        """Keys and values of no rows."""
        like = self.project.weight
        return like.new_empty((0, self.heads, self.qk)), like.new_empty((0, self.heads, self.v))

    def enter(self, rows: Tensor) -> Tensor:
        """``U, V, Q, K`` side by side."""
        return nn.functional.silu(self.project(nn.functional.layer_norm(rows, (self.width,), eps=1e-6)))

    def leave(self, rows: Tensor, gates: Tensor, attended: Tensor) -> Tensor:
        """``X + W₂(LN(A·V) ⊙ U)``."""
        normed = nn.functional.layer_norm(attended, attended.shape[-1:], eps=1e-6)
        changed: Tensor = rows + self.join(self.dropout(normed * gates))
        return changed

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gates ``[T, heads * v]``; values, queries and keys ``[T, heads, …]``."""
        h, qk, v = self.heads, self.qk, self.v
        gates, values, queries, keys = torch.split(projected, [h * v, h * v, h * qk, h * qk], 1)
        rows = len(projected)
        return gates, values.view(rows, h, v), queries.view(rows, h, qk), keys.view(rows, h, qk)

    def forward(self, rows: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """``[T, width] → [T, width]``, and the rows' keys and values."""
        gates, values, queries, keys = self.split(self.enter(rows))
        attended = attend(
            queries, keys, values, layout, weighting="pointwise", scale=self.scale,
            position_bias=self.position_bias, time_bias=self.time_bias,
        )  # fmt: skip
        return self.leave(rows, gates, attended.flatten(1)), keys, values

    def after(
        self,
        rows: Tensor,
        shape: tuple[int, int],
        past: Past,
        away: Tensor,
        hidden: Tensor,
        buckets: Tensor | None,
        own_buckets: Tensor | None,
    ) -> tuple[Tensor, Past]:
        """New rows ``[b * c, width]`` over their histories and themselves."""
        gates, values, queries, keys = self.split(self.enter(rows))
        values, queries, keys = (part.view(*shape, *part.shape[1:]) for part in (values, queries, keys))
        scores = torch.einsum("bchd,bnhd->bhcn", queries, past.keys.to(queries.dtype)).float()
        scores = scores + self.position_bias[away][:, None]
        itself = (queries * keys).sum(-1).float() + self.position_bias[0]
        if self.time_bias is not None and buckets is not None and own_buckets is not None:
            scores = scores + nn.functional.embedding(buckets, self.time_bias[:, None]).squeeze(-1)[:, None]
            itself = itself + nn.functional.embedding(own_buckets, self.time_bias[:, None])
        weights = (nn.functional.silu(scores) * self.scale).masked_fill(hidden[:, None], 0.0)
        attended = torch.einsum("bhcn,bnhd->bchd", weights.to(values.dtype), past.values.to(values.dtype))
        attended = attended + (nn.functional.silu(itself) * self.scale).to(values.dtype)[..., None] * values
        return self.leave(rows, gates, attended.reshape(len(rows), -1)), Past(keys, values)
