"""The map alone, before anything inside the language model is tuned: pairs are learned from on its untuned states.

Every text is read once; a step then costs products of small matrices, so it serves any encoder, and thousands of steps
take a minute or two. Whatever a map can do is done when LoRA begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

__all__ = ["learn_map"]


class _Map(nn.Module):
    """A network's map, over states about their mean and of unit spread; and the temperature."""

    def __init__(self, start: StateMap, scale: Tensor, seed: int) -> None:
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

    def give(self, map_: StateMap, mean: Tensor, spread: float) -> None:
        """Write the same function of plain states into a network's map."""
        with torch.no_grad():
            map_.weight.copy_(self.weight)
            map_.bias.copy_(-(self.weight @ mean))
            if self.inner is not None and map_.inner is not None and map_.outer is not None:
                map_.inner.weight.copy_(self.inner.weight / spread)
                map_.inner.bias.copy_(self.inner.bias - self.inner.weight @ mean / spread)
                map_.outer.weight.copy_(self.outer)


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
) -> Training:
    """Train a map, and the temperature, on states that do not change.

    Parameters
    ----------
    map_
        Its linear part is where learning starts, its perceptron starts anew; it gets what was learned.
    states
        ``float32[items, width]`` of all texts.
    pairs
        What goes together.
    ignored
        What counts as no negative.
    scale
        Logarithm of one over the temperature, a tensor of one number; is changed.
    config
        Steps and their size.
    seed
        Of the perceptron, batches and dropout.
    validate
        Recall of vectors ``float32[items, dimension]``; the best map is kept. ``None``: the last.
    checkpoint, fingerprint, on_progress
        As for :func:`koinon.recommenders.fitting.fit_network`.

    Raises
    ------
    RecommenderError
        K470-K472 as there.
    """
    device = map_.weight.device
    mean = states.mean(axis=0)
    spread = max(float(np.std(states - mean)), 1e-9)
    centred = torch.from_numpy(states - mean).to(device)
    learned = _Map(map_, scale, seed)
    size = min(config.batch_pairs, len(pairs))

    def loss(_: NDArray[np.integer[Any]]) -> tuple[Tensor, int]:
        counter: Any = learned.taken
        chosen = np.random.default_rng([seed, 2, int(counter.item())]).choice(len(pairs), size, replace=False)
        counter += 1
        ends = np.concatenate((pairs.left[chosen], pairs.right[chosen]))
        items, where = np.unique(ends, return_inverse=True)
        vectors = learned(F.dropout(centred[torch.from_numpy(items).to(device)], config.dropout, training=True), spread)
        pair = torch.from_numpy(where.astype(np.int64)).to(device).view(2, -1)
        told = learned.scale.exp().clamp(max=100.0)
        negligible = torch.from_numpy(ignored(items)).to(device)
        return contrastive_loss(vectors, pair[0], pair[1], told, negligible), size

    def recall() -> float:
        assert validate is not None
        with torch.inference_mode():
            vectors: NDArray[np.float32] = learned(centred, spread).cpu().numpy()
        return validate(vectors)

    told = fit_network(
        learned,
        np.arange(config.every),
        loss,
        torch.optim.AdamW(learned.parameters(), lr=config.learning_rate, weight_decay=0.0),
        Course(math.ceil(config.steps / config.every), 1, config.patience, 1, math.inf),
        rows=config.every * size,
        seed=seed,
        device=device,
        phase="map",
        validate=None if validate is None else recall,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        on_progress=on_progress,
    )
    learned.give(map_, torch.from_numpy(mean).to(device), spread)
    with torch.no_grad():
        scale.copy_(learned.scale)
    return told
