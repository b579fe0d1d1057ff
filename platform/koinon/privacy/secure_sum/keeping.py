"""A partner's state between two messages of a secure sum: a file that its owner alone can read, gone after the last."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from koinon.errors import PrivacyError, ResourceError

__all__ = ["destroy_state", "load_state", "save_state"]


def save_state(path: Path, state: bytes) -> None:
    """Write a state whole or not at all, mode 600 from its first byte on.

    Raises
    ------
    ResourceError
        K801 the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            "K801", f"Cannot write {path}: {error.strerror or error}.", "Free disk space or choose another folder."
        ) from error


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
