"""The one training loop of click networks: both stages of CTRL run in it, and both go on where they were killed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from torch import Tensor, nn

from koinon.errors import RecommenderError
from koinon.recommenders.sequential.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["Course", "Fitted", "Standing", "fit_network"]


@dataclass(frozen=True)
class Course:
    """How long and in which steps.

    Attributes
    ----------
    epochs, patience
        Passes over the rows at most; validations without a better value after which it ends.
    batch_rows
        Rows of a step.
    checkpoint_seconds
        At least so long from one checkpoint to the next.
    """

    epochs: int
    patience: int
    batch_rows: int
    checkpoint_seconds: float


@dataclass(frozen=True)
class Standing:
    """Where a training stands: ``epoch`` is 1-based, ``loss`` the mean of the epoch so far."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    metric: float | None
    best: float | None
    rows_per_second: float
    epoch_over: bool


@dataclass(frozen=True)
class Fitted:
    """What a training came to: ``curve`` holds loss, value on validation and seconds of every epoch."""

    curve: tuple[dict[str, float | None], ...]
    best_epoch: int
    best: float | None
    seconds: float


@dataclass
class _State:
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    waited: int = 0
    best: float | None = None
    best_epoch: int = 0
    curve: list[dict[str, float | None]] = field(default_factory=list)


def fit_network(
    network: nn.Module,
    rows: int,
    loss: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    course: Course,
    *,
    phase: str,
    seed: int,
    device: torch.device,
    validate: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    fingerprint: str = "-",
    on_progress: Callable[[Standing], None] | None = None,
) -> Fitted:
    """Train to the end, or go on to it; the network then holds the best weights, the last without ``validate``.

    Parameters
    ----------
    network
        Whatever ``loss`` trains, on its device.
    rows, loss
        How many rows there are, and the loss of some of them, ``int64[batch]`` on the device.
    optimiser, course
        Steps, and how many of them.
    phase
        What progress calls it.
    seed, device
        Of the rows' order (it depends on seed and epoch alone) and of draws; where they are drawn.
    validate
        The value to maximise; asked after every epoch.
    checkpoint, fingerprint
        File to keep the state in and to go on from; one with another fingerprint is refused.
    on_progress
        Called after every step and every epoch.

    Raises
    ------
    RecommenderError
        K470 the loss or its gradient is not finite; K471, K472 the checkpoint is another training's, or damaged.
    """
    state, best = _State(), None
    steps = math.ceil(rows / course.batch_rows)
    devices = [device] if device.type == "cuda" else []

    def keep() -> None:
        if checkpoint is None:
            return
        held = {
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "best": best,
            "rng": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if devices else None,
            "state": asdict(state),
        }
        save_checkpoint(checkpoint, held, fingerprint)

    def tell(epoch_over: bool) -> None:
        if on_progress is None:
            return
        last = state.curve[-1] if state.curve else {"metric": None, "loss": None}
        said = last["loss"] if epoch_over else state.loss / max(state.step, 1)
        done = ((state.epoch - begun[0]) * steps + state.step - begun[1]) * course.batch_rows
        pace = done / max(monotonic() - started, 1e-9)
        on_progress(
            Standing(
                phase, state.epoch + (not epoch_over), course.epochs, steps if epoch_over else state.step, steps,
                float(said or 0.0), last["metric"], state.best, pace, epoch_over,
            )
        )  # fmt: skip

    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        if checkpoint is not None and checkpoint.exists():
            held = load_checkpoint(checkpoint, fingerprint, device)
            network.load_state_dict(held["network"])
            optimiser.load_state_dict(held["optimiser"])
            best, state = held["best"], _State(**held["state"])
            torch.set_rng_state(held["rng"].cpu())
            if devices and held["cuda"] is not None:
                torch.cuda.set_rng_state(held["cuda"].cpu(), device)
        begun, started, kept, spent = (state.epoch, state.step), monotonic(), monotonic(), state.seconds
        while state.epoch < course.epochs and state.waited < course.patience:
            order = np.random.default_rng([seed, state.epoch]).permutation(rows)
            network.train()
            while state.step < steps:
                chosen = order[state.step * course.batch_rows : (state.step + 1) * course.batch_rows]
                state.loss += _step(network, loss, optimiser, torch.from_numpy(chosen).to(device), state, steps)
                state.step += 1
                state.seconds = spent + monotonic() - started
                tell(False)
                if monotonic() - kept >= course.checkpoint_seconds:
                    keep()
                    kept = monotonic()
            network.eval()
            metric = None if validate is None else validate()
            state.epoch, state.step = state.epoch + 1, 0
            if metric is not None:
                state.waited += 1
                if state.best is None or metric > state.best:
                    state.best, state.best_epoch, state.waited = metric, state.epoch, 0
                    best = copy.deepcopy(network.state_dict())
            state.seconds = spent + monotonic() - started
            before = sum(float(epoch["seconds"] or 0.0) for epoch in state.curve)
            state.curve.append({"loss": state.loss / steps, "metric": metric, "seconds": state.seconds - before})
            state.loss = 0.0
            tell(True)
        keep()
    if best is not None:
        network.load_state_dict(best)
    network.eval()
    return Fitted(tuple(state.curve), state.best_epoch or state.epoch, state.best, state.seconds)


def _step(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    chosen: Tensor,
    state: _State,
    steps: int,
) -> float:
    value = loss(chosen)
    optimiser.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    slopes = [p.grad for p in network.parameters() if p.grad is not None]
    told = float(value.item())
    if not math.isfinite(told + torch.nn.utils.get_total_norm(slopes).item()):
        raise RecommenderError(
            "K470",
            f"The loss or its gradient is not finite in epoch {state.epoch + 1}, batch {state.step + 1} of {steps}; "
            "the last good state is kept.",
            "Lower learning_rate or raise temperature.",
        )
    optimiser.step()
    return told
