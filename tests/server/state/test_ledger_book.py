"""The ledger in the server's database: nothing is lost, nothing is half there, nobody appends to the same head."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, verify
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.server.state import open_store
from koinon.server.state.ledger_book import LedgerBook, read_book

POLICY = "a" * 64


def opened(database: str, key: Path) -> LedgerBook:
    book = LedgerBook(open_store(database), Signer.open(key))
    book.begin("shops", POLICY)
    return book


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "server.key"


def test_what_was_appended_is_there_after_opening_again(database: str, key: Path) -> None:
    book = opened(database, key)
    said = book.append(Kind.LEFT, "books-de", forget=True)
    book.store.close()
    again = opened(database, key)
    assert again.head() == said
    assert [entry.kind for entry in again.entries()] == ["federation_created", "left"]
    assert again.entries(after=1) == again.entries(kind=Kind.LEFT) == [said]
    findings = verify(read_book(again.store), again.signer.verifier)
    assert (findings.whole, findings.entries, findings.head) == (True, 2, said)
    again.store.close()


@pytest.mark.parametrize(
    ("kind", "subject", "body"),
    [
        (Kind.LEFT, "books-de", {"forget": True, "reader": "u1"}),
        (Kind.LEFT, "books-de", {"forget": "yes"}),
        (Kind.LEFT, "books-de", {}),
        (Kind.LEFT, "Jane Doe, 12 Main Street", {"forget": True}),
        (Kind.REMOVED, "books-de", {"reason": "reader u1 complained"}),
        (Kind.REFUSAL, "books-de", {"action": "apply", "code": "K740: row 3 holds u1"}),
        (Kind.PRIVACY_CHARGE, "books-de", {"purpose": "x", "epsilon": float("nan"), "spent": 1.0, "delta": 0.0}),
        (Kind.FEDERATION_CREATED, "shops", {"key": "A" * 43 + "=", "policy_sha256": POLICY}),
    ],
)
def test_what_is_not_declared_does_not_go_on_record(
    kind: Kind, subject: str, body: dict[str, Any], tmp_path: Path, key: Path
) -> None:
    book = opened(str(tmp_path / "l.sqlite"), key)
    with pytest.raises(FederationError, match="K774"):
        book.append(kind, subject, **body)
    assert len(book.entries()) == 1


def test_a_ledger_begins_with_the_federation(tmp_path: Path, key: Path) -> None:
    book = LedgerBook(open_store(tmp_path / "l.sqlite"), Signer.open(key))
    with pytest.raises(FederationError, match="K774"):
        book.append(Kind.LEFT, "books-de", forget=True)
    assert book.head() is None


def test_an_entry_and_what_it_is_about_are_written_together_or_not_at_all(database: str, key: Path) -> None:
    book = opened(database, key)

    def fail_half_way() -> None:
        with book.store.session() as session:
            book.append_in(session, Kind.LEFT, "books-de", forget=True)
            session.execute(sql.text("INSERT INTO schema_version VALUES (7)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert len(book.entries()) == 1
    book.append(Kind.LEFT, "books-de", forget=False)
    assert verify(read_book(book.store), book.signer.verifier).whole
    book.store.close()


def test_nothing_is_appended_to_a_last_entry_that_was_edited(database: str, key: Path) -> None:
    book = opened(database, key)
    book.append(Kind.LEFT, "books-de", forget=True)
    with book.store.session() as session:
        session.execute(sql.text("UPDATE ledger SET subject = 'books-fr' WHERE sequence = 2"))
    with pytest.raises(FederationError, match="K775"):
        book.append(Kind.LEFT, "books-es", forget=True)
    book.store.close()


def test_nothing_is_appended_with_another_key(database: str, key: Path, tmp_path: Path) -> None:
    opened(database, key).store.close()
    book = LedgerBook(open_store(database), Signer.open(tmp_path / "other.key"))
    with pytest.raises(FederationError, match="K775"):
        book.append(Kind.LEFT, "books-de", forget=True)
    book.store.close()


COLUMNS = ("sequence", "time", "kind", "subject", "body", "previous", "hash", "signature")


def edits() -> list[str]:
    """Every column of every row changed in three ways, every row taken out, every two exchanged, every one doubled."""
    rows = range(1, 5)
    changed = [
        f"UPDATE ledger SET {column} = {to} WHERE sequence = {row}"
        for row in rows
        for column in COLUMNS[1:]
        for to in (f"{column} || ' '", f"substr({column}, 2)", "CAST(x'00ff' AS TEXT)")
    ]
    moved = [f"UPDATE ledger SET sequence = {to} WHERE sequence = {row}" for row in rows for to in (-1, 0, 99)]
    removed = [f"DELETE FROM ledger WHERE sequence = {row}" for row in rows]
    exchanged = [
        f"UPDATE ledger SET sequence = 77 WHERE sequence = {a}; UPDATE ledger SET sequence = {a} WHERE sequence = {b};"
        f" UPDATE ledger SET sequence = {b} WHERE sequence = 77"
        for a, b in combinations(rows, 2)
    ]
    rest = ", ".join(COLUMNS[1:])
    doubled = [f"INSERT INTO ledger SELECT 5, {rest} FROM ledger WHERE sequence = {row}" for row in rows]
    return changed + moved + removed + exchanged + doubled


def test_whatever_is_done_to_the_table_is_found(tmp_path: Path, key: Path) -> None:
    database = tmp_path / "l.sqlite"
    book = opened(str(database), key)
    for name in ("books-de", "books-fr", "books-es"):
        book.append(Kind.LEFT, name, forget=True)
    copy = book.entries()
    content = database.read_bytes()
    for number, edit in enumerate(edits()):
        harmed = tmp_path / f"{number}.sqlite"
        harmed.write_bytes(content)
        connection = sqlite3.connect(harmed)
        connection.executescript(edit)
        connection.close()
        store = open_store(harmed, create=False)
        assert not verify(read_book(store), book.signer.verifier, against=copy).whole, edit
        harmed.unlink()


_WRITER = """
import sys
from pathlib import Path
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.server.state import open_store
from koinon.server.state.ledger_book import LedgerBook
database, key, name, most = sys.argv[1:]
book = LedgerBook(open_store(database), Signer.open(Path(key)))
book.begin("shops", "a" * 64)
for _ in range(int(most)):
    entry = book.append(Kind.LEFT, name, forget=True)
    print(entry.line().decode(), flush=True)
"""


def writer(database: str, key: Path, name: str, most: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _WRITER, database, str(key), name, str(most)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def acknowledged(printed: bytes) -> list[Entry]:
    return [Entry.of_line(line[:-1]) for line in printed.splitlines(keepends=True) if line.endswith(b"\n")]


def test_two_processes_write_one_chain(database: str, key: Path) -> None:
    Signer.open(key)
    writers = [writer(database, key, name, 15) for name in ("books-de", "books-fr")]
    said = [acknowledged(process.communicate(timeout=120)[0]) for process in writers]
    book = opened(database, key)
    entries = book.entries()
    assert len(entries) == 31
    assert {e.hash for e in entries[1:]} == {e.hash for one in said for e in one}
    assert verify(read_book(book.store), book.signer.verifier).whole
    book.store.close()


@pytest.mark.parametrize("after", [0.0, 0.011, 0.023])
def test_a_killed_writer_loses_no_entry_it_has_acknowledged_and_leaves_no_half_one(
    after: float, database: str, key: Path
) -> None:
    process = writer(database, key, "books-de", 100_000)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    said = acknowledged(first + process.communicate()[0])
    assert process.returncode == -signal.SIGKILL
    book = opened(database, key)
    entries = book.entries()
    assert entries[1 : len(said) + 1] == said
    assert len(entries) - 1 - len(said) in (0, 1)  # committed, but killed before it could say so
    book.append(Kind.LEFT, "books-de", forget=False)
    assert verify(read_book(book.store), book.signer.verifier).whole
    book.store.close()
