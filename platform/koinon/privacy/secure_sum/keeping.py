"""A partner's state between two messages of a secure sum: a file that its owner alone can read, gone after the last."""

from __future__ import annotations

from pathlib import Path

from koinon.config import write_atomically
from koinon.errors import PrivacyError

__all__ = ["destroy_state", "load_state", "save_state"]


def save_state(path: Path, state: bytes) -> None:
    """Write a state whole or not at all, mode 600 from its first byte on.

    Raises
    ------
    ResourceError
        K801 the folder cannot be written.
    """
    write_atomically(path, state, private=True)


def load_state(path: Path) -> bytes:
    """Read a state.

    Raises
    ------
    PrivacyError
        K634 there is none, or others may read it.
    """
    try:
        private = path.stat().st_mode & 0o077 == 0
        state = path.read_bytes()
    except OSError as error:
        raise PrivacyError(
            "K634", f"The state of a secure sum {path} cannot be read.", "This round goes on without the partner."
        ) from error
    if not private:
        raise PrivacyError(
            "K634", f"Others may read {path}, which holds the secrets of a secure sum.", "Remove it; see to the folder."
        )
    return state


def destroy_state(path: Path) -> None:
    """Remove a state, to be done before the last answer is sent; nothing happens where there is none."""
    path.unlink(missing_ok=True)
