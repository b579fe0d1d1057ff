"""The server's database, as a file and in PostgreSQL: whole transactions, one writer at a time, one version."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sql

from koinon.errors import FederationError, ResourceError
from koinon.server.state import Store, open_store
from koinon.server.state.store import SCHEMA_VERSION


def versions(store: Store) -> list[int]:
    with store.reading() as session:
        return list(session.scalars(sql.text("SELECT version FROM schema_version ORDER BY version")))


def test_a_database_is_made_once_and_opened_again(database: str) -> None:
    open_store(database).close()
    store = open_store(database, create=False)
    assert versions(store) == [SCHEMA_VERSION]
    store.close()


def test_an_exception_undoes_the_whole_transaction(database: str) -> None:
    store = open_store(database)

    def fail_half_way() -> None:
        with store.session() as session:
            session.execute(sql.text("INSERT INTO schema_version VALUES (77)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert versions(store) == [SCHEMA_VERSION]
    store.close()


def test_two_writers_read_what_the_other_has_written(database: str) -> None:
    """Reading a value and writing the next one, from two connections, loses no step."""
    stores = [open_store(database), open_store(database)]
    with stores[0].session() as session:
        session.execute(sql.text("CREATE TABLE counter (n INTEGER)"))
        session.execute(sql.text("INSERT INTO counter VALUES (0)"))

    def count(store: Store) -> None:
        for _ in range(20):
            with store.session() as session:
                n = session.scalar(sql.text("SELECT n FROM counter"))
                session.execute(sql.text("UPDATE counter SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stores[0].reading() as session:
        assert session.scalar(sql.text("SELECT n FROM counter")) == 40
    for store in stores:
        store.close()


def test_a_reader_neither_waits_for_a_writer_nor_sees_half_of_what_it_writes(database: str) -> None:
    store = open_store(database)
    with store.session() as session:
        session.execute(sql.text("INSERT INTO schema_version VALUES (77)"))
        session.flush()
        assert versions(store) == [SCHEMA_VERSION]
    store.close()


def test_a_reading_transaction_cannot_write_in_postgresql(postgres: str) -> None:
    store = open_store(postgres)
    with pytest.raises(FederationError, match=r"K771.*read-only"), store.reading() as session:
        session.execute(sql.text("INSERT INTO schema_version VALUES (77)"))
    store.close()


def test_a_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "server.sqlite").close()
    assert (tmp_path / "server.sqlite").stat().st_mode & 0o777 == 0o600


def test_another_version_is_refused(database: str) -> None:
    store = open_store(database)
    with store.session() as session:
        session.execute(sql.text("UPDATE schema_version SET version = 99"))
    store.close()
    with pytest.raises(FederationError, match=r"K770.*\[99\]"):
        open_store(database)


def test_a_database_that_is_not_there_is_not_made_for_a_reader(tmp_path: Path, postgres: str) -> None:
    with pytest.raises(FederationError, match="K771"):
        open_store(tmp_path / "none.sqlite", create=False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FederationError, match="K770"):
        open_store(postgres, create=False)


def test_what_is_no_database_is_refused_with_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to look at\n" * 50)
    with pytest.raises(FederationError, match="K771"):
        open_store(tmp_path / "text.sqlite")
    with pytest.raises(FederationError, match="K771"):
        open_store("mysql://nowhere/at-all")
    with pytest.raises(FederationError, match=r"K771") as refused:
        open_store("postgresql://user:hidden@127.0.0.1:1/none")
    assert "hidden" not in str(refused.value)


def filled(disk: Path, *, but: int) -> Path:
    """A file that leaves so many bytes free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"0" * 4096)
    os.truncate(filler, max(filler.stat().st_size - but, 0))
    return filler


@pytest.mark.parametrize("left", [0, 4096, 20_000, 40_000])
def test_a_full_disk_is_named_and_loses_nothing(left: int, small_disk: Path) -> None:
    store = open_store(small_disk / "server.sqlite")
    filler = filled(small_disk, but=left)
    with pytest.raises(ResourceError, match="K801"):
        _write_much(store)
    with suppress(ResourceError):  # whether it can be read depends on how much room is left
        assert versions(store) == [SCHEMA_VERSION]
    filler.unlink()
    assert versions(store) == [SCHEMA_VERSION]
    store.close()


def _write_much(store: Store) -> None:
    with store.session() as session:
        session.execute(sql.text("CREATE TABLE much (said TEXT)"))
        session.execute(sql.text("INSERT INTO much VALUES (:said)"), {"said": "x" * 200_000})


def test_many_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from koinon.server.state.store import open_store\n"
        "for _ in range(20): open_store(sys.argv[1]).close()"
    )
    for attempt in range(3):
        command = [sys.executable, "-c", program, str(tmp_path / f"{attempt}.db")]
        opened = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
        said = [process.communicate(timeout=120)[1] for process in opened]
        assert [process.returncode for process in opened] == [0] * 4, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.db", "1.db", "2.db"]
    assert (tmp_path / "0.db").stat().st_mode & 0o777 == 0o600
