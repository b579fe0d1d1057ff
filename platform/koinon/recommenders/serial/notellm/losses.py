"""The contrastive loss: an item's partner, told from all other items of the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["contrastive_loss"]


def contrastive_loss(vectors: Tensor, left: Tensor, right: Tensor, scale: Tensor, ignored: Tensor) -> Tensor:
    """InfoNCE within a batch, both ways (NoteLLM, equation 4).

    ``- log( exp(s · v_a · v_p) / Σ_j exp(s · v_a · v_j) )`` for both ends ``a`` of every pair and its other end ``p``,
    with ``j`` over ``p`` and all texts of the batch that are neither ``a`` nor ``ignored`` for ``a``.

    Parameters
    ----------
    vectors
        ``float32[texts, d]`` of norm 1: every distinct text of the batch once.
    left, right
        ``int64[pairs]`` rows of ``vectors``, different in every pair.
    scale
        One over the temperature.
    ignored
        ``bool[texts, texts]``: true for what must not count as a negative.

    Returns
    -------
    The mean over both ends of all pairs.
    """
    anchor, partner = torch.cat((left, right)), torch.cat((right, left))
    alike = scale * (vectors @ vectors.T)
    alike = alike.masked_fill(ignored | torch.eye(len(vectors), dtype=torch.bool, device=vectors.device), -torch.inf)
    rows = alike[anchor]
    own = (scale * (vectors[anchor] * vectors[partner]).sum(1)).unsqueeze(1)
    rows = rows.scatter(1, partner.unsqueeze(1), own)
    return F.cross_entropy(rows, partner)
