"""The sequence networks of this project with UniSRec's losses."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from koinon.recommenders.fusion.feature_encoder._config import UniSRecConfig
from koinon.recommenders.sequential import HSTUConfig, SASRecConfig
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential._sasrec import SASRecNetwork
from koinon.recommenders.sequential.histories import Batch
from koinon.recommenders.sequential.items import ItemEncoder
from koinon.recommenders.sequential.jagged import Layout
from koinon.recommenders.sequential.losses import next_item_loss
from koinon.recommenders.sequential.network import SequenceNetwork

__all__ = ["adapted_network", "thinned"]


class _Contrasting(SequenceNetwork):
    """Tells the next item from the catalogue or from the batch, and a sequence from the batch's others."""

    adapted: UniSRecConfig

    def loss(self, batch: Batch) -> Tensor:
        """What training minimises (the paper's equations 8 to 10)."""
        rows = self(batch)
        if self.adapted.negatives_from == "batch":
            assert batch.targets is not None
            shown, own = torch.unique(batch.targets, return_inverse=True)
            table = self.finish(self.items(shown))
            loss = next_item_loss(rows, table, own, kind="full", temperature=self.config.temperature)
        else:
            loss = self.next_item_loss(rows, batch)
        if self.adapted.sequence_weight and len(batch.layout.last) > 1:
            loss = loss + self.adapted.sequence_weight * self._sequence_loss(rows, batch)
        return loss

    def _sequence_loss(self, rows: Tensor, batch: Batch) -> Tensor:
        fewer = thinned(batch, self.adapted.event_drop, own_clock=self.own_clock)
        whole = rows.index_select(0, batch.layout.last)
        again = self(fewer).index_select(0, fewer.layout.last)
        own = torch.arange(len(whole), device=whole.device)
        return nn.functional.cross_entropy(whole @ again.T / self.config.temperature, own)


class _AdaptedSASRec(_Contrasting, SASRecNetwork):
    pass


class _AdaptedHSTU(_Contrasting, HSTUNetwork):
    pass


def adapted_network(config: UniSRecConfig, items: ItemEncoder, *, timed: bool) -> SequenceNetwork:
    """Return an untrained network that reads these items."""
    settings = config.network_settings
    network: _Contrasting
    if isinstance(settings, SASRecConfig):
        network = _AdaptedSASRec(settings, items, timed=timed)
    else:
        assert isinstance(settings, HSTUConfig)
        network = _AdaptedHSTU(settings, items, timed=timed)
    network.adapted = config
    return network


def thinned(batch: Batch, drop: float, *, own_clock: bool) -> Batch:
    """Leave out a share of events at random; a sequence's last event stays.

    ``own_clock`` as for :meth:`koinon.recommenders.sequential.histories.Histories.batch`.
    """
    device = batch.items.device
    keep = torch.rand(len(batch.items), device=device) >= drop
    keep[batch.layout.last] = True
    rows = keep.nonzero().squeeze(1)
    sequence = torch.repeat_interleave(
        torch.arange(len(batch.layout.lengths)), torch.from_numpy(batch.layout.lengths)
    ).to(device)
    lengths = torch.bincount(sequence[rows], minlength=len(batch.layout.lengths)).cpu().numpy()

    def kept(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.index_select(0, rows)

    times, asked = kept(batch.times), kept(batch.asked)
    layout = Layout(lengths, device, times, times if own_clock else asked)
    gaps = None
    if times is not None:
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = sequence[rows][1:] != sequence[rows][:-1]
        gaps = torch.diff(times, prepend=times[:1]).masked_fill(first, 0)
    return replace(
        batch, items=batch.items.index_select(0, rows), layout=layout, times=times, asked=asked, gaps=gaps,
        targets=kept(batch.targets), marks=kept(batch.marks),
    )  # fmt: skip
