"""A space that an adversary cannot read a group from: a small map of the items' vectors, trained against it.

The projection of :mod:`.erasing` is exact against every straight line and needs no training. What a network could still
read it leaves; this takes that too, as far as an adversary of this size finds it, for what it costs.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain

__all__ = ["AdversarialConfig", "AdversarialMap", "adversarial_map"]

Doubles = NDArray[np.float64]

_CHASES, _FASTER = 5, 3.0
"""Steps of the adversary to one of the map, and how much longer they are."""


class AdversarialConfig(Config):
    """How the map is trained."""

    strength: float = Field(default=1.0, ge=0)
    """Weight of the adversary's being at a loss against staying near the vectors as they are."""
    width: int = Field(default=64, ge=1)
    """Of the map's and of the adversary's hidden layer."""
    steps: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    seed: int = Field(default=0, ge=0)


class AdversarialMap:
    """A residual map ``x + B tanh(A x)`` of vectors ``float[n, dimension]``.

    Parameters
    ----------
    inner, outer
        ``float64[dimension, width]`` and ``float64[width, dimension]``.
    """

    def __init__(self, inner: Doubles, outer: Doubles) -> None:
        self.inner, self.outer = inner, outer

    def __call__(self, vectors: Doubles) -> Doubles:
        """Return changed vectors ``float64[n, dimension]``."""
        changed: Doubles = vectors + np.tanh(vectors @ self.inner) @ self.outer
        return changed

    def fingerprint(self) -> str:
        """Hash of the map."""
        return hashlib.sha256(self.inner.tobytes() + self.outer.tobytes()).hexdigest()


def adversarial_map(
    domain: Domain, vectors: NDArray[np.floating], group: NDArray[np.integer], config: AdversarialConfig | None = None
) -> AdversarialMap:
    """Train a map against an adversary that reads a group from the mean of what somebody took.

    The adversary, a network of one hidden layer, learns to tell groups by people's mean vectors, five steps to each of
    the map's; the map learns to leave it with every group as likely as another (domain confusion, Tzeng et al. 2015;
    for recommenders' embeddings Bose and Hamilton 2019), while squared distance holds the vectors where they were. A
    reversed gradient in its place, which rewards an adversary that is surely wrong, did not settle. Deterministic in
    its arguments.

    Parameters
    ----------
    domain
        People's training items.
    vectors
        ``float[items, dimension]``.
    group
        ``int[users]``, -1: not counted.
    config
        Default: :class:`AdversarialConfig`.
    """
    import torch

    config = config or AdversarialConfig()
    generator = torch.Generator().manual_seed(config.seed)
    x = torch.as_tensor(np.asarray(vectors, dtype=np.float32))
    known = np.flatnonzero((group >= 0) & (np.asarray(domain.matrix.sum(axis=1)).ravel() > 0))
    means = _means_of(domain, known)
    label = torch.as_tensor(group[known].astype(np.int64))
    # groups count alike, or the adversary would be content with the largest
    weight = 1.0 / torch.bincount(label, minlength=int(label.max()) + 1).clamp(min=1).float()
    dimension, groups = x.shape[1], len(weight)
    scale = float(torch.sparse.mm(means, x).std(dim=0).mean()) or 1.0

    def normal(*shape: int, deviation: float) -> Any:
        return (torch.randn(*shape, generator=generator) * deviation).requires_grad_()

    inner = normal(dimension, config.width, deviation=dimension**-0.5)
    outer = torch.zeros(config.width, dimension, requires_grad=True)
    hidden = normal(dimension, config.width, deviation=dimension**-0.5)
    out = normal(config.width, groups, deviation=config.width**-0.5)
    of_map = torch.optim.Adam([inner, outer], lr=config.learning_rate)
    of_adversary = torch.optim.Adam([hidden, out], lr=_FASTER * config.learning_rate)

    def read(people: Any) -> Any:
        standard = (people - people.mean(dim=0).detach()) / scale
        return torch.log_softmax(torch.tanh(standard @ hidden) @ out, dim=1)

    for _ in range(config.steps):
        mapped = x + torch.tanh(x @ inner) @ outer
        people = torch.sparse.mm(means, mapped)
        for _ in range(_CHASES):
            of_adversary.zero_grad()
            torch.autograd.backward(torch.nn.functional.nll_loss(read(people.detach()), label, weight=weight))
            of_adversary.step()
        of_map.zero_grad()
        told = -read(people).mean(dim=1) - math.log(groups)  # from uniform, 0 at best
        near = ((mapped - x) ** 2).sum(dim=1).mean() / scale**2 / dimension
        torch.autograd.backward(config.strength * (told * weight[label]).sum() / weight[label].sum() + near)
        of_map.step()
    return AdversarialMap(inner.detach().double().numpy(), outer.detach().double().numpy())


def _means_of(domain: Domain, users: NDArray[np.integer]) -> Any:
    """Sparse ``float32[users, items]`` whose rows sum to 1."""
    import torch

    rows = domain.matrix[users].tocsr().astype(np.float32)
    sums = np.asarray(rows.sum(axis=1)).ravel()
    values = rows.data / np.repeat(sums, np.diff(rows.indptr))
    owner = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
    places = torch.as_tensor(np.stack([owner, rows.indices]).astype(np.int64))
    return torch.sparse_coo_tensor(places, torch.as_tensor(values), rows.shape, check_invariants=True).coalesce()
