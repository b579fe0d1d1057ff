"""What an item is to a sequence network: a free vector, a place in the space, code words. One interface for all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CodeItems", "IdItems", "ItemEncoder", "SumItems", "TextItems"]


class ItemEncoder(nn.Module):
    """Gives items their vectors, as input and as what is predicted."""

    count: int

    def forward(self, items: Tensor) -> Tensor:
        """``int64[T] → [T, width]``."""
        raise NotImplementedError

    def table(self) -> Tensor:
        """``[items, width]``: the whole catalogue."""
        raise NotImplementedError


class IdItems(ItemEncoder):
    """A free vector for every item; one without events keeps its first, random one."""

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.count = items
        self.vectors = nn.Parameter(torch.empty(items, width))
        nn.init.trunc_normal_(self.vectors, std=0.02)

    def forward(self, items: Tensor) -> Tensor:
        """``int64[T] → [T, width]``."""
        return nn.functional.embedding(items, self.vectors)

    def table(self) -> Tensor:
        """``[items, width]``."""
        return self.vectors


class TextItems(ItemEncoder):
    """The text's frozen vector, projected: an item that nobody has taken yet has its place too.

    Parameters
    ----------
    texts
        ``float32[items, d]`` unit vectors of the space. They are no part of the state: the space gives them again.
    width
        Of what comes out.
    """

    texts: Tensor

    def __init__(self, texts: Tensor, width: int) -> None:
        super().__init__()
        self.count = len(texts)
        self.register_buffer("texts", texts, persistent=False)
        self.project = nn.Linear(texts.shape[1], width)
        # unit vectors in, entries of 0.02 out, as free vectors have
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def forward(self, items: Tensor) -> Tensor:
        """``int64[T] → [T, width]``."""
        projected: Tensor = self.project(self.texts.index_select(0, items))
        return projected

    def table(self) -> Tensor:
        """``[items, width]``."""
        projected: Tensor = self.project(self.texts)
        return projected


class CodeItems(ItemEncoder):
    """The sum of the vectors of an item's code words: one vocabulary for catalogues that share no item.

    Parameters
    ----------
    paths
        ``int[items, levels + 1]``: semantic ids (:class:`koinon.space.semantic_ids.SemanticIds`). They are no part of
        the state.
    codes
        Code words on each level.
    width
        Of what comes out.

    Attributes
    ----------
    words
        ``[levels · codes, width]``: what code words are; they mean the same in every catalogue.
    last
        ``[tokens, width]``: what tells items of the same words apart, in this catalogue alone.
    """

    own: Tensor
    told: Tensor

    def __init__(self, paths: Tensor, codes: int, width: int) -> None:
        super().__init__()
        self.count, levels = len(paths), paths.shape[1] - 1
        self.register_buffer("told", paths[:, :-1].long() + codes * torch.arange(levels), persistent=False)
        self.register_buffer("own", paths[:, -1].long(), persistent=False)
        self.words = nn.Parameter(torch.empty(levels * codes, width))
        # entries of 0.02 in sum, as free vectors have
        nn.init.trunc_normal_(self.words, std=0.02 * levels**-0.5)
        self.last = nn.Parameter(torch.zeros(int(paths[:, -1].max()) + 1 if self.count else 1, width))

    def forward(self, items: Tensor) -> Tensor:
        """``int64[T] → [T, width]``."""
        return self._sum(self.told.index_select(0, items), self.own.index_select(0, items))

    def table(self) -> Tensor:
        """``[items, width]``."""
        return self._sum(self.told, self.own)

    def _sum(self, told: Tensor, own: Tensor) -> Tensor:
        words = nn.functional.embedding_bag(told, self.words, mode="sum")
        return words + nn.functional.embedding(own, self.last)


class SumItems(ItemEncoder):
    """The sum of several kinds of vectors."""

    def __init__(self, *parts: ItemEncoder) -> None:
        super().__init__()
        self.count = parts[0].count
        self.parts = nn.ModuleList(parts)

    def forward(self, items: Tensor) -> Tensor:
        """``int64[T] → [T, width]``."""
        return torch.stack([part(items) for part in self.parts]).sum(0)

    def table(self) -> Tensor:
        """``[items, width]``."""
        tables = [part.table() for part in self.parts if isinstance(part, ItemEncoder)]
        return torch.stack(tables).sum(0)
