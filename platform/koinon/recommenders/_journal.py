"""Finished trials on disk, each a file of its own, so that an interrupted search does not run them again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config, write_atomically

__all__ = ["Journal"]


class Journal:
    """What trials have come to, by family and settings.

    Parameters
    ----------
    folder
        Where the files are; created with the first of them.
    asked
        Everything else a trial's value depends on: data, validation users, metric, seeds. Trials of another question
        in the same folder are left alone.
    """

    def __init__(self, folder: Path, asked: str) -> None:
        self.folder, self.asked = folder, asked

    def find(self, family: str, config: Config) -> tuple[NDArray[np.float64], float] | None:
        """Metric of each user, ``float64[users]``, and the seconds it took; ``None`` if it is not there or damaged."""
        try:
            found = json.loads(self._file(family, config).read_text(encoding="utf-8"))
            return np.array(found["values"], dtype=np.float64), float(found["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, family: str, config: Config, values: NDArray[np.float64], seconds: float) -> None:
        """Write a finished trial, whole or not at all.

        Raises
        ------
        ResourceError
            K801 the disk is full or the folder cannot be written.
        """
        trial = {
            "family": family,
            "config": config.model_dump(mode="json"),
            "mean": float(values.mean()),
            "seconds": seconds,
            "values": values.tolist(),
        }
        write_atomically(self._file(family, config), json.dumps(trial) + "\n")

    def _file(self, family: str, config: Config) -> Path:
        key = "\x1f".join((self.asked, family, config.model_dump_json()))
        return self.folder / f"{family}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
