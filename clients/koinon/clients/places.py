"""Places to compute: partners of one machine take turns, so that ten of them do not crowd two cores and the memory."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["place"]


@contextmanager
def place(places: Path | None) -> Iterator[None]:
    """Hold one of the machine's places while computing; wait until one is free.

    Parameters
    ----------
    places
        A folder with one empty file per place; ``None``: as many as there are partners. A place is a file lock, which
        the kernel frees when its holder ends, however it ends.
    """
    if places is None:
        yield
        return
    handles = [path.open("r") for path in sorted(places.iterdir())]
    try:
        while handles:
            for handle in handles:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
            time.sleep(0.05)
        yield
    finally:
        for handle in handles:
            handle.close()
