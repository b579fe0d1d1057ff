"""Backup and restore: the same federation afterwards, from either database into either, or a clear refusal."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql

from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, verify
from koinon.privacy.ledger.kinds import Kind
from koinon.recommenders.protocol import Release
from koinon.server.checkpoints import Checkpoint, Checkpoints
from koinon.server.federation import LearnerConfig, Terms
from koinon.server.membership import FederationHome, HostConfig, open_registry
from koinon.server.place import Place
from koinon.server.record import KEY_FILE, Record
from koinon.server.state import read_book
from koinon.server.state.backup import back_up, restore
from koinon.server.state.release_book import ReleaseBook, read_release
from koinon.server.state.tables import PLAIN, tables

TERMS = Terms(name="shops", learners=(LearnerConfig(name="federated_popularity"),), encoder="none")


def checkpoint(value: float = 1.0) -> Checkpoint:
    return Checkpoint(Release(2, "popularity", {"counts": np.full(1000, value)}), {"rest": np.ones(3)}, ("alpha",))


def created(folder: Path, state: str = "") -> FederationHome:
    """A federation with an invitation, a run under way and a release."""
    host = HostConfig(address="127.0.0.1", port=9440, join_port=9441, state=state)
    home = FederationHome.create(folder, TERMS, host)
    with open_registry(home) as registry:
        registry.invite("books-de", days=7)
    checkpoints = Checkpoints(home.out)
    run = checkpoints.begin("run1", TERMS.policy_sha256())
    checkpoints.save("popularity", checkpoint())
    with Place.find(folder).books() as (book, _):
        ReleaseBook(home.out, "shops", book).publish("popularity", checkpoint(), run)
    return home


def state_of(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the federation's database."""
    with Place.find(folder).store() as store, store.reading() as session:
        return {name: [tuple(row) for row in session.execute(sql.select(t))] for name, t in tables().items()}


def files_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and mode of what belongs to the federation's state, but for the database."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "state.db" not in path.name:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.relative_to(folder).as_posix()] = (digest, path.stat().st_mode & 0o777)
    return found


def whole(folder: Path) -> list[Entry]:
    """The ledger's entries, verified with the restored key."""
    with Place.find(folder).books() as (book, _):
        assert verify(read_book(book.store), book.signer.verifier).whole
        return book.entries()


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> FederationHome:
    """A created federation, its state once in a file and once in PostgreSQL."""
    return created(tmp_path / "shops", request.getfixturevalue("postgres") if request.param == "postgresql" else "")


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, postgres_server: str, tmp_path: Path) -> str:
    """Where to restore the state: a file, or another PostgreSQL database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'restored.db'}"
    import psycopg

    name = f"restored{os.urandom(6).hex()}"
    with psycopg.connect(f"postgresql://{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://{postgres_server}/{name}"


def test_a_federation_comes_back_as_it_was_from_either_database_into_either(
    home: FederationHome, target: str, tmp_path: Path
) -> None:
    backup, again = tmp_path / "shops.backup", tmp_path / "again"
    made = back_up(home.folder, backup)
    assert restore(backup, again, database=target) == made
    assert state_of(again) == state_of(home.folder)
    changed = {"host.toml"}
    before, after = files_of(home.folder), files_of(again)
    assert {n: f for n, f in after.items() if n not in changed} == {
        n: f for n, f in before.items() if n not in changed and not n.startswith("logs/")
    }
    assert FederationHome(again).host == home.host.model_copy(update={"state": target})
    assert whole(again) == whole(home.folder)
    with Place.find(again).books() as (book, releases):
        assert read_release(releases.releases()[0].folder, book.signer.verifier).number == 2
    kept = Checkpoints(again / "training").load("popularity")
    assert kept is not None
    assert kept.release.number == 2


def test_without_another_database_a_federation_in_a_file_comes_back_in_a_file(tmp_path: Path) -> None:
    created(tmp_path / "shops")
    back_up(tmp_path / "shops", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "again")
    assert state_of(tmp_path / "again") == state_of(tmp_path / "shops")
    with open_registry(FederationHome(tmp_path / "again")) as registry:
        assert [invited.partner for invited in registry.invitations()] == ["books-de"]


def test_keys_and_backup_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    created(tmp_path / "shops")
    back_up(tmp_path / "shops", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "again")
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    for folder in (tmp_path / "again", tmp_path / "again" / "authority"):
        assert folder.stat().st_mode & 0o777 == 0o700
    for key in ("ca.key", "ledger.key", "server.key"):
        assert (tmp_path / "again" / "authority" / key).stat().st_mode & 0o777 == 0o600


def test_a_run_on_one_machine_is_kept_too(tmp_path: Path) -> None:
    from koinon.server.federation import FederationConfig

    config = FederationConfig(**TERMS.model_dump(), partners={"alpha": Path("alpha"), "beta": Path("beta")})
    record = Record.open(tmp_path / "out", config)
    record.published("popularity", checkpoint(), Checkpoints(tmp_path / "out").begin("run1", config.policy_sha256()))
    back_up(tmp_path / "out", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "again")
    assert [entry.kind for entry in whole(tmp_path / "again")] == ["federation_created", "release_published"]
    assert (tmp_path / "again" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert Checkpoints(tmp_path / "again").run_state() == Checkpoints(tmp_path / "out").run_state()


def test_what_is_backed_up_while_the_server_writes_is_consistent(tmp_path: Path) -> None:
    home = created(tmp_path / "shops")
    stop = threading.Event()

    def write() -> None:
        with Place.find(home.folder).books() as (book, _):
            releases = ReleaseBook(home.out, "shops", book)
            checkpoints = Checkpoints(home.out)
            for number in range(1000):
                if stop.is_set():
                    return
                run = checkpoints.begin(f"run{number}x", TERMS.policy_sha256())
                checkpoints.save("popularity", checkpoint(number))
                releases.publish("popularity", checkpoint(number), run)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(4):
            back_up(home.folder, tmp_path / "backup")
            restore(tmp_path / "backup", tmp_path / f"again{number}")
    finally:
        stop.set()
        writer.join()
    for number in range(4):
        published = [e for e in whole(tmp_path / f"again{number}") if e.kind == "release_published"]
        with Place.find(tmp_path / f"again{number}").books() as (_, releases):
            assert {e.body["manifest_sha256"] for e in published} <= {r.sha256 for r in releases.releases()}


def test_entries_made_after_the_backup_come_back_from_a_partners_copy(tmp_path: Path) -> None:
    home = created(tmp_path / "shops")
    back_up(home.folder, tmp_path / "backup")
    with Place.find(home.folder).books() as (book, _):
        book.append(Kind.LEFT, "books-de", forget=True)
        book.append(Kind.LEFT, "books-fr", forget=True)
        entries = book.entries()
    copy = tmp_path / "ledger.jsonl"
    copy.write_bytes(b"".join(entry.line() + b"\n" for entry in entries))
    restore(tmp_path / "backup", tmp_path / "again", copy=copy)
    assert whole(tmp_path / "again") == entries


@pytest.mark.parametrize("harm", ["edited", "gap", "forked"])
def test_a_copy_that_does_not_go_on_where_the_backup_ends_is_refused(harm: str, tmp_path: Path) -> None:
    home = created(tmp_path / "shops")
    back_up(home.folder, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "fork")
    with Place.find(home.folder).books() as (book, _):
        for name in ("books-de", "books-fr"):
            book.append(Kind.LEFT, name, forget=True)
        entries = book.entries()
    lines = [entry.line() + b"\n" for entry in entries]
    if harm == "edited":
        lines[-1] = lines[-1].replace(b"books-fr", b"books-es")
    elif harm == "gap":
        lines = lines[-1:]
    else:
        with Place.find(tmp_path / "fork").books() as (book, _):
            book.append(Kind.LEFT, "books-it", forget=True)
        back_up(tmp_path / "fork", tmp_path / "backup")
    (tmp_path / "copy.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(FederationError, match="K781"):
        restore(tmp_path / "backup", tmp_path / "again", copy=tmp_path / "copy.jsonl")
    assert not (tmp_path / "again").exists()


def test_a_ledger_that_is_not_whole_is_not_backed_up(home: FederationHome, tmp_path: Path) -> None:
    with Place.find(home.folder).store() as store, store.session() as session:
        session.execute(sql.text("UPDATE ledger SET subject = 'books-fr' WHERE sequence = 2"))
    with pytest.raises(FederationError, match=r"K781.*Entry 2"):
        back_up(home.folder, tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shops"]


def test_nothing_is_restored_over_something(home: FederationHome, tmp_path: Path) -> None:
    back_up(home.folder, tmp_path / "backup")
    before = files_of(home.folder)
    with pytest.raises(FederationError, match="K783"):
        restore(tmp_path / "backup", home.folder)
    assert files_of(home.folder) == before
    if home.host.state:
        with pytest.raises(FederationError, match=r"K783.*ledger"):
            restore(tmp_path / "backup", tmp_path / "again")
        assert not (tmp_path / "again").exists()
    assert len(whole(home.folder)) > 1


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("made")
    created(folder / "shops")
    back_up(folder / "shops", folder / "backup")
    return (folder / "backup").read_bytes()


def refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(content)
    with pytest.raises(FederationError, match="K782"):
        restore(tmp_path / "backup", tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup"]


def test_an_archive_with_a_damaged_byte_is_refused_or_gives_all_that_was_in_it(archive: bytes, tmp_path: Path) -> None:
    """Compressed zeros can be written in several ways, so there are bytes whose change changes nothing."""
    (tmp_path / "backup").write_bytes(archive)
    restore(tmp_path / "backup", tmp_path / "whole")
    codes = []
    for part in range(40):
        at = part * len(archive) // 40
        (tmp_path / "backup").write_bytes(archive[:at] + bytes([archive[at] ^ 0x40]) + archive[at + 1 :])
        again = tmp_path / f"again{part}"
        try:
            restore(tmp_path / "backup", again)
        except FederationError as error:
            codes.append(error.code)
            assert not again.exists()
        else:
            assert (files_of(again), state_of(again)) == (files_of(tmp_path / "whole"), state_of(tmp_path / "whole"))
    assert set(codes) == {"K782"}
    assert len(codes) > 30


@pytest.mark.parametrize("part", range(8))
def test_an_archive_that_is_cut_off_is_refused(part: int, archive: bytes, tmp_path: Path) -> None:
    refused(archive[: part * len(archive) // 8], tmp_path)
    if part == 0:
        refused(archive[:-1], tmp_path)


def repacked(archive: bytes, change: str) -> bytes:
    """The archive with one member changed, and gzip's checksum right again."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source, tarfile.open(fileobj=made, mode="w:gz") as target:
        for member in source:
            content = source.extractfile(member).read()  # type: ignore[union-attr]
            if member.name == "federation.toml" and change == "content":
                content = content.replace(b"shops", b"shopz")
            if member.name == "federation.toml" and change == "missing":
                continue
            if member.name == "federation.toml" and change == "name":
                member.name = "../federation.toml"
            if member.name == "authority/ledger.key" and change == "mode":
                member.mode = 0o644
            if change == "schema" and member.name == "backup.json":
                content = content.replace(b'"schema_version":1', b'"schema_version":9')
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
            if change == "twice" and member.name == "federation.toml":
                target.addfile(member, io.BytesIO(content))
        if change == "more":
            extra = tarfile.TarInfo("authority/extra.key")
            target.addfile(extra, io.BytesIO(b""))
        if change == "link":
            link = tarfile.TarInfo("authority/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            target.addfile(link)
    return made.getvalue()


@pytest.mark.parametrize("change", ["content", "missing", "name", "mode", "twice", "more", "link"])
def test_an_archive_that_was_packed_anew_is_refused(change: str, archive: bytes, tmp_path: Path) -> None:
    refused(repacked(archive, change), tmp_path)


def test_an_archive_of_another_version_is_refused(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(repacked(archive, "schema"))
    with pytest.raises(FederationError, match="K770"):
        restore(tmp_path / "backup", tmp_path / "again")


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no archive"), gzip.compress(b"")])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="K782"):
        restore(tmp_path / "none", tmp_path / "again")
    with pytest.raises(FederationError, match="K784"):
        back_up(tmp_path, tmp_path / "backup")


def test_every_column_of_the_state_has_a_type_that_a_backup_can_hold() -> None:
    assert {"ledger", "ledger_copies", "members", "invitations"} <= set(tables())
    for table in tables().values():
        for column in table.columns:
            assert issubclass(column.type.python_type, PLAIN), column
