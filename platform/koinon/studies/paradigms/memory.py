"""How much memory a process holds, and the most it has held since a moment of one's choice."""

from __future__ import annotations

import gc
import resource
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["begin", "peak_mb"]

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def begin() -> float:
    """Let the peak begin anew, where the system can; return the megabytes that are held now."""
    gc.collect()
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")  # Linux: the peak of resident memory is reset
    return float(psutil.Process().memory_info().rss) / 1e6


def peak_mb() -> float:
    """Most megabytes held since :func:`begin`; since the process began where the system keeps no other record."""
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # kibibytes on Linux
