"""Decisions as JSON lines: what was chosen and why, and nothing of who asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from koinon.errors import RecommenderError

__all__ = ["DecisionLog"]


class DecisionLog:
    """Appends one line for every decision. It holds no user, no history and no words.

    Parameters
    ----------
    path
        The file; made where it does not exist, and its folder.

    Attributes
    ----------
    lost
        Lines that could not be written: an answer does not fail for want of its line.

    Raises
    ------
    RecommenderError
        K496 the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, 0
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8"):
                pass
        except OSError as error:
            raise RecommenderError(
                "K496", f"The log of decisions {path} cannot be written: {error.strerror}.", "Name another file."
            ) from error

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line, whole."""
        text = json.dumps(dict(line), ensure_ascii=False) + "\n"
        with self._lock:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(text)
            except OSError:
                self.lost += 1
