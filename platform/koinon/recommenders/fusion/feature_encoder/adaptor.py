"""UniSRec's item encoder: a mixture of parametric whitenings of the text's frozen vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from koinon.recommenders.sequential.items import ItemEncoder

__all__ = ["AdaptorItems"]

SCALE = 0.02
"""Of a vector's entries at the start, as free vectors have."""


class AdaptorItems(ItemEncoder):
    """``Σ_k g_k (x − b_k) W_k`` with ``g = softmax(x V + ε · softplus(x U))``, ``ε`` standard normal in training only.

    Hou et al. 2022 (arXiv 2206.05941), equations 2 to 5. Whoever has no event yet has a vector all the same.

    Parameters
    ----------
    texts
        ``float32[items, d]`` unit vectors of the space. They are no part of the state: the space gives them again.
    width
        Of what comes out.
    experts
        Maps that are mixed.
    dropout
        Share of a text vector's entries left out in training.
    """

    texts: Tensor

    def __init__(self, texts: Tensor, width: int, *, experts: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.count, dimension = len(texts), texts.shape[1]
        self.register_buffer("texts", texts, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.shifts = nn.Parameter(torch.zeros(experts, dimension))
        self.maps = nn.Parameter(torch.empty(experts, dimension, width).normal_(std=SCALE))
        self.gate = nn.Parameter(torch.zeros(dimension, experts))
        self.noise = nn.Parameter(torch.zeros(dimension, experts))

    def forward(self, items: Tensor) -> Tensor:
        """``int64[T] → [T, width]``."""
        return self.adapt(self.texts.index_select(0, items))

    def table(self) -> Tensor:
        """``[items, width]``."""
        return self.adapt(self.texts)

    def adapt(self, texts: Tensor) -> Tensor:
        """``[T, d] → [T, width]``: vectors of any texts of the space."""
        experts, dimension, width = self.maps.shape
        logits = texts @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * nn.functional.softplus(texts @ self.noise)
        shares = torch.softmax(logits, -1)
        seen = self.dropout(texts)
        mapped = (seen @ self.maps.transpose(0, 1).reshape(dimension, experts * width)).view(len(texts), experts, width)
        moved = torch.einsum("kd,kdw->kw", self.shifts, self.maps)
        adapted: Tensor = torch.einsum("tk,tkw->tw", shares, mapped - moved)
        return adapted
