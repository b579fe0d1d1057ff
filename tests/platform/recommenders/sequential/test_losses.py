"""The chunked losses equal torch's own on whole logits, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from koinon.recommenders.sequential import losses
from koinon.recommenders.sequential.losses import next_item_loss


def drawn(rows=37, items=50, negatives=6):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, 8, generator=generator).requires_grad_()
    table = torch.randn(items, 8, generator=generator).requires_grad_()
    targets = torch.randint(items, (rows,), generator=generator)
    shown = torch.randint(items, (rows, negatives), generator=generator)
    shown[0, 2] = targets[0]  # a false negative
    return hidden, table, targets, shown


def plain(hidden, table, targets, shown, kind, temperature):
    logits = hidden @ table.T / temperature
    if kind == "full":
        return functional.cross_entropy(logits, targets)
    positive = logits.gather(1, targets[:, None])
    false = shown == targets[:, None]
    negative = logits.gather(1, shown).masked_fill(false, -torch.inf)
    if kind == "sampled":
        return (torch.cat((positive, negative), 1).logsumexp(1) - positive[:, 0]).mean()
    count = (~false).sum(1)
    return (-functional.logsigmoid(positive[:, 0]) + functional.softplus(negative).sum(1) / count).mean()


@pytest.mark.parametrize("kind", ["full", "sampled", "bce"])
@pytest.mark.parametrize("dense", [True, False])
def test_loss_and_gradients_equal_the_definition(kind, dense, monkeypatch):
    monkeypatch.setattr(losses, "DENSE_ITEMS", {"cpu": 128 if dense else 0})
    monkeypatch.setitem(losses.CHUNK_CELLS, "cpu", 400)
    hidden, table, targets, shown = drawn()
    found = next_item_loss(hidden, table, targets, kind=kind, temperature=0.7, drawn=shown)
    wanted = plain(hidden, table, targets, shown, kind, 0.7)
    torch.testing.assert_close(found, wanted)
    slopes = torch.autograd.grad(3 * found, (hidden, table))
    for one, other in zip(slopes, torch.autograd.grad(3 * wanted, (hidden, table)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_row_whose_only_drawn_item_is_its_target_learns_nothing_from_it():
    hidden, table = torch.randn(1, 4), torch.randn(3, 4)
    loss = next_item_loss(hidden, table, torch.tensor([2]), kind="sampled", drawn=torch.tensor([[2]]))
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
