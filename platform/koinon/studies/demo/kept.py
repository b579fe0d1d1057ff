"""What an earlier run has found and still holds, so that a second run need not repeat it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import polars as pl

from koinon.config import write_atomically
from koinon.evaluation import Evaluation
from koinon.server import FederationResult

__all__ = ["Kept"]


class Kept:
    """Finished parts, each file named by what it was made from: nothing that has changed is ever found.

    Parameters
    ----------
    folder
        Where they are kept.
    made_from
        Everything they depend on, as JSON: settings, vaults, encoder. The version of Koinon is added.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, object]) -> None:
        text = json.dumps({**made_from, "koinon": version("koinon")}, sort_keys=True, default=str)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def federation(self, out: Path) -> FederationResult | None:
        """How the finished federation went, if it did; ``out`` is its output folder."""
        try:
            kept = json.loads((self.folder / "federation.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        releases = {learner: out / "releases" / name for learner, name in kept.pop("releases").items()}
        return FederationResult(**{**kept, "out": out, "releases": releases, "rounds": tuple(kept["rounds"])})

    def keep_federation(self, result: FederationResult) -> None:
        """Note a finished federation in which no partner is missing; another one is run again next time."""
        if result.left_out:
            return
        plain = {**asdict(result), "releases": {name: folder.name for name, folder in result.releases.items()}}
        write_atomically(self.folder / "federation.json", json.dumps(plain, default=str))

    def evaluation(self, name: str) -> Evaluation | None:
        """Return the evaluation kept under a name, if there is one."""
        try:
            note = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            return Evaluation(pl.read_parquet(self.folder / f"{name}.parquet"), note["k"], note["catalogue"])
        except (OSError, ValueError, pl.exceptions.PolarsError):
            return None

    def keep_evaluation(self, name: str, evaluation: Evaluation) -> None:
        """Keep an evaluation; the note is written last and vouches for the table."""
        evaluation.save(self.folder / f"{name}.parquet")
        note = {"k": evaluation.k, "catalogue": dict(evaluation.catalogue)}
        write_atomically(self.folder / f"{name}.json", json.dumps(note))
