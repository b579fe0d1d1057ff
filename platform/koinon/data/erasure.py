"""Forgetting a person: out of the vault, out of everything derived from it, and kept out.

The source files are the partner's own and are not touched; a keyed hash of the forgotten id (the key lies beside it and
never leaves the partner) keeps the person out when they are read again. Models that learned from the person are
removed: a refit is needed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

import polars as pl

from koinon.config import write_atomically
from koinon.errors import DataError

__all__ = ["Tombstones"]


class Tombstones:
    """Keyed hashes of the people a partner was asked to forget, in ``erasure/`` of its folder.

    The hash is BLAKE2b with a random 256-bit key made at the first erasure and readable by the owner alone.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "erasure"
        self._key: bytes | None = None
        self._hashes: frozenset[str] = frozenset()
        listed = self._folder / "tombstones.json"
        if listed.is_file():
            try:
                self._key = bytes.fromhex((self._folder / "key").read_text(encoding="ascii"))
                self._hashes = frozenset(json.loads(listed.read_text(encoding="utf-8"))["tombstones"])
            except (OSError, ValueError, KeyError) as error:
                raise DataError(
                    "K226",
                    f"The list of forgotten people in {self._folder} cannot be read: {error}.",
                    "Restore the folder `erasure` from a backup; without it forgotten people would come back.",
                ) from error

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, user_id: str) -> bool:
        return bool(self._hashes) and self.hash(user_id) in self._hashes

    def hash(self, user_id: str) -> str:
        """Keyed hash of an id, 32 hexadecimal digits."""
        if self._key is None:
            self._key = secrets.token_bytes(32)
        return hashlib.blake2b(user_id.encode(), key=self._key, digest_size=16).hexdigest()

    def forgotten(self, user_ids: pl.Series) -> pl.Series:
        """Those of the given ids that are to be kept out, each once."""
        if not self._hashes:
            return user_ids.clear()
        distinct = user_ids.drop_nulls().unique()
        return pl.Series(distinct.name, [user for user in distinct if user in self], dtype=pl.String)

    def without(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Drop the rows of forgotten people from a table with a ``user_id``."""
        gone = self.forgotten(frame["user_id"])
        return frame if gone.is_empty() else frame.filter(~pl.col("user_id").is_in(gone.implode()))

    def add(self, user_id: str) -> str:
        """Put an id on the list; returns its hash."""
        digest = self.hash(user_id)
        assert self._key is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        key = self._folder / "key"
        if not key.exists():
            write_atomically(key, self._key.hex())
            key.chmod(0o600)
        self._hashes |= {digest}
        content = {"hash": "blake2b-128, keyed", "tombstones": sorted(self._hashes)}
        write_atomically(self._folder / "tombstones.json", json.dumps(content, indent=2) + "\n")
        return digest
