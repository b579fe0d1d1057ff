"""What survives a killed server: one file per learner, replaced whole after every round; releases in numbered folders.

Layout of a federation's output folder::

    state/run.json                 which run this is, for which policy, and whether it has finished
    state/<learner>.safetensors    the newest finished round: the release's arrays, the plan's own arrays, the round
    releases/0001/                 a published release: tensors.safetensors, manifest.json
    progress.jsonl                 what happened, one event a line
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from koinon.config import write_atomically
from koinon.errors import FederationError, ResourceError
from koinon.recommenders.protocol import Release

__all__ = ["Checkpoint", "Checkpoints", "RunState", "read_release", "save_arrays", "tensor_sha256"]

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
    """

    release: Release
    plan_state: Arrays
    participants: tuple[str, ...]


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
        arrays, metadata = _load(path)
        try:
            about = json.loads(metadata["checkpoint"])
            release = Release(about["number"], about["recommender"], _under(arrays, "release/"), about["info"])
            return Checkpoint(release, _under(arrays, "plan/"), tuple(about["participants"]))
        except (KeyError, ValueError, TypeError) as error:
            raise _damaged(path, error) from error

    def publish(self, learner: str, checkpoint: Checkpoint, state: RunState) -> Path:
        """Write a learner's last round as a numbered release; a release already published is found again."""
        releases = self.out / "releases"
        for folder in sorted(releases.glob("[0-9][0-9][0-9][0-9]")):
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if (manifest["run"], manifest["learner"]) == (state.run, learner):
                return folder
        release = checkpoint.release
        number = max((int(f.name) for f in releases.glob("[0-9][0-9][0-9][0-9]")), default=0) + 1
        manifest = {
            "number": number,
            "run": state.run,
            "learner": learner,
            "round": release.number,
            "participants": list(checkpoint.participants),
            "policy_sha256": state.policy_sha256,
            "koinon_version": version("koinon"),
            "info": dict(release.info),
            "tensors": {
                name: {"shape": list(a.shape), "dtype": a.dtype.name, "sha256": tensor_sha256(a)}
                for name, a in sorted(release.arrays.items())
            },
        }
        target = releases / f"{number:04d}"
        releases.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=releases, prefix=f".{target.name}."))
        try:
            save_arrays(half / "tensors.safetensors", release.arrays)
            write_atomically(half / "manifest.json", json.dumps(manifest, indent=2) + "\n")
            half.chmod(0o755)
            half.rename(target)
        except OSError as error:
            raise _full(target, error) from error
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return target


def read_release(folder: Path) -> Release:
    """Read a published release and hold its tensors against the manifest.

    Raises
    ------
    FederationError
        K710 a file is missing or damaged, K711 a tensor is not the one the manifest names.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        arrays, _ = _load(folder / "tensors.safetensors")
        release = Release(manifest["round"], manifest["learner"], arrays, manifest["info"])
        expected = {name: entry["sha256"] for name, entry in manifest["tensors"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if {name: tensor_sha256(array) for name, array in arrays.items()} != expected:
        raise FederationError(
            "K711", f"The tensors of {folder} are not those of its manifest.", "Fetch the release again."
        )
    return release


def save_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays as safetensors, whole or not at all.

    Raises
    ------
    ResourceError
        K801 the disk is full.
    """
    rows = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(path, save(rows, dict(metadata or {})))


def _load(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
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


def _full(path: Path, error: Exception) -> ResourceError:
    return ResourceError("K801", f"Cannot write {path}: {error}.", "Free disk space or choose another folder.")
