"""What survives a killed server: one file per learner, replaced whole after every round.

Layout of a federation's output folder::

    state/run.json                 which run this is, for which policy, and whether it has finished
    state/<learner>.safetensors    the newest finished round: the release's arrays, the plan's own arrays, the round
    releases/0001/                 a published release (koinon.server.state.release_book)
    progress.jsonl                 what happened, one event a line
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from koinon.config import write_atomically
from koinon.errors import FederationError
from koinon.recommenders.protocol import Release

__all__ = ["Checkpoint", "Checkpoints", "RunState", "load_arrays", "save_arrays", "tensor_sha256"]

Arrays = Mapping[str, NDArray[np.generic]]


def tensor_sha256(array: NDArray[np.generic]) -> str:
    """SHA-256 of an array's row-major bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@dataclass(frozen=True)
class RunState:
    """Which run an output folder holds."""

    run: str
    policy_sha256: str
    finished: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """A learner after its newest finished round.

    Attributes
    ----------
    release
        What the partners get next; ``release.number`` is the round it was made in.
    plan_state
        Arrays the plan keeps for itself between rounds.
    participants
        Who contributed to the last round.
    metrics
        Its figures: means over the participants that gave them.
    left_out
        Who was left out of it, with the code that says why.
    """

    release: Release
    plan_state: Arrays
    participants: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


class Checkpoints:
    """Reads and writes an output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "state"

    def run_state(self) -> RunState | None:
        """The run this folder holds, or ``None``.

        Raises
        ------
        FederationError
            K710 the file is damaged.
        """
        path = self.folder / "run.json"
        if not path.is_file():
            return None
        try:
            return RunState(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise _damaged(path, error) from error

    def begin(self, run: str, policy_sha256: str) -> RunState:
        """Start a run: earlier learners' rounds are dropped, earlier releases stay."""
        for stale in self.folder.glob("*.safetensors"):
            stale.unlink()
        return self._write(RunState(run, policy_sha256))

    def drop(self) -> None:
        """Forget an unfinished run and all its rounds; releases stay."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, state: RunState) -> None:
        """Mark the run as finished: the next start begins a new one."""
        self._write(RunState(state.run, state.policy_sha256, finished=True))

    def _write(self, state: RunState) -> RunState:
        write_atomically(self.folder / "run.json", json.dumps(vars(state)))
        return state

    def save(self, learner: str, checkpoint: Checkpoint) -> None:
        """Write a finished round, whole or not at all.

        Raises
        ------
        ResourceError
            K801 the disk is full; the round before stays as it was.
        """
        arrays = {f"release/{name}": array for name, array in checkpoint.release.arrays.items()}
        arrays |= {f"plan/{name}": array for name, array in checkpoint.plan_state.items()}
        about = {
            "number": checkpoint.release.number,
            "recommender": checkpoint.release.recommender,
            "info": dict(checkpoint.release.info),
            "participants": list(checkpoint.participants),
            "metrics": dict(checkpoint.metrics),
            "left_out": dict(checkpoint.left_out),
        }
        save_arrays(self.folder / f"{learner}.safetensors", arrays, {"checkpoint": json.dumps(about)})

    def load(self, learner: str) -> Checkpoint | None:
        """The newest finished round, or ``None``.

        Raises
        ------
        FederationError
            K710 the file is damaged.
        """
        path = self.folder / f"{learner}.safetensors"
        if not path.is_file():
            return None
        arrays, metadata = load_arrays(path)
        try:
            about = json.loads(metadata["checkpoint"])
            release = Release(about["number"], about["recommender"], _under(arrays, "release/"), about["info"])
            round_ = (tuple(about["participants"]), about["metrics"], about["left_out"])
            return Checkpoint(release, _under(arrays, "plan/"), *round_)
        except (KeyError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error


def save_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, whole or not at all.

    Raises
    ------
    ResourceError
        K801 the disk is full.
    """
    rows = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, save(rows, dict(metadata or {})))


def load_arrays(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Read a file of :func:`save_arrays`: the arrays and the metadata.

    Raises
    ------
    FederationError
        K710 the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def _under(arrays: Arrays, prefix: str) -> dict[str, NDArray[np.generic]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _damaged(path: Path, error: Exception) -> FederationError:
    return FederationError(
        "K710", f"{path} is damaged: {error}.", "Remove the output folder's state to begin a new run."
    )
