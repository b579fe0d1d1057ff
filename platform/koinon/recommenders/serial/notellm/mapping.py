"""The map alone, before anything inside the language model is tuned: pairs are learned from on its untuned states.

Every text is read once; a step then costs a product of matrices. Whatever a linear map can do is done when LoRA begins.
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
from koinon.recommenders.serial.notellm.pairs import Pairs
from koinon.space.tuned import TextNetwork

__all__ = ["learn_map"]


class _Map(nn.Module):
    """The projection without its bias, over states about their mean; and the temperature."""

    def __init__(self, projection: nn.Linear, scale: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(projection.weight.detach().clone())
        self.scale = nn.Parameter(scale.detach().clone())
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))


def learn_map(
    network: TextNetwork,
    states: NDArray[np.float32],
    pairs: Pairs,
    ignored: Callable[[NDArray[np.integer[Any]]], Tensor],
    scale: nn.Parameter,
    config: MapConfig,
    *,
    seed: int,
    validate: Callable[[NDArray[np.float32]], float] | None,
    checkpoint: Path | None,
    fingerprint: str,
    on_progress: Callable[[Progress], None] | None = None,
) -> Training:
    """Train the projection of a network, and the temperature, on states that do not change.

    Parameters
    ----------
    network
        Has a projection; its start is where this one starts.
    states
        ``float32[items, width]`` of all texts, from ``network.states``.
    pairs
        What goes together.
    ignored
        Of a batch's items, which are no negatives: ``bool[items, items]``.
    scale
        Logarithm of one over the temperature; is changed.
    config
        Steps and their size.
    seed
        Of batches and dropout.
    validate
        Recall of vectors ``float32[items, dimension]``; the best map is kept. ``None``: the last.
    checkpoint, fingerprint, on_progress
        As for :func:`koinon.recommenders.fitting.fit_network`.

    Raises
    ------
    RecommenderError
        K470-K472 as there.
    """
    projection = network.projection
    assert projection is not None
    device = projection.weight.device
    mean = states.mean(axis=0)
    centred = torch.from_numpy(states - mean).to(device)
    learned = _Map(projection, scale)
    size = min(config.batch_pairs, len(pairs))

    def loss(_: NDArray[np.integer[Any]]) -> tuple[Tensor, int]:
        counter: Any = learned.taken
        chosen = np.random.default_rng([seed, 2, int(counter.item())]).choice(len(pairs), size, replace=False)
        counter += 1
        ends = np.concatenate((pairs.left[chosen], pairs.right[chosen]))
        items, where = np.unique(ends, return_inverse=True)
        given = F.dropout(centred[torch.from_numpy(items).to(device)], config.dropout, training=True)
        pair = torch.from_numpy(where.astype(np.int64)).to(device).view(2, -1)
        vectors = F.normalize(given @ learned.weight.T, dim=1)
        told = learned.scale.exp().clamp(max=100.0)
        return contrastive_loss(vectors, pair[0], pair[1], told, ignored(items).to(device)), size

    def recall() -> float:
        assert validate is not None
        with torch.inference_mode():
            vectors: NDArray[np.float32] = F.normalize(centred @ learned.weight.T, dim=1).cpu().numpy()
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
    with torch.no_grad():
        projection.weight.copy_(learned.weight)
        projection.bias.copy_(-(learned.weight @ torch.from_numpy(mean).to(device)))
        scale.copy_(learned.scale)
    return told
