"""A partner's copy of the federation's ledger: what the server has once shown, it can no longer take back.

``<folder>/federation/ledger.jsonl``, one entry a line, as ``koinon ledger verify`` reads it. Every order of the server
brings the entries since those that the copy holds, and always the last one. They are taken over if the server has
signed them and they go on where the copy ends; a server that shows another history is not worked for, and what it has
shown is kept beside the copy as evidence (``ledger.conflict.jsonl``).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from koinon.config import write_atomically
from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, member_keys, read_lines
from koinon.privacy.signing import Verifier

__all__ = ["LedgerCopy"]

_BLOCK = 65536


class LedgerCopy:
    """One partner's copy.

    Parameters
    ----------
    folder
        The partner's folder.
    verifier
        The server's key, as pinned when the partner joined.
    """

    def __init__(self, folder: Path, verifier: Verifier) -> None:
        self.path = folder / "federation" / "ledger.jsonl"
        self.verifier = verifier

    def extend(self, news: bytes) -> None:
        """Take over what the server shows of its ledger; synced to the disk before this returns.

        Parameters
        ----------
        news
            Entries, one a line, in order; they may begin with some that the copy has.

        Raises
        ------
        FederationError
            K778 the server shows a ledger that contradicts the copy, ends before it, or is not signed; K779 entries
            between the copy and these are missing; K780 the copy itself is damaged.
        """
        shown = self._read(news)
        with self._locked() as file:
            head = _last(file, 1)
            known = _last(file, head[-1].sequence - shown[0].sequence + 1) if head else []
            if head and not (head[-1].intact() and head[-1].signed_by(self.verifier)):
                raise _damaged(self.path, "its last entry is not the server's")
            self._compare(shown, known, head, news)
            new = [entry for entry in shown if not head or entry.sequence > head[-1].sequence]
            file.seek(0, os.SEEK_END)
            file.write(b"".join(entry.line() + b"\n" for entry in new))
            file.flush()
            os.fsync(file.fileno())

    def counts(self, manifest_sha256: str) -> bool:
        """Whether the ledger says that a release was published and not that it was withdrawn."""
        published = withdrawn = False
        for entry in read_lines(self.path):
            if isinstance(entry, Entry) and entry.body.get("manifest_sha256") == manifest_sha256:
                published |= entry.kind == "release_published"
                withdrawn |= entry.kind == "release_rolled_back"
        return published and not withdrawn

    def members(self) -> dict[str, str]:
        """SHA-256 of every member's key, by name, as the ledger has it."""
        return member_keys(entry for entry in read_lines(self.path) if isinstance(entry, Entry))

    def _read(self, news: bytes) -> list[Entry]:
        """The entries shown: signed by the server, and each following from the one before."""
        if not news.endswith(b"\n"):
            raise self._refused("it shows no ledger", news)
        shown: list[Entry] = []
        for line in news[:-1].split(b"\n"):
            try:
                entry = Entry.of_line(line)
            except ValueError as error:
                raise self._refused(f"an entry cannot be read: {error}", news) from error
            linked = not shown or entry.follows(shown[-1])
            if entry.sequence < 1 or not (linked and entry.intact() and entry.signed_by(self.verifier)):
                raise self._refused(f"entry {entry.sequence} is not its own, or does not follow", news)
            shown.append(entry)
        return shown

    def _compare(self, shown: list[Entry], known: list[Entry], head: list[Entry], news: bytes) -> None:
        """Hold what is shown against the copy."""
        last = head[-1].sequence if head else 0
        if shown[-1].sequence < last:
            raise self._refused(f"its ledger ends with entry {shown[-1].sequence}, it has shown {last} before", news)
        if shown[0].sequence > last + 1:
            raise FederationError(
                "K779",
                f"The ledger's copy ends with entry {last}, the server shows entry {shown[0].sequence} next.",
                "The server sends what is missing with its next message.",
            )
        hashes = {entry.sequence: entry.hash for entry in known}
        for entry in shown:
            if hashes.get(entry.sequence, entry.hash) != entry.hash:
                raise self._refused(f"its entry {entry.sequence} is another one than it has shown before", news)
        new = next((entry for entry in shown if entry.sequence == last + 1), None)
        if new is not None and not new.follows(head[-1] if head else None):
            raise self._refused(f"its entry {new.sequence} does not follow from the copy's last one", news)

    def _refused(self, why: str, news: bytes) -> FederationError:
        """Keep the evidence and say what is wrong."""
        evidence = self.path.with_name("ledger.conflict.jsonl")
        write_atomically(evidence, news)
        return FederationError(
            "K778",
            f"The server's ledger cannot be believed: {why}. What it showed is kept in {evidence}.",
            "Do not go on; compare with the other partners' copies: `koinon ledger verify FILE --against COPY`.",
        )

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """The copy, for one process at a time, without the half line that a killed one may have left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            whole = size - len(_tail(file, 0))
            if whole < size:
                file.truncate(whole)
            try:
                yield file
            except ValueError as error:
                raise _damaged(self.path, str(error)) from error


def _last(file: BinaryIO, count: int) -> list[Entry]:
    """Up to ``count`` of a copy's last entries; ``ValueError`` where one cannot be read."""
    if count < 1:
        return []
    return [Entry.of_line(line) for line in _tail(file, count).split(b"\n")[:-1][-count:]]


def _tail(file: BinaryIO, lines: int) -> bytes:
    """The last ``lines`` whole lines and what follows them, read from the end."""
    at = file.seek(0, os.SEEK_END)
    found = b""
    while at > 0 and found.count(b"\n") <= lines:
        step = min(_BLOCK, at)
        at -= step
        file.seek(at)
        found = file.read(step) + found
    parts = found.rsplit(b"\n", lines + 1)
    return b"\n".join(parts[1:]) if len(parts) == lines + 2 else found


def _damaged(path: Path, why: str) -> FederationError:
    return FederationError(
        "K780",
        f"The ledger's copy {path} is damaged: {why}.",
        "Move it away and keep it; the server sends the ledger anew.",
    )
