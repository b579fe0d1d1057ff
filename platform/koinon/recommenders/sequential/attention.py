"""Causal attention over jagged batches, tile by tile, with the gradient worked out by hand.

Weights are either pointwise, ``silu(q·k + bias) / n`` with constant n (HSTU; Zhai et al. 2024, equation 2), or a
softmax of ``(q·k) / √d + bias`` over the row's past (SASRec). The bias depends on the distance in positions and on the
bucket of the time gap, and is the same for all heads. No tile is kept: the backward pass computes it again, so that
memory grows with the rows, and not with their squares.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from koinon.recommenders.sequential.jagged import Layout

__all__ = ["Weighting", "attend"]

Weighting = Literal["pointwise", "softmax"]


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    layout: Layout,
    *,
    weighting: Weighting,
    scale: float,
    position_bias: Tensor | None = None,
    time_bias: Tensor | None = None,
) -> Tensor:
    """Let every row look at its own sequence up to itself.

    Parameters
    ----------
    queries, keys, values
        ``[T, heads, d_qk]``, ``[T, heads, d_qk]``, ``[T, heads, d_v]``.
    layout
        Which rows make up a sequence; has times where ``time_bias`` is given.
    weighting, scale
        ``pointwise``: ``silu(q·k + bias) * scale``; ``softmax``: ``softmax(q·k * scale + bias)``.
    position_bias
        ``[distances]``, by how many rows the key lies before the query.
    time_bias
        ``[GAP_BUCKETS]``, by the bucket of query's clock minus key's time.

    Returns
    -------
    ``[T, heads, d_v]``
    """
    biases = position_bias, time_bias
    attended: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        queries, keys, values, *biases, layout, weighting, scale
    )
    return attended


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        position_bias: Tensor | None,
        time_bias: Tensor | None,
        layout: Layout,
        weighting: Weighting,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, values, position_bias, time_bias)
        ctx.layout, ctx.weighting, ctx.scale = layout, weighting, scale
        result = values.new_empty(values.shape)
        with torch.autocast(values.device.type, enabled=False):
            for number, block in enumerate(layout.blocks):
                q, k, v = (_by_head(block.stack(rows)) for rows in (queries, keys, values))
                parts = []
                for first, stop in layout.tiles(block):
                    scores = _scores(q, k, position_bias, time_bias, layout, number, first, stop, weighting, scale)
                    if weighting == "softmax":
                        weights = torch.softmax(_causal(scores, first), -1)
                    else:
                        weights = (scores * torch.sigmoid(scores)).mul_(scale).tril_(first)
                    parts.append(torch.bmm(_flat(weights).to(v.dtype), v[:, :stop]))
                block.unstack(_by_row(torch.cat(parts, 1), values.shape[1]), result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, position_bias, time_bias = ctx.saved_tensors
        layout, weighting, scale = ctx.layout, ctx.weighting, ctx.scale
        heads = values.shape[1]
        to_q, to_k, to_v = (rows.new_empty(rows.shape) for rows in (queries, keys, values))
        to_position = None if position_bias is None else torch.zeros_like(position_bias, dtype=torch.float32)
        to_time = None if time_bias is None else torch.zeros_like(time_bias, dtype=torch.float32)
        for number, block in enumerate(layout.blocks):
            q, k, v = (_by_head(block.stack(rows)) for rows in (queries, keys, values))
            given = _by_head(block.stack(gradients[0].to(values.dtype), zero=True))
            dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for first, stop in layout.tiles(block):
                scores = _scores(q, k, position_bias, time_bias, layout, number, first, stop, weighting, scale)
                arriving = torch.bmm(given[:, first:stop], v[:, :stop].transpose(1, 2)).float().view(scores.shape)
                if weighting == "softmax":
                    weights = torch.softmax(_causal(scores, first), -1)
                    leaving = arriving.sub_((arriving * weights).sum(-1, keepdim=True)).mul_(weights)
                else:
                    gate = torch.sigmoid(scores)
                    weights = (scores * gate).mul_(scale).tril_(first)
                    # d silu(s)/ds = σ(s) + s·σ(s)·(1 − σ(s))
                    slope = torch.addcmul(gate, scores.mul_(gate), 1 - gate)
                    leaving = arriving.mul_(slope).mul_(scale).tril_(first)
                if to_position is not None:
                    _add_by_distance(to_position, leaving, first)
                if to_time is not None:
                    _add_by_gap(to_time, leaving, layout.buckets(number, first, stop))
                if weighting == "softmax":
                    leaving = leaving * scale
                flat, weights = _flat(leaving).to(q.dtype), _flat(weights).to(v.dtype)
                dv[:, :stop] += torch.bmm(weights.transpose(1, 2), given[:, first:stop])
                dq[:, first:stop] = torch.bmm(flat, k[:, :stop])
                dk[:, :stop] += torch.bmm(flat.transpose(1, 2), q[:, first:stop])
            for cells, into in ((dq, to_q), (dk, to_k), (dv, to_v)):
                block.unstack(_by_row(cells, heads), into)
        return to_q, to_k, to_v, to_position, to_time, None, None, None


def _scores(
    q: Tensor,
    k: Tensor,
    position_bias: Tensor | None,
    time_bias: Tensor | None,
    layout: Layout,
    number: int,
    first: int,
    stop: int,
    weighting: Weighting,
    scale: float,
) -> Tensor:
    """``float32[b, heads, stop - first, stop]``: a tile's scores, bias included, not yet masked."""
    sequences = layout.blocks[number].sequences
    scores = torch.bmm(q[:, first:stop], k[:, :stop].transpose(1, 2)).float()
    scores = scores.view(sequences, len(q) // sequences, stop - first, stop)
    if weighting == "softmax":
        scores.mul_(scale)
    if position_bias is not None:
        scores += _distances(position_bias, first, stop)
    if time_bias is not None:
        buckets = layout.buckets(number, first, stop)
        scores += time_bias.float().index_select(0, buckets.view(-1)).view(sequences, 1, stop - first, stop)
    return scores


def _distances(position_bias: Tensor, first: int, stop: int) -> Tensor:
    """``float32[stop - first, stop]``: ``position_bias[row - key]``; 0 where the key is later."""
    row = torch.arange(first, stop, device=position_bias.device)[:, None]
    away = row - torch.arange(stop, device=position_bias.device)
    return position_bias.float()[away.clamp(min=0)].tril(first)


def _add_by_distance(total: Tensor, gradient: Tensor, first: int) -> None:
    """Add a tile's gradient ``[b, heads, rows, keys]`` (zero where the key is later) up by distance."""
    summed = gradient.sum((0, 1))
    rows, keys = summed.shape
    row = torch.arange(first, first + rows, device=total.device)[:, None]
    away = (row - torch.arange(keys, device=total.device)).clamp_(min=0)
    total += torch.bincount(away.view(-1), summed.view(-1), len(total))


def _add_by_gap(total: Tensor, gradient: Tensor, buckets: Tensor) -> None:
    """Add a tile's gradient ``[b, heads, rows, keys]`` up by the bucket of the gap."""
    summed = gradient[:, 0] if gradient.shape[1] == 1 else gradient.sum(1)
    total += torch.bincount(buckets.reshape(-1), summed.reshape(-1), len(total))


def _causal(scores: Tensor, first: int) -> Tensor:
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(first + 1)
    return scores.masked_fill_(later, float("-inf"))


def _by_head(cells: Tensor) -> Tensor:
    """``[b, L, heads, d] → [b * heads, L, d]``."""
    sequences, longest, heads, width = cells.shape
    return cells.transpose(1, 2).reshape(sequences * heads, longest, width)


def _by_row(cells: Tensor, heads: int) -> Tensor:
    """``[b * heads, L, d] → [b, L, heads, d]``."""
    return cells.view(-1, heads, *cells.shape[1:]).transpose(1, 2)


def _flat(cells: Tensor) -> Tensor:
    return cells.reshape(-1, *cells.shape[2:])
