"""UniSRec's item encoder: a mixture of parametric whitenings of the text's frozen vector."""

from __future__ import annotations

from typing import Literal

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
    start
        ``random``, or ``whitened``: shifts at the catalogue's mean and maps at its whitening, each turned at random.
    """

    texts: Tensor

    def __init__(
        self,
        texts: Tensor,
        width: int,
        *,
        experts: int = 8,
        dropout: float = 0.2,
        start: Literal["random", "whitened"] = "whitened",
    ) -> None:
        super().__init__()
        self.count, dimension = len(texts), texts.shape[1]
        self.register_buffer("texts", texts, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.shifts = nn.Parameter(torch.zeros(experts, dimension))
        self.maps = nn.Parameter(torch.empty(experts, dimension, width).normal_(std=SCALE))
        self.gate = nn.Parameter(torch.zeros(dimension, experts))
        self.noise = nn.Parameter(torch.zeros(dimension, experts))
        if start == "whitened" and self.count > 1:
            middle, whitening = _whitening(texts, width)
            with torch.no_grad():
                self.shifts.copy_(middle.expand_as(self.shifts))
                for place in range(experts):
                    turned = whitening @ torch.linalg.qr(torch.randn(whitening.shape[1], whitening.shape[1]))[0]
                    self.maps[place, :, : turned.shape[1]] = SCALE * turned

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


def _whitening(texts: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Mean ``[d]`` and the map ``[d, ≤ width]`` to the greatest principal components, each of variance 1."""
    middle = texts.mean(0)
    centred = (texts - middle).double()
    spreads, axes = torch.linalg.eigh(centred.T @ centred / len(texts))
    kept = min(width, texts.shape[1], len(texts) - 1)
    spreads, axes = spreads[-kept:].clamp_min(1e-6), axes[:, -kept:]
    return middle, (axes * spreads.rsqrt()).float()
