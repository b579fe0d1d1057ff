"""The match key: a secret the partners share and the server does not know.

With it the identity keys of a catalogue travel as HMAC-SHA-256
(:func:`koinon.recommenders.federated.identities.catalogue_of`): equal works have equal hashes, and nobody without the
key can try titles out.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from koinon.errors import PrivacyError

__all__ = ["MATCH_KEY_FILE", "read_match_key", "write_match_key"]

MATCH_KEY_FILE = "match.key"
BYTES = 32


def read_match_key(folder: Path) -> bytes:
    """Read the match key in a partner's folder.

    Raises
    ------
    PrivacyError
        K620 there is none, it is readable by others, or it is shorter than 32 bytes.
    """
    path = folder / MATCH_KEY_FILE
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        private = path.stat().st_mode & 0o077 == 0
    except (OSError, ValueError) as error:
        raise PrivacyError(
            "K620",
            f"The match key {path} cannot be read: {error}.",
            "Get it from another partner, not from the server.",
        ) from error
    if len(secret) < BYTES or not private:
        raise PrivacyError(
            "K620",
            f"The match key {path} must hold at least {BYTES} bytes in hexadecimal and be readable by its owner alone.",
            "Get it from another partner and `chmod 600` it.",
        )
    return secret


def write_match_key(folders: Sequence[Path]) -> None:
    """Write one new random key into every folder, readable by its owner alone.

    Raises
    ------
    PrivacyError
        K621 a folder has a key already; nothing is written.
    """
    for folder in folders:
        if (folder / MATCH_KEY_FILE).exists():
            raise PrivacyError(
                "K621", f"{folder} has a match key already.", "Remove it first if all partners are to get a new one."
            )
    secret = secrets.token_hex(BYTES) + "\n"
    for folder in folders:
        handle = os.open(folder / MATCH_KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secret)
