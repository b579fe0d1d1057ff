"""The server's ledger: its entries in the database, appended one after the other and never changed.

An entry is appended in a transaction of its own, or in the one that changes what the entry is about, so that either
both are there or neither. :meth:`Store.session` lets one writer in at a time: two processes cannot append to the same
head. An entry that :meth:`LedgerBook.append` has returned is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Mapped, Session, mapped_column

from koinon.errors import FederationError
from koinon.privacy.canonical import canonical, parsed
from koinon.privacy.ledger import Entry
from koinon.privacy.ledger.kinds import Kind, checked_body, checked_subject
from koinon.privacy.signing import Signer
from koinon.server.state.store import Base, Store

__all__ = ["LedgerBook", "entry_of", "read_book"]


_WHOLE = sql.BigInteger().with_variant(sql.Integer, "sqlite")
"""SQLite keeps a table in the order of an INTEGER key, without an index that could say something else."""


class _Row(Base):
    __tablename__ = "ledger"
    sequence: Mapped[int] = mapped_column(_WHOLE, primary_key=True, autoincrement=False)
    time: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    """Canonical JSON."""
    previous: Mapped[str]
    hash: Mapped[str]
    signature: Mapped[str]

    def entry(self) -> Entry:
        """Return the entry as it lies there.

        Raises
        ------
        ValueError
            A field is of another type, or the body is not in canonical form.
        """
        return entry_of({column.name: getattr(self, column.name) for column in self.__table__.columns})


class _Copy(Base):
    """How much of the ledger a partner is known to have taken over."""

    __tablename__ = "ledger_copies"
    partner: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(sql.BigInteger)


class LedgerBook:
    """A federation's ledger, open for writing.

    Parameters
    ----------
    store
        The server's database.
    signer
        The server's key.
    """

    def __init__(self, store: Store, signer: Signer) -> None:
        self.store = store
        self.signer = signer

    def append(self, kind: Kind, subject: str, **body: Any) -> Entry:
        """Record what has happened, in a transaction of its own.

        Parameters
        ----------
        kind
            What it was. The first entry of a ledger is ``FEDERATION_CREATED`` (see :meth:`begin`).
        subject
            Whom or what it concerns: a name in lower case.
        body
            The fields that :mod:`koinon.privacy.ledger.kinds` declares for the kind.

        Returns
        -------
        Entry
            As it is on the disk now.

        Raises
        ------
        FederationError
            K774 something that is not declared for the kind, K775 the last entry is not one this server has made,
            K771 the database refuses.
        """
        with self.store.session() as session:
            return self.append_in(session, kind, subject, **body)

    def append_in(self, session: Session, kind: Kind, subject: str, **body: Any) -> Entry:
        """Record what has happened together with what else the transaction writes (see :meth:`append`)."""
        recorded = checked_body(kind, body)
        head = self._head(session)
        if (head is None) != (kind is Kind.FEDERATION_CREATED):
            raise FederationError(
                "K774", f"A ledger begins with {Kind.FEDERATION_CREATED}, once.", "Create the federation first."
            )
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        subject = checked_subject(subject)
        entry = Entry.make(head, self.signer, time=now, kind=str(kind), subject=subject, body=recorded)
        session.add(_row(entry))
        session.flush()
        return entry

    def begin(self, federation: str, policy_sha256: str) -> None:
        """Write the first entry of a ledger that has none yet.

        Raises
        ------
        FederationError
            K774 the federation's name is none, K775 the ledger is not one this server has made.
        """
        with self.store.session() as session:
            if self._head(session) is None:
                created = {"key": self.signer.key, "policy_sha256": policy_sha256}
                self.append_in(session, Kind.FEDERATION_CREATED, federation, **created)

    def head(self) -> Entry | None:
        """Return the last entry; ``None`` in an empty ledger."""
        with self.store.reading() as session:
            return self._head(session)

    def entries(self, *, after: int = 0, limit: int | None = None, kind: Kind | None = None) -> list[Entry]:
        """Return entries with a number above ``after``, in order, ``limit`` of them at most."""
        chosen = sql.select(_Row).where(_Row.sequence > after).order_by(_Row.sequence).limit(limit)
        if kind is not None:
            chosen = chosen.where(_Row.kind == str(kind))
        with self.store.reading() as session:
            return [row.entry() for row in session.scalars(chosen)]

    def last(self, kind: Kind, subject: str) -> Entry | None:
        """Return the last entry of a kind about a subject."""
        chosen = sql.select(_Row).where(_Row.kind == str(kind), _Row.subject == subject)
        with self.store.reading() as session:
            row = session.scalars(chosen.order_by(_Row.sequence.desc()).limit(1)).first()
            return row.entry() if row else None

    def shown(self) -> dict[str, int]:
        """Return by partner the number of the last entry that it has taken over into its copy."""
        with self.store.reading() as session:
            return {copy.partner: copy.sequence for copy in session.scalars(sql.select(_Copy))}

    def note_shown(self, session: Session, copies: Mapping[str, int]) -> None:
        """Note how far partners' copies reach, together with what else the transaction writes."""
        known = {copy.partner: copy for copy in session.scalars(sql.select(_Copy))} if copies else {}
        for partner, sequence in copies.items():
            if partner in known:
                known[partner].sequence = sequence
            else:
                session.add(_Copy(partner=partner, sequence=sequence))

    def recover(self, session: Session, kept: Iterable[Entry | ValueError]) -> int:
        """Take back entries that this server has made and lost, from a copy that somebody else has kept.

        Parameters
        ----------
        session
            The transaction that puts the rest of the state back.
        kept
            The copy's entries, in order; those that are still here are held against it.

        Returns
        -------
        int
            How many were taken back.

        Raises
        ------
        FederationError
            K781 the copy is damaged, is not this server's, or tells another history.
        """
        head = self._head(session)
        last, count = head.sequence if head else 0, 0
        for entry in kept:
            if isinstance(entry, ValueError) or not (entry.intact() and entry.signed_by(self.signer.verifier)):
                raise _unusable("an entry of it is not this server's")
            if entry.sequence <= last:
                row = session.get(_Row, entry.sequence)
                if row is None or row.hash != entry.hash:
                    raise _unusable(f"its entry {entry.sequence} is another one than the ledger's")
            elif entry.follows(head):
                session.add(_row(entry))
                head, count = entry, count + 1
            else:
                raise _unusable(f"entries are missing before its entry {entry.sequence}")
        return count

    def _head(self, session: Session) -> Entry | None:
        row = session.scalars(sql.select(_Row).order_by(_Row.sequence.desc()).limit(1)).first()
        if row is None:
            return None
        try:
            entry = row.entry()
            sound = entry.intact() and entry.signed_by(self.signer.verifier)
        except ValueError:
            sound = False
        if not sound:
            raise FederationError(
                "K775",
                f"The ledger's last entry ({row.sequence}) is not one this server has made.",
                "`koinon ledger verify` says what is wrong; restore the last good backup.",
            )
        return entry


def read_book(store: Store) -> Iterator[Entry | ValueError]:
    """Read a database's ledger as it lies there, whatever has been done to it; for verifying and exporting."""
    with store.reading() as session:
        for row in session.scalars(sql.select(_Row).order_by(_Row.sequence).execution_options(yield_per=1000)):
            try:
                yield row.entry()
            except ValueError as error:
                yield error


def entry_of(fields: Mapping[str, Any]) -> Entry:
    """Return the entry that a row of the table holds.

    Raises
    ------
    ValueError
        A field is of another type, or the body is not in canonical form.
    """
    if not isinstance(fields["body"], str):
        raise ValueError("field body is of another type")
    return Entry.of_fields({**fields, "body": parsed(fields["body"].encode("utf-8"))})


def _unusable(why: str) -> FederationError:
    return FederationError("K781", f"This copy of the ledger cannot be used: {why}.", "Take another partner's copy.")


def _row(entry: Entry) -> _Row:
    return _Row(
        sequence=entry.sequence,
        time=entry.time,
        kind=entry.kind,
        subject=entry.subject,
        body=canonical(entry.body).decode(),
        previous=entry.previous,
        hash=entry.hash,
        signature=entry.signature,
    )
