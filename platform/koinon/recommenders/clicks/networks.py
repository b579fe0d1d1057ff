"""DeepFM, DCNv2 and AutoInt: one shared embedding layer, a perceptron, and each network's own way to cross fields.

Every network gives a hidden state per row and a logit on top of it; the hidden state is what CTRL aligns with words.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from koinon.recommenders.clicks._config import AutoIntConfig, DCNv2Config, DeepFMConfig, NetworkConfig
from koinon.recommenders.clicks.experts import HybridExperts
from koinon.recommenders.clicks.rows import Side

__all__ = ["AutoIntNetwork", "ClickNetwork", "DCNv2Network", "DeepFMNetwork", "FieldVectors"]


class FieldVectors(nn.Module):
    """A vector per field and row: ``[rows, fields, width]``; several values of a field are averaged.

    Codes of both sides lie here as buffers, so that a row is two numbers: a person and an item.
    """

    people: Tensor
    items: Tensor

    def __init__(self, people: Side, items: Side, width: int) -> None:
        super().__init__()
        first = 0
        self._slots: list[int] = []
        self._firsts: list[int] = []
        self._unknown: list[int] = []
        for name, side in (("people", people), ("items", items)):
            columns = []
            self._unknown.append(first)
            for field, size in side.sizes.items():
                columns.append(torch.from_numpy(side.codes[field]).long() + first)
                self._slots.append(columns[-1].shape[1])
                self._firsts.append(first)
                first += size
            self.register_buffer(name, torch.cat(columns, dim=1), persistent=False)
        self.table = nn.Embedding(first, width)
        nn.init.normal_(self.table.weight, std=0.01)

    @property
    def fields(self) -> int:
        """How many fields a row has."""
        return len(self._slots)

    def forward(self, person: Tensor, item: Tensor, hidden: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return ``[rows, fields, width]`` of ``int64[rows]`` people and items.

        ``hidden``, ``bool[rows]`` twice: whose id, and which item's, is read as unknown.
        """
        sides = [self.people[person], self.items[item]]
        if hidden is not None:
            for codes, unseen, unknown in zip(sides, hidden, self._unknown, strict=True):
                codes[unseen, 0] = unknown
        codes = torch.cat(sides, dim=1)
        found: Tensor = self.table(codes)
        if len(self._slots) == codes.shape[1]:
            return found
        fields = []
        parts = (torch.split(whole, self._slots, dim=1) for whole in (found, codes))
        for first, values, own in zip(self._firsts, *parts, strict=True):
            if values.shape[1] == 1:
                fields.append(values[:, 0])
                continue
            counts = own > first
            counts[:, 0] = True  # a field without a known value is its unknown vector
            fields.append((values * counts[:, :, None]).sum(1) / counts.sum(1, keepdim=True))
        return torch.stack(fields, dim=1)


class ClickNetwork(nn.Module):
    """Fields to a hidden state, and from it to the logit of a like.

    Subclasses give ``own``: what their way of crossing fields makes of ``[rows, fields, width]``.
    """

    config_type: ClassVar[type[NetworkConfig]]

    def __init__(self, config: NetworkConfig, people: Side, items: Side) -> None:
        super().__init__()
        self.config = config
        self.vectors = FieldVectors(people, items, config.width)
        self.knowledge = None
        fields = self.vectors.fields
        if people.told is not None or items.told is not None:
            self.knowledge = HybridExperts(config.experts, people.told, items.told, config.width)
            fields += self.knowledge.fields
        flat = fields * config.width
        layers: list[nn.Module] = []
        for before, after in pairwise((flat, *config.hidden)):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout)]
        self.perceptron = nn.Sequential(*layers)
        self.width = self.build(flat) + (config.hidden[-1] if config.hidden else flat)
        self.head = nn.Linear(self.width, 1)

    def build(self, flat: int) -> int:
        """Make the layers of :meth:`own` for fields of ``flat`` numbers in all; return the width of what it gives."""
        raise NotImplementedError

    def own(self, fields: Tensor) -> Tensor:
        """``[rows, fields, width]`` to ``[rows, …]``."""
        raise NotImplementedError

    def states(self, person: Tensor, item: Tensor, hidden: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``[rows, width]``: what the network has made of rows before it decides."""
        fields = self.vectors(person, item, hidden)
        if self.knowledge is not None:
            told = self.knowledge(person, item, None if hidden is None else hidden[0])
            fields = torch.cat([fields, told.to(fields.dtype)], dim=1)
        return torch.cat([self.own(fields), self.perceptron(fields.flatten(1))], dim=1)

    def forward(self, person: Tensor, item: Tensor, hidden: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """``float32[rows]`` logits."""
        logits: Tensor = self.head(self.states(person, item, hidden)).squeeze(1)
        return logits


class DeepFMNetwork(ClickNetwork):
    """DeepFM (Guo et al. 2017, arXiv 1703.04247): products of all pairs of fields, and every field's own weight."""

    config_type: ClassVar[type[NetworkConfig]] = DeepFMConfig

    def build(self, flat: int) -> int:
        """The pairs' products are kept as a vector: the head sums them up. Fields' own weights come by ``flat``."""
        return self.config.width + flat

    def own(self, fields: Tensor) -> Tensor:
        """Half of the square of the sum less the sum of squares, and the fields themselves."""
        pairs = (fields.sum(1).square() - fields.square().sum(1)) / 2
        return torch.cat([pairs, fields.flatten(1)], dim=1)


class DCNv2Network(ClickNetwork):
    """DCN v2 (Wang et al. 2021, arXiv 2008.13535), cross layers of full rank beside the perceptron."""

    config_type: ClassVar[type[NetworkConfig]] = DCNv2Config

    def build(self, flat: int) -> int:
        """One square matrix per cross layer."""
        assert isinstance(self.config, DCNv2Config)
        self.crosses = nn.ModuleList(nn.Linear(flat, flat) for _ in range(self.config.crosses))
        return flat

    def own(self, fields: Tensor) -> Tensor:
        """``x₀ ⊙ (W x + b) + x``, layer by layer."""
        first = fields.flatten(1)
        crossed = first
        for layer in self.crosses:
            crossed = torch.addcmul(crossed, first, layer(crossed))
        return crossed


class AutoIntNetwork(ClickNetwork):
    """AutoInt (Song et al. 2019, arXiv 1810.11921): self-attention among fields, beside the perceptron."""

    config_type: ClassVar[type[NetworkConfig]] = AutoIntConfig

    def build(self, flat: int) -> int:
        """Queries, keys, values and the way past them in one product per layer."""
        config = self.config
        assert isinstance(config, AutoIntConfig)
        inner = config.heads * config.head_width
        widths = [config.width, *[inner] * config.layers]
        self.attention = nn.ModuleList(nn.Linear(w, 4 * inner, bias=False) for w in widths[:-1])
        return flat // config.width * inner

    def own(self, fields: Tensor) -> Tensor:
        """``ReLU(softmax(Q Kᵀ) V + W x)``, layer by layer (equations 5 to 8: no scaling by the width)."""
        config = self.config
        assert isinstance(config, AutoIntConfig)
        for layer in self.attention:
            *parts, past = layer(fields).chunk(4, dim=-1)
            query, key, value = (p.unflatten(-1, (config.heads, config.head_width)).transpose(1, 2) for p in parts)
            seen = torch.softmax(query @ key.transpose(-1, -2), dim=-1) @ value
            fields = F.relu(seen.transpose(1, 2).flatten(2) + past)
        return fields.flatten(1)
