"""Where an audit is entered before anything is computed: a ledger of its own, or a federation's.

The record beside a plan has the form of a federation's ledger (:mod:`koinon.privacy.ledger`): hash-chained entries,
signed with a key that is made beside it. ``koinon ledger verify`` reads it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from koinon.config import write_atomically
from koinon.errors import EvaluationError, FederationError
from koinon.privacy.ledger import Entry, read_lines, verify
from koinon.privacy.ledger.kinds import Kind, checked_body, checked_subject
from koinon.privacy.signing import Signer, Verifier

__all__ = ["RECORD_FILE", "LocalRecord", "Record", "enter_plan", "enter_report", "plan_entry"]

RECORD_FILE = "record.jsonl"
_KEY_FILE = "record.key"


class Record(Protocol):
    """A ledger that an audit may be entered in."""

    def entries(self) -> list[Entry]:
        """Return every entry, in order.

        Raises
        ------
        KoinonError
            The record is damaged.
        """
        ...

    def append(self, kind: Kind, subject: str, **body: Any) -> Entry:
        """Enter something; it is on the disk when this returns."""
        ...


class LocalRecord:
    """The record beside a plan.

    Parameters
    ----------
    folder
        Holds ``record.jsonl`` and, where entries are made, ``record.key`` (mode 600).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD_FILE
        self._key = folder / _KEY_FILE

    def entries(self) -> list[Entry]:
        """Return every entry, in order.

        Raises
        ------
        EvaluationError
            K532 an entry was edited, removed, put elsewhere, or is not signed by the key of the first.
        """
        if not self.path.is_file():
            return []
        found = list(read_lines(self.path))
        first = found[0] if found else None
        try:
            verifier = Verifier(str(first.body["key"] if isinstance(first, Entry) else ""))
        except (FederationError, KeyError) as error:
            raise _damaged(self.path, "it does not begin with its key") from error
        findings = verify(found, verifier)
        if not findings.whole:
            raise _damaged(self.path, findings.faults[0].message.rstrip("."))
        return [entry for entry in found if isinstance(entry, Entry)]

    def append(self, kind: Kind, subject: str, **body: Any) -> Entry:
        """Enter something; it is on the disk when this returns.

        Raises
        ------
        EvaluationError
            K532 the record is damaged.
        FederationError
            K772 the key cannot be read, K774 something that is not declared for the kind.
        """
        signer = Signer.open(self._key)
        with self._locked():
            entries = self.entries()
            if not entries:
                entries.append(self._next(None, signer, Kind.AUDIT_RECORD, subject, {"key": signer.key}))
            if not entries[-1].signed_by(signer.verifier):
                raise _damaged(self.path, "its key is another one than the one beside it")
            entries.append(self._next(entries[-1], signer, kind, subject, body))
            write_atomically(self.path, b"".join(entry.line() + b"\n" for entry in entries))
        return entries[-1]

    @staticmethod
    def _next(last: Entry | None, signer: Signer, kind: Kind, subject: str, body: Mapping[str, Any]) -> Entry:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        checked = checked_body(kind, dict(body))
        return Entry.make(last, signer, time=now, kind=str(kind), subject=checked_subject(subject), body=checked)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._key.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def plan_entry(entries: list[Entry], name: str, plan_sha256: str) -> Entry | None:
    """The first entry of a plan in a record."""
    return next(
        (
            e
            for e in entries
            if e.kind == Kind.AUDIT_PLAN and e.subject == name and e.body["plan_sha256"] == plan_sha256
        ),
        None,
    )


def enter_plan(record: Record, name: str, plan_sha256: str) -> Entry:
    """Enter a plan, unless it is already; nothing may have been computed yet.

    Raises
    ------
    EvaluationError
        K528 results of another plan with this name are on record: this one was changed after they were seen.
    """
    entries = record.entries()
    for entry in entries:
        if entry.kind == Kind.AUDIT and entry.subject == name and entry.body["plan_sha256"] != plan_sha256:
            raise EvaluationError(
                "K528",
                f"The plan of {name!r} was changed after results were computed (entry {entry.sequence}).",
                "Restore the plan, or give the changed one another name: it is another audit.",
            )
    return plan_entry(entries, name, plan_sha256) or record.append(Kind.AUDIT_PLAN, name, plan_sha256=plan_sha256)


def enter_report(record: Record, name: str, plan_sha256: str, report_sha256: str) -> Entry:
    """Enter what an audit has found."""
    return record.append(Kind.AUDIT, name, plan_sha256=plan_sha256, report_sha256=report_sha256)


def _damaged(path: Path, why: str) -> EvaluationError:
    return EvaluationError("K532", f"The record {path} is damaged: {why}.", "Restore it from a copy.")
