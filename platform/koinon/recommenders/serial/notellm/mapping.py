"""The map alone, before anything inside the language model is tuned: pairs are learned from on its untuned states.

Every text is read once; a step then costs products of small matrices, so it serves any encoder, and thousands of steps
take a minute or two. Whatever a map can do is done when LoRA begins.

Members of a map differ in their perceptron's first weights, their batches and their dropout. What one takes for a rule
by chance the others do not, so that the mean of their likenesses holds for items that were seen rarely or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from koinon.recommenders.fitting import Course, Progress, Training, fit_network
from koinon.recommenders.serial.notellm._config import MapConfig
from koinon.recommenders.serial.notellm.losses import contrastive_loss
from koinon.recommenders.serial.notellm.pairs import Ignored, Pairs
from koinon.space.tuned import StateMap
from koinon.space.tuned.mapped import Member

__all__ = ["learn_map"]

STRIDE = 1_000_003
"""Between seeds of members, so that neighbouring seeds have no member in common."""


class _Learned(nn.Module):
    """A member of a map, over states about their mean and of unit spread; and the temperature."""

    def __init__(self, start: Member, scale: Tensor, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.weight.detach().clone())
        self.scale = nn.Parameter(scale.detach().clone())
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self.inner: nn.Linear | None = None
        if start.inner is not None and start.outer is not None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self.inner = nn.Linear(start.in_features, start.inner.out_features, device=start.weight.device)
            self.outer = nn.Parameter(torch.zeros_like(start.outer.weight))

    def forward(self, centred: Tensor, spread: float) -> Tensor:
        straight = centred @ self.weight.T
        if self.inner is not None:
            straight = straight + F.gelu(self.inner(centred / spread)) @ self.outer.T
        return F.normalize(straight, dim=1)

    def give(self, member: Member, mean: Tensor, spread: float) -> None:
        """Write the same function of plain states into the map's member."""
        with torch.no_grad():
            member.weight.copy_(self.weight)
            member.bias.copy_(-(self.weight @ mean))
            if self.inner is not None and member.inner is not None and member.outer is not None:
                member.inner.weight.copy_(self.inner.weight / spread)
                member.inner.bias.copy_(self.inner.bias - self.inner.weight @ mean / spread)
                member.outer.weight.copy_(self.outer)


@dataclass(frozen=True)
class _Ground:
    """What every member learns from: states about their mean ``float32[items, width]``, their spread, pairs."""

    centred: Tensor
    spread: float
    pairs: Pairs
    ignored: Ignored
    config: MapConfig

    @property
    def size(self) -> int:
        """Pairs of a batch."""
        return min(self.config.batch_pairs, len(self.pairs))

    def loss(self, learned: _Learned, seed: int, _: NDArray[np.integer[Any]]) -> tuple[Tensor, int]:
        """Loss of a member's next batch, and how many pairs it has."""
        pairs, size, device = self.pairs, self.size, self.centred.device
        counter: Any = learned.taken
        chosen = np.random.default_rng([seed, 2, int(counter.item())]).choice(len(pairs), size, replace=False)
        counter += 1
        ends = np.concatenate((pairs.left[chosen], pairs.right[chosen]))
        items, where = np.unique(ends, return_inverse=True)
        states = F.dropout(self.centred[torch.from_numpy(items).to(device)], self.config.dropout, training=True)
        pair = torch.from_numpy(where.astype(np.int64)).to(device).view(2, -1)
        told = learned.scale.exp().clamp(max=100.0)
        negligible = torch.from_numpy(self.ignored(items)).to(device)
        return contrastive_loss(learned(states, self.spread), pair[0], pair[1], told, negligible), size

    def value(self, learned: _Learned, validate: Callable[[NDArray[np.float32]], float]) -> float:
        """What ``validate`` says of a member's vectors of all items."""
        with torch.inference_mode():
            return validate(learned(self.centred, self.spread).cpu().numpy())


def learn_map(
    map_: StateMap,
    states: NDArray[np.float32],
    pairs: Pairs,
    ignored: Ignored,
    scale: Tensor,
    config: MapConfig,
    *,
    seed: int,
    validate: Callable[[NDArray[np.float32]], float] | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[Training, ...]:
    """Train every member of a map, and the temperature, on states that do not change; then settle the map's axes.

    Parameters
    ----------
    map_
        Its members' linear parts are where learning starts, their perceptrons start anew; it gets what was learned.
    states
        ``float32[items, width]`` of all texts.
    pairs
        What goes together.
    ignored
        What counts as no negative.
    scale
        Logarithm of one over the temperature, a tensor of one number; every member begins with it, and it becomes what
        the last one learned.
    config
        Steps and their size.
    seed
        Of the perceptrons, batches and dropout.
    validate
        Recall of vectors ``float32[items, dimension]``; the best of each member is kept. ``None``: the last.
    checkpoint, fingerprint, on_progress
        As for :func:`koinon.recommenders.fitting.fit_network`; each member has a checkpoint, with its number appended.

    Returns
    -------
    What each member came to.

    Raises
    ------
    RecommenderError
        K470-K472 as there.
    """
    mean = states.mean(axis=0)
    spread = max(float(np.std(states - mean)), 1e-9)
    device = cast(Member, map_.members[0]).weight.device
    ground = _Ground(torch.from_numpy(states - mean).to(device), spread, pairs, ignored, config)
    told = []
    for number, member in enumerate(cast(list[Member], map_.members)):
        own = seed + STRIDE * number
        learned = _Learned(member, scale, own)
        training = fit_network(
            learned,
            np.arange(config.every),
            partial(ground.loss, learned, own),
            torch.optim.AdamW(learned.parameters(), lr=config.learning_rate, weight_decay=0.0),
            Course(math.ceil(config.steps / config.every), 1, config.patience, 1, math.inf),
            rows=config.every * ground.size,
            seed=own,
            device=device,
            phase="map" if len(map_.members) == 1 else f"map {number + 1}/{len(map_.members)}",
            validate=None if validate is None else partial(ground.value, learned, validate),
            checkpoint=None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}-{number}"),
            fingerprint=fingerprint,
            on_progress=on_progress,
        )
        learned.give(member, torch.from_numpy(mean).to(device), spread)
        told.append(training)
    map_.settle(states)
    with torch.no_grad():
        scale.copy_(learned.scale)
    return tuple(told)
