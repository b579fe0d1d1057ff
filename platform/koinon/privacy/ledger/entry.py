"""One entry of a ledger: canonical bytes, hash, link to the entry before, signature.

An entry's hash is the SHA-256 of the canonical JSON (:mod:`koinon.privacy.canonical`) of its first six fields::

    {"body":{...},"kind":"...","previous":"<64 hex>","sequence":1,"subject":"...","time":"2026-01-31T12:00:00.000Z"}

and the server signs the hash's 32 bytes. As ``previous`` is the hash of the entry before, a signature under an entry is
one under everything before it too. A ledger's export, and a partner's copy, hold one entry a line, in canonical form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koinon.errors import FederationError
from koinon.privacy.canonical import canonical, parsed
from koinon.privacy.signing import Signer, Verifier

__all__ = ["GENESIS", "Entry", "read_lines"]

GENESIS = "0" * 64
"""What the first entry names as the hash of the one before."""
_PURPOSE = "ledger entry 1"
_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_TYPES = {
    "sequence": int, "time": str, "kind": str, "subject": str, "body": dict, "previous": str, "hash": str,
    "signature": str,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes
    ----------
    sequence
        From 1, without gaps.
    time
        UTC, ISO 8601 with milliseconds, as the server's clock said; the order of entries is that of ``sequence``.
    kind
        What happened (:class:`koinon.privacy.ledger.kinds.Kind`).
    subject
        Whom or what it concerns: a partner's name, a learner's, the federation's.
    body
        Plain values, declared by kind.
    previous
        Hash of the entry before, :data:`GENESIS` for the first.
    hash, signature
        In hexadecimal.
    """

    sequence: int
    time: str
    kind: str
    subject: str
    body: Mapping[str, Any]
    previous: str
    hash: str
    signature: str

    @classmethod
    def make(
        cls, previous: Entry | None, signer: Signer, *, time: str, kind: str, subject: str, body: Mapping[str, Any]
    ) -> Entry:
        """Make the entry that follows ``previous`` (``None``: the first)."""
        sequence, link = (previous.sequence + 1, previous.hash) if previous else (1, GENESIS)
        digest = _digest(sequence, time, kind, subject, body, link)
        signature = signer.sign(_PURPOSE, digest)
        return cls(sequence, time, kind, subject, body, link, digest.hex(), signature.hex())

    @classmethod
    def of_line(cls, line: bytes) -> Entry:
        """Read an entry from a line (without its end).

        Raises
        ------
        ValueError
            It is none, or not in the one form an entry has.
        """
        fields = parsed(line)
        if not isinstance(fields, dict):
            raise ValueError("not the fields of an entry")
        return cls.of_fields(fields)

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Entry:
        """Make an entry of its fields, wherever they were kept.

        Raises
        ------
        ValueError
            A field is missing, unknown or of another type.
        """
        if set(fields) != set(_TYPES):
            raise ValueError("not the fields of an entry")
        if wrong := [name for name, kind in _TYPES.items() if type(fields[name]) is not kind]:
            raise ValueError(f"field {wrong[0]} is of another type")
        return cls(**fields)

    def line(self) -> bytes:
        """Return the entry as one line (without its end)."""
        return canonical({name: getattr(self, name) for name in _TYPES})

    def intact(self) -> bool:
        """Whether the hash is that of the content."""
        try:
            found = _digest(self.sequence, self.time, self.kind, self.subject, self.body, self.previous)
        except (TypeError, ValueError):
            return False
        return found.hex() == self.hash

    def signed_by(self, verifier: Verifier) -> bool:
        """Whether the key's owner has signed the hash."""
        if not (_HASH.fullmatch(self.hash) and _SIGNATURE.fullmatch(self.signature)):
            return False
        return verifier.valid(_PURPOSE, bytes.fromhex(self.hash), bytes.fromhex(self.signature))

    def follows(self, previous: Entry | None) -> bool:
        """Whether this is the entry after ``previous`` (``None``: the first of a ledger)."""
        sequence, link = (previous.sequence + 1, previous.hash) if previous else (1, GENESIS)
        return (self.sequence, self.previous) == (sequence, link)


def _digest(sequence: int, time: str, kind: str, subject: str, body: Mapping[str, Any], previous: str) -> bytes:
    content = {
        "sequence": sequence, "time": time, "kind": kind, "subject": subject, "body": body, "previous": previous,
    }  # fmt: skip
    return hashlib.sha256(canonical(content)).digest()


def read_lines(path: Path) -> Iterator[Entry | ValueError]:
    """Read an export or a copy, line by line; a line that holds no entry comes as the reason why.

    Raises
    ------
    FederationError
        K773 the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("the line is cut off")
                    yield Entry.of_line(line[:-1])
                except ValueError as error:
                    yield error
    except OSError as error:
        raise FederationError("K773", f"Cannot read the ledger {path}: {error}.", "Check the path.") from error
