"""Next-item losses over the catalogue, in chunks of rows that stay in the cache, gradient included.

Logits are never kept: each chunk gives its loss and its share of the gradient at once, so that a catalogue of any size
costs ``chunk × items`` numbers of memory, or ``chunk × negatives × width`` where the catalogue is large.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Loss", "next_item_loss"]

Loss = Literal["full", "sampled", "bce"]

CHUNK_CELLS = {"cpu": 1 << 20, "cuda": 1 << 28}
DENSE_ITEMS = {"cpu": 32, "cuda": 128}
"""Up to so many items per negative all logits are computed and the drawn ones picked: products are quicker than
gathering rows of the table and adding their gradients back. On a CPU as bench/sequence_speed.py measures it."""


def next_item_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    *,
    kind: Loss,
    negatives: int = 128,
    temperature: float = 1.0,
    drawn: Tensor | None = None,
) -> Tensor:
    """Mean loss of predicting each row's next item.

    Parameters
    ----------
    hidden, table
        ``[T, d]`` and ``[items, d]``; logits are their products.
    targets
        ``int64[T]``.
    kind
        ``full``: cross-entropy over the catalogue. ``sampled``: over the target and items drawn uniformly for each row
        (Zhai et al. 2024). ``bce``: binary cross-entropy of the target against 1 and of the drawn items against 0, each
        half weighing the same (Kang and McAuley 2018 with one). A drawn item that is the target does not count.
    negatives
        Items drawn for each row.
    temperature
        Logits are divided by it.
    drawn
        ``int64[T, negatives]``: the drawn items, in place of a draw by torch's generator.
    """
    if kind == "full":
        drawn = None
    elif drawn is None:
        drawn = torch.randint(len(table), (len(hidden), negatives), device=hidden.device)
    loss: Tensor = _NextItem.apply(hidden, table, targets, drawn, kind, temperature)  # type: ignore[no-untyped-call]
    return loss


class _NextItem(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, drawn: Tensor | None, kind: Loss, temperature: float
    ) -> Tensor:
        rows = max(len(hidden), 1)
        dense = drawn is None or len(table) <= DENSE_ITEMS[hidden.device.type] * drawn.shape[1]
        width = len(table) if dense or drawn is None else (drawn.shape[1] + 1) * table.shape[1]
        chunk = max(1, CHUNK_CELLS[hidden.device.type] // width)
        to_hidden = torch.empty_like(hidden)
        to_table = torch.zeros_like(table, dtype=torch.float32)
        total = torch.zeros((), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk):
                some = slice(start, start + chunk)
                shown = None if drawn is None else torch.cat((targets[some, None], drawn[some]), 1)
                if dense:
                    logits = (hidden[some] @ table.T).float().div_(temperature)
                    picked = logits if shown is None else logits.gather(1, shown)
                else:
                    assert shown is not None
                    seen = table.index_select(0, shown.view(-1)).view(*shown.shape, -1)
                    picked = torch.bmm(seen, hidden[some, :, None]).squeeze(2).float().div_(temperature)
                loss, gradient = _loss(picked, targets[some], shown, kind)
                total += loss
                gradient.div_(temperature * rows)
                if dense:
                    spread = gradient if shown is None else torch.zeros_like(logits).scatter_add_(1, shown, gradient)
                    spread = spread.to(table.dtype)
                    to_hidden[some] = spread @ table
                    to_table += spread.T @ hidden[some]
                else:
                    assert shown is not None
                    spread = gradient.to(table.dtype)
                    to_hidden[some] = torch.bmm(spread[:, None], seen).squeeze(1)
                    back = spread[:, :, None] * hidden[some, None, :]
                    to_table.index_add_(0, shown.view(-1), back.view(-1, table.shape[1]).float())
        ctx.save_for_backward(to_hidden, to_table.to(table.dtype))
        return total / rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_table = ctx.saved_tensors
        given = gradients[0]
        return to_hidden * given.to(to_hidden.dtype), to_table * given.to(to_table.dtype), None, None, None, None


def _loss(picked: Tensor, targets: Tensor, shown: Tensor | None, kind: Loss) -> tuple[Tensor, Tensor]:
    """Loss summed over rows, and its gradient by the logits ``[rows, shown]`` (the target first, or all items)."""
    if shown is None:
        own = targets[:, None]
        chosen = picked.gather(1, own)
    else:
        picked[:, 1:].masked_fill_(shown[:, 1:] == shown[:, :1], float("-inf"))
        own, chosen = torch.zeros_like(targets)[:, None], picked[:, :1]
    if kind == "bce":
        count = torch.isfinite(picked[:, 1:]).sum(1, keepdim=True).clamp_(min=1)
        losses = -torch.nn.functional.logsigmoid(chosen).sum()
        losses += (torch.nn.functional.softplus(picked[:, 1:]) / count).sum()
        gradient = torch.sigmoid(picked)
        gradient[:, 1:] /= count
        gradient[:, :1] -= 1
        return losses, gradient
    level = torch.logsumexp(picked, 1, keepdim=True)
    losses = (level - chosen).sum()
    gradient = picked.sub_(level).exp_()
    return losses, gradient.scatter_add_(1, own, torch.full_like(level, -1.0))
