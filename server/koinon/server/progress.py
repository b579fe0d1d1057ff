"""What happens in a federation, one JSON line an event.

The coordinator writes them to a file of the run, the launcher reads them there, keeps them in the output folder and
shows them. A full output disk therefore still gets its error told.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["PID_FILE", "Event", "Progress", "ProgressLog", "ProgressReader"]

Event = Mapping[str, Any]
"""``event`` names its kind: ``started, resumed, joined, left_out, round, release, adopted, finished, failed``;
``time`` is in seconds since 1970 UTC; the rest belongs to the kind."""

PID_FILE = "server.pid"
"""Beside the events, the process that tells them: when it has gone without a last word, the run is over."""

Progress = Callable[[Event], None]


class ProgressLog:
    """Appends events to a file, each line in one go."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: str, **fields: object) -> None:
        """Append one event; its time is now unless it brings one."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)


class ProgressReader:
    """Reads a progress file as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0

    def new(self) -> Iterator[Event]:
        """Events whose lines have been finished since the last call."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                yield json.loads(line)
