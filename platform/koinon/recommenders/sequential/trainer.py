"""Training that survives: what is killed goes on where its last checkpoint stood, to the same result.

The order of users in an epoch depends on seed and epoch alone; dropout and drawn items come from torch's generator,
whose state is part of the checkpoint. On a CPU with the same number of threads the result is the same to the last bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from koinon.errors import RecommenderError
from koinon.recommenders.sequential._config import SequenceConfig
from koinon.recommenders.sequential.checkpoint import load_checkpoint, save_checkpoint
from koinon.recommenders.sequential.histories import Histories
from koinon.recommenders.sequential.network import SequenceNetwork

__all__ = ["Epoch", "Progress", "Trainer", "Training", "training_device"]


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes
    ----------
    epoch, epochs
        The epoch at work (1-based), and the most there may be.
    step, steps
        Steps done in this epoch, and in all of it.
    loss
        Mean of this epoch so far.
    metric, best
        The last and the best value on validation, ``None`` before the first.
    tokens_per_second
        Events learned from per second, since this process began to train.
    seconds_left
        At that pace to the last epoch; validation included as far as it was seen.
    epoch_over
        Whether the epoch is over and its value on validation known.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    metric: float | None
    best: float | None
    tokens_per_second: float
    seconds_left: float
    epoch_over: bool


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: its mean loss, its value on validation (``None``: not asked), seconds of training."""

    number: int
    loss: float
    metric: float | None
    seconds: float


@dataclass(frozen=True)
class Training:
    """What a training came to.

    Attributes
    ----------
    curve
        Every epoch.
    best_epoch, best
        The one whose weights were kept, and its value; the last and ``None`` without validation.
    seconds
        Spent training and validating, over all processes that took part.
    tokens
        Events learned from in all epochs.
    """

    curve: tuple[Epoch, ...]
    best_epoch: int
    best: float | None
    seconds: float
    tokens: int


@dataclass
class _State:
    """What a checkpoint keeps beside tensors."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    tokens: int = 0
    waited: int = 0
    best: float | None = None
    best_epoch: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def training_device(name: str) -> torch.device:
    """Return the device that settings name.

    Raises
    ------
    RecommenderError
        K474 there is no such device here.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are served")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecommenderError(
            "K474", f"There is no device {name!r} here: {error}".rstrip(".") + ".", "Use auto, cpu or cuda."
        ) from error
    return device


class Trainer:
    """Trains a network on histories.

    Parameters
    ----------
    network
        On its device already.
    histories
        Everybody's training events.
    config
        How.
    seed
        Of orders, dropout and draws.
    validate
        Gives the value to maximise for the network as it stands; ``None``: train all epochs and keep the last.
    checkpoint
        File to keep the state in, and to go on from where it exists; ``None``: none.
    fingerprint
        Of settings and data: a checkpoint of another is refused.
    on_progress
        Called after every step, and after every epoch.

    Raises
    ------
    RecommenderError
        K473 nobody has two events.
    """

    def __init__(
        self,
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
    ) -> None:
        if not len(histories.users):
            raise RecommenderError("K473", "Nobody has two events in a row to learn from.", "Bring more events.")
        self.network, self.histories, self.config = network, histories, config
        self.seed, self.device, self.validate = seed, device, validate
        self.checkpoint, self.fingerprint, self.on_progress = checkpoint, fingerprint, on_progress
        self.steps = math.ceil(len(histories.users) / config.batch_users)
        self.optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._state = _State()
        self._best: dict[str, torch.Tensor] | None = None

    def run(self) -> Training:
        """Train to the end, or go on to it; the network then holds the best weights.

        Raises
        ------
        RecommenderError
            K470 the loss or its gradient is not finite (names epoch and batch; the network and the checkpoint hold the
            state before it); K471, K472 the checkpoint belongs to another training, or is damaged.
        ResourceError
            K801 the checkpoint cannot be written.
        """
        state, config = self._state, self.config
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            self._resume()
            self._begun, self._kept = monotonic(), monotonic()
            self._tokens_before, self._seconds_before = state.tokens, state.seconds
            while state.epoch < config.epochs and state.waited < config.patience:
                self._epoch()
            self._keep()
        if self._best is not None:
            self.network.load_state_dict(self._best)
        curve = tuple(Epoch(**epoch) for epoch in state.curve)
        return Training(curve, state.best_epoch or state.epoch, state.best, state.seconds, state.tokens)

    def _epoch(self) -> None:
        state, size = self._state, self.config.batch_users
        order = np.random.default_rng([self.seed, state.epoch]).permutation(self.histories.users)
        self.network.train()
        while state.step < self.steps:
            users = order[state.step * size : (state.step + 1) * size]
            loss, rows = self._step(users)
            state.step += 1
            state.loss += loss * rows
            state.rows += rows
            state.tokens += rows
            self._tick()
            if self.on_progress is not None:
                self.on_progress(self._progress())
            if self.checkpoint is not None and monotonic() - self._kept >= self.config.checkpoint_seconds:
                self._keep()
        self._close_epoch()

    def _step(self, users: np.ndarray[Any, Any]) -> tuple[float, int]:
        state = self._state
        batch = self.histories.batch(users, self.device, own_clock=self.network.own_clock)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss = self.network.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        slopes = [p.grad for p in self.network.parameters() if p.grad is not None]
        checked = loss.detach() + torch.nn.utils.get_total_norm(slopes)
        if not math.isfinite(checked.item()):
            raise RecommenderError(
                "K470",
                f"The loss or its gradient is not finite in epoch {state.epoch + 1}, batch {state.step + 1} of "
                f"{self.steps}; the last good state is kept.",
                "Lower learning_rate, raise temperature, or use precision float32.",
            )
        self.optimiser.step()
        return float(loss.item()), batch.layout.rows

    def _close_epoch(self) -> None:
        state = self._state
        state.epoch, state.step = state.epoch + 1, 0
        metric = None
        last = state.epoch == self.config.epochs
        if self.validate is not None and (state.epoch % self.config.validate_every == 0 or last):
            self.network.eval()
            metric = self.validate()
            state.waited += 1
            if state.best is None or metric > state.best:
                state.best, state.best_epoch, state.waited = metric, state.epoch, 0
                self._best = copy.deepcopy(self.network.state_dict())
        self._tick()
        seconds = state.seconds - state.epoch_seconds
        state.curve.append(asdict(Epoch(state.epoch, state.loss / max(state.rows, 1), metric, seconds)))
        state.loss, state.rows, state.epoch_seconds = 0.0, 0, state.seconds
        if self.checkpoint is not None and monotonic() - self._kept >= self.config.checkpoint_seconds:
            self._keep()
        if self.on_progress is not None:
            self.on_progress(self._progress())

    def _tick(self) -> None:
        self._state.seconds = self._seconds_before + monotonic() - self._begun

    def _progress(self) -> Progress:
        state, config = self._state, self.config
        done = state.tokens - self._tokens_before
        spent = max(monotonic() - self._begun, 1e-9)
        metrics = [epoch["metric"] for epoch in state.curve if epoch["metric"] is not None]
        at_work = state.step > 0
        loss = state.loss / max(state.rows, 1) if at_work else state.curve[-1]["loss"]
        return Progress(
            epoch=state.epoch + at_work,
            epochs=config.epochs,
            step=state.step if at_work else self.steps,
            steps=self.steps,
            loss=loss,
            metric=metrics[-1] if metrics else None,
            best=state.best,
            tokens_per_second=done / spent,
            seconds_left=(self.histories.rows * config.epochs - state.tokens) * spent / max(done, 1),
            epoch_over=not at_work,
        )

    def _keep(self) -> None:
        if self.checkpoint is None:
            return
        kept = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self._best,
            "rng": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "state": asdict(self._state),
        }
        save_checkpoint(self.checkpoint, kept, self.fingerprint)
        self._kept = monotonic()

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        kept = load_checkpoint(self.checkpoint, self.fingerprint, self.device)
        done = kept["state"]["epoch"] + bool(kept["state"]["step"])
        if done > self.config.epochs:
            raise RecommenderError(
                "K471",
                f"The checkpoint {self.checkpoint} is of a training that has come to epoch {done}, not "
                f"{self.config.epochs}.",
                "Give more epochs to go on, or another folder to begin anew.",
            )
        self.network.load_state_dict(kept["network"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self._best = kept["best"]
        for name, value in kept["state"].items():
            setattr(self._state, name, value)
        torch.set_rng_state(kept["rng"].cpu())
        if kept["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(kept["cuda"].cpu(), self.device)
