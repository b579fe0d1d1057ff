"""A sequence network trained on histories: everybody's in an epoch, ``batch_users`` of them in a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from koinon.errors import RecommenderError
from koinon.recommenders.fitting import Course, Progress, Training, fit_network
from koinon.recommenders.fitting.loop import Examples
from koinon.recommenders.sequential._config import SequenceConfig
from koinon.recommenders.sequential.histories import Histories
from koinon.recommenders.sequential.network import SequenceNetwork

__all__ = ["fit_histories"]


def fit_histories(
    network: SequenceNetwork,
    histories: Histories,
    config: SequenceConfig,
    *,
    seed: int,
    device: torch.device,
    validate: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "-",
    on_progress: Callable[[Progress], None] | None = None,
) -> Training:
    """Train to the end, or go on to it; the network then holds the best weights.

    Parameters
    ----------
    network
        On its device already.
    histories
        Everybody's training events.
    config
        How.
    seed, device, validate, checkpoint, fingerprint, on_progress
        As for :func:`koinon.recommenders.fitting.fit_network`.

    Raises
    ------
    RecommenderError
        K473 nobody has two events; K470-K472 as ``fit_network``.
    ResourceError
        K801 the checkpoint cannot be written.
    """
    if not len(histories.users):
        raise RecommenderError("K473", "Nobody has two events in a row to learn from.", "Bring more events.")

    def loss(users: Examples) -> tuple[Tensor, int]:
        batch = histories.batch(users, device, own_clock=network.own_clock)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            return network.loss(batch), batch.layout.rows

    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    course = Course(
        config.epochs, config.batch_users, config.patience, config.validate_every, config.checkpoint_seconds
    )
    return fit_network(
        network,
        histories.users,
        loss,
        optimiser,
        course,
        rows=histories.rows,
        seed=seed,
        device=device,
        validate=validate,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        on_progress=on_progress,
    )
