"""Training that survives: what is killed goes on where its last checkpoint stood, to the same result.

The order of examples in an epoch depends on seed and epoch alone; dropout and draws come from torch's generator, whose
state is part of the checkpoint. On a CPU with the same number of threads the result is the same to the last bit.
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
from numpy.typing import NDArray
from torch import Tensor, nn

from koinon.errors import RecommenderError
from koinon.recommenders.fitting.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["Course", "Epoch", "Progress", "Training", "fit_network", "loss_is_finite"]

Examples = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Course:
    """How long a training goes on, and in which steps.

    Attributes
    ----------
    epochs
        Passes over the examples at most.
    batch
        Examples of a step; where there are fewer, all of them are one step.
    patience
        Validations without a better value after which it ends.
    validate_every
        Epochs from one validation to the next; the last epoch is always validated.
    checkpoint_seconds
        At least so long from one checkpoint to the next; the last state is always kept.
    """

    epochs: int
    batch: int
    patience: int
    validate_every: int = 1
    checkpoint_seconds: float = 300.0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes
    ----------
    phase
        What the caller calls this training; empty where it has one alone.
    epoch, epochs
        The epoch at work (1-based), and the most there may be.
    step, steps
        Steps done in this epoch, and in all of it.
    loss
        Mean of this epoch so far.
    metric, best
        The last and the best value on validation, ``None`` before the first.
    rows_per_second
        Rows learned from per second (events of histories, rows of a table), since this process began to train.
    seconds_left
        At that pace to the last epoch; validation included as far as it was seen.
    epoch_over
        Whether the epoch is over and its value on validation known.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    metric: float | None
    best: float | None
    rows_per_second: float
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
    rows
        Rows learned from in all epochs.
    """

    curve: tuple[Epoch, ...]
    best_epoch: int
    best: float | None
    seconds: float
    rows: int


@dataclass
class _State:
    """What a checkpoint keeps beside tensors."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    rows: int = 0
    all_rows: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    waited: int = 0
    best: float | None = None
    best_epoch: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def fit_network(
    network: nn.Module,
    examples: Examples,
    loss: Callable[[Examples], tuple[Tensor, int]],
    optimiser: torch.optim.Optimizer,
    course: Course,
    *,
    rows: int,
    seed: int,
    device: torch.device,
    phase: str = "",
    validate: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "-",
    on_progress: Callable[[Progress], None] | None = None,
) -> Training:
    """Train to the end, or go on to it; the network then holds the best weights, the last without ``validate``.

    Parameters
    ----------
    network
        Whatever ``loss`` trains, on its device.
    examples
        What an epoch goes through, in an order of its own: ``int[examples]``.
    loss
        Gives for some of them the mean loss of their rows, and how many rows they have.
    optimiser, course
        The steps, and how many of them.
    rows
        Rows of all examples together.
    seed, device
        Of orders and draws; where the network is.
    phase
        What progress calls this training.
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
        K470 the loss or its gradient is not finite (names epoch and batch; the network and the checkpoint hold the
        state before it); K471, K472 the checkpoint belongs to another training, or is damaged.
    ResourceError
        K801 the checkpoint cannot be written.
    """
    steps = math.ceil(len(examples) / course.batch)
    loop = _Loop(
        network, loss, optimiser, course, steps, rows, device, phase, validate, checkpoint, fingerprint, on_progress
    )
    with torch.random.fork_rng(loop.generators):
        torch.manual_seed(seed)
        return loop.run(examples, seed)


def loss_is_finite(loss: Tensor, network: nn.Module) -> bool:
    """Whether a loss and all its slopes are, after ``backward``."""
    slopes = [p.grad for p in network.parameters() if p.grad is not None]
    return math.isfinite((loss.detach() + torch.nn.utils.get_total_norm(slopes)).item())


@dataclass
class _Loop:
    """A training at work."""

    network: nn.Module
    loss: Callable[[Examples], tuple[Tensor, int]]
    optimiser: torch.optim.Optimizer
    course: Course
    steps: int
    rows: int
    device: torch.device
    phase: str
    validate: Callable[[], float] | None
    checkpoint: Path | None
    fingerprint: str
    on_progress: Callable[[Progress], None] | None
    state: _State = field(default_factory=_State)
    best: dict[str, Tensor] | None = None

    @property
    def generators(self) -> list[torch.device]:
        """Devices with a random generator of their own."""
        return [self.device] if self.device.type == "cuda" else []

    def run(self, examples: Examples, seed: int) -> Training:
        self._resume()
        state, course = self.state, self.course
        self._begun = self._kept = monotonic()
        self._rows_before, self._seconds_before = state.all_rows, state.seconds
        while state.epoch < course.epochs and state.waited < course.patience:
            self._epoch(np.random.default_rng([seed, state.epoch]).permutation(examples))
        self._keep()
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self.network.eval()
        curve = tuple(Epoch(**epoch) for epoch in state.curve)
        return Training(curve, state.best_epoch or state.epoch, state.best, state.seconds, state.all_rows)

    def _epoch(self, order: Examples) -> None:
        state, size = self.state, self.course.batch
        self.network.train()
        while state.step < self.steps:
            loss, rows = self._step(order[state.step * size : (state.step + 1) * size])
            state.step += 1
            state.loss += loss * rows
            state.rows += rows
            state.all_rows += rows
            self._tick()
            self._tell()
            self._keep_in_time()
        self._close_epoch()

    def _step(self, chosen: Examples) -> tuple[float, int]:
        before = self._draws()
        loss, rows = self.loss(chosen)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if not loss_is_finite(loss, self.network):
            self._keep(before)
            raise RecommenderError(
                "K470",
                f"The loss or its gradient is not finite in epoch {self.state.epoch + 1}, batch {self.state.step + 1} "
                f"of {self.steps}; the last good state is kept.",
                "Lower learning_rate, raise temperature, or use precision float32.",
            )
        self.optimiser.step()
        return float(loss.item()), rows

    def _close_epoch(self) -> None:
        state, course = self.state, self.course
        state.epoch, state.step = state.epoch + 1, 0
        metric = None
        if self.validate is not None and (state.epoch % course.validate_every == 0 or state.epoch == course.epochs):
            self.network.eval()
            metric = self.validate()
            state.waited += 1
            if state.best is None or metric > state.best:
                state.best, state.best_epoch, state.waited = metric, state.epoch, 0
                self.best = copy.deepcopy(self.network.state_dict())
        self._tick()
        seconds = state.seconds - state.epoch_seconds
        state.curve.append(asdict(Epoch(state.epoch, state.loss / max(state.rows, 1), metric, seconds)))
        state.loss, state.rows, state.epoch_seconds = 0.0, 0, state.seconds
        self._keep_in_time()
        self._tell()

    def _tick(self) -> None:
        self.state.seconds = self._seconds_before + monotonic() - self._begun

    def _tell(self) -> None:
        if self.on_progress is None:
            return
        state, course = self.state, self.course
        done = state.all_rows - self._rows_before
        spent = max(monotonic() - self._begun, 1e-9)
        metrics = [epoch["metric"] for epoch in state.curve if epoch["metric"] is not None]
        at_work = state.step > 0
        self.on_progress(
            Progress(
                phase=self.phase,
                epoch=state.epoch + at_work,
                epochs=course.epochs,
                step=state.step if at_work else self.steps,
                steps=self.steps,
                loss=state.loss / max(state.rows, 1) if at_work else state.curve[-1]["loss"],
                metric=metrics[-1] if metrics else None,
                best=state.best,
                rows_per_second=done / spent,
                seconds_left=(self.rows * course.epochs - state.all_rows) * spent / max(done, 1),
                epoch_over=not at_work,
            )
        )

    def _keep_in_time(self) -> None:
        if monotonic() - self._kept >= self.course.checkpoint_seconds:
            self._keep()

    def _draws(self) -> dict[str, Tensor | None]:
        """Where the random generators stand."""
        return {
            "rng": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.generators else None,
        }

    def _keep(self, draws: dict[str, Tensor | None] | None = None) -> None:
        if self.checkpoint is None:
            return
        kept = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "state": asdict(self.state),
            **(draws or self._draws()),
        }
        save_checkpoint(self.checkpoint, kept, self.fingerprint)
        self._kept = monotonic()

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        kept = load_checkpoint(self.checkpoint, self.fingerprint, self.device)
        done = kept["state"]["epoch"] + bool(kept["state"]["step"])
        if done > self.course.epochs:
            raise RecommenderError(
                "K471",
                f"The checkpoint {self.checkpoint} is of a training that has come to epoch {done}, not "
                f"{self.course.epochs}.",
                "Give more epochs to go on, or another folder to begin anew.",
            )
        self.network.load_state_dict(kept["network"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.best, self.state = kept["best"], _State(**kept["state"])
        torch.set_rng_state(kept["rng"].cpu())
        if kept["cuda"] is not None and self.generators:
            torch.cuda.set_rng_state(kept["cuda"].cpu(), self.device)
