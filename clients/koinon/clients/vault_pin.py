"""The vault that a run began with: whoever's tables change while it trains says so before it goes on.

A partner's catalogue is told once, at the beginning, and its sums are held against that. When its tables change later,
its next answer is K726 and nothing else; the server leaves it out of that round, asks for its catalogue anew, and the
run goes on with the tables as they are then.
"""

from __future__ import annotations

import json

from koinon.clients.home import Home
from koinon.config import write_atomically
from koinon.errors import FederationError

__all__ = ["check_vault", "pin_vault"]


def pin_vault(home: Home, run: str, fingerprint: str) -> None:
    """Note which tables a run's catalogue was told from."""
    write_atomically(home.folder / "federation" / "told.json", json.dumps({"run": run, "vault": fingerprint}))


def check_vault(home: Home, run: str, fingerprint: str) -> None:
    """Hold the tables against those of the run's catalogue; without any note of them, these are noted.

    Raises
    ------
    FederationError
        K726 they have changed.
    """
    try:
        told = json.loads((home.folder / "federation" / "told.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}
    if told.get("run") != run:
        pin_vault(home, run, fingerprint)
    elif told.get("vault") != fingerprint:
        raise FederationError(
            "K726",
            f"The vault of {home.name} changed while the federation trained ({told.get('vault')} to {fingerprint}).",
            "The server asks for the catalogue anew, and later rounds use the vault as it is now.",
        )
