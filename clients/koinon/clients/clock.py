"""How far this machine's clock may be off before a federation's server does not hear it any more."""

from __future__ import annotations

import time
from pathlib import Path

from koinon.clients.joining import Member, Refused
from koinon.errors import KoinonError, ResourceError

__all__ = ["AHEAD_S", "BEHIND_S", "check_clock"]

AHEAD_S, BEHIND_S = 5.0, 300.0
"""Flower's SuperLink takes a node's signature for so long: not from further in the future, nor from longer ago."""
_REFUSED = "K756"
REMEDY = "Set the clock, e.g. by NTP (`timedatectl set-ntp true`), and start the node again."


def check_clock(folder: Path) -> None:
    """Ask a member's federation for the time.

    Raises
    ------
    ResourceError
        K829 this machine's clock is further off than the server allows. Where the server cannot be asked, nothing is.
    """
    try:
        with Member(folder) as member:
            off = time.time() - member.describe().server_time_ms / 1000
    except Refused as error:
        if error.code != _REFUSED:
            return
        raise ResourceError("K829", "This machine's clock is more than 5 minutes off the server's.", REMEDY) from error
    except KoinonError as error:
        if error.code == "K829":
            raise
        return
    if not -BEHIND_S < off < AHEAD_S:
        said = f"This machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the server's"
        raise ResourceError("K829", f"{said}, which does not hear such a node.", REMEDY)
