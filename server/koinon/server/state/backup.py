"""Backup and restore of all that a federation's server must not lose.

A backup is one archive (tar, gzip) of the state's tables, the releases, the checkpoints, the policy, the certificate
authority and every key, so it is to be kept as carefully as the keys themselves; its file is made with mode 600. It can
be taken while the federation runs: the tables are read in one transaction, and before the files, so that every release
the ledger names is in it. Flower's own database is not: nodes are registered anew from the list of members, and a run
that was cut off goes on from its last finished round.

The tables travel as JSON lines, so that a backup of SQLite can be restored into PostgreSQL and the other way round.
``backup.json`` comes last and lists every file with size, mode and SHA-256.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

import sqlalchemy as sql
from pydantic import BaseModel, ConfigDict, Field

from koinon.config import atomic_path, write_atomically
from koinon.errors import FederationError, ResourceError
from koinon.privacy.canonical import canonical, parsed
from koinon.privacy.ledger import Entry, Findings, read_lines, verify
from koinon.privacy.signing import Signer
from koinon.server.place import Place
from koinon.server.record import KEY_FILE, LEDGER_FILE
from koinon.server.state.ledger_book import LedgerBook, entry_of
from koinon.server.state.store import SCHEMA_VERSION, open_store
from koinon.server.state.tables import filled, load, rows, tables, unpacked

__all__ = ["Backup", "back_up", "restore"]

_INDEX = "backup.json"
_TABLES = "tables"
_KEPT = ("federation.toml", "host.toml", "schedule.toml", "schedule.progress.toml", "authority", KEY_FILE)
"""Beside what lies in the output folder."""
_KEPT_OF_OUT = ("releases", "progress.jsonl", "watch.jsonl")
_BLOCK = 1 << 20

Named = tuple[str, BinaryIO]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    size: int
    mode: Annotated[int, Field(ge=0, le=0o777)]
    sha256: str


class Backup(BaseModel):
    """What an archive says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    federation: str
    created: str
    """UTC, ISO 8601."""
    koinon_version: str
    schema_version: int
    entries: int
    """Of the ledger."""
    files: dict[str, _File]


def back_up(folder: Path, file: Path) -> Backup:
    """Write a backup, whole or not at all, readable by its owner alone.

    Parameters
    ----------
    folder
        A created federation's folder, or the output folder of a run.
    file
        The archive; one that is there is replaced.

    Raises
    ------
    FederationError
        K771 the database, K772 the key, K784 no federation; K781 the ledger is not whole: what could not be restored is
        not backed up.
    ResourceError
        K801 the disk is full.
    """
    place = Place.find(folder)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="koinon-backup-") as scratch,
            atomic_path(file, private=True) as whole,
            whole.open("wb") as target,
        ):
            return _write(place, Path(scratch), target)
    except OSError as error:
        raise ResourceError("K801", f"Cannot write the backup {file}: {error}.", "Free disk space.") from error


def _write(place: Place, scratch: Path, target: BinaryIO) -> Backup:
    _dump(place, scratch / _TABLES)
    findings, federation = _ledger(scratch / _TABLES, place.key)
    files: dict[str, _File] = {}
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=1) as archive, _chosen(place) as chosen:
        for name, source in chain(_opened(scratch, _TABLES), chosen):
            files[name] = _add(archive, name, source)
        backup = Backup(
            federation=federation,
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            koinon_version=version("koinon"),
            schema_version=SCHEMA_VERSION,
            entries=findings.entries,
            files=files,
        )
        (scratch / _INDEX).write_bytes(canonical(backup.model_dump(mode="json")))
        for name, source in _opened(scratch, _INDEX):
            _add(archive, name, source)
    return backup


def restore(file: Path, folder: Path, *, database: str = "", copy: Path | None = None) -> Backup:
    """Put a backup back, whole or not at all.

    Parameters
    ----------
    file
        The archive.
    folder
        Where to; must not exist, or be empty. What is restored is readable by its owner alone.
    database
        URL of an empty database for a created federation's state; empty: where the backup's ``host.toml`` says, or a
        file in the folder.
    copy
        A partner's copy of the ledger: entries that were made after the backup are taken back from it, so that the
        partners find the ledger that they know.

    Raises
    ------
    FederationError
        K782 the archive is damaged or is none, K783 folder or database are not empty, K781 the copy cannot be used,
        K770, K771 the database cannot be used.
    ResourceError
        K801 the disk is full.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FederationError("K783", f"{folder} is not empty.", "Restore into a new folder.")
    if not file.is_file():
        raise FederationError("K782", f"There is no backup {file}.", "Check the path.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            backup = _unpack(file, half)
            place = _place(half, database)
            _ledger(half / _TABLES, place.key)
            _fill(place, half / _TABLES, copy)
            shutil.rmtree(half / _TABLES)
            half.replace(folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        raise ResourceError("K801", f"Cannot restore into {folder}: {error}.", "Free disk space.") from error
    return backup


def _dump(place: Place, folder: Path) -> None:
    """Write every table, as it stands at one moment."""
    folder.mkdir()
    with place.store() as store, store.reading() as session:
        there = sql.inspect(session.connection())
        for name, table in tables().items():
            with (folder / f"{name}.jsonl").open("wb") as file:
                # a run on one machine has no table of members
                file.writelines(row + b"\n" for row in (rows(session, table) if there.has_table(name) else ()))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def _ledger(folder: Path, key: Path) -> tuple[Findings, str]:
    """Verify the ledger among the dumped tables; return what was found, and the federation's name."""
    if not key.is_file():
        raise FederationError("K772", f"The signing key {key} is not there.", "A server without it cannot go on.")
    federation = ""

    def entries() -> Iterator[Entry | ValueError]:
        nonlocal federation
        for line in _lines(folder / "ledger.jsonl"):
            try:
                entry = entry_of(unpacked(line))
            except (ValueError, KeyError) as error:
                yield ValueError(str(error))
                continue
            federation = federation or entry.subject
            yield entry

    findings = verify(entries(), Signer.open(key).verifier)
    if not findings.whole:
        raise FederationError(
            "K781",
            f"The ledger is not whole. {findings.faults[0].message}",
            "`koinon ledger verify` says what is wrong.",
        )
    return findings, federation


@contextmanager
def _chosen(place: Place) -> Iterator[Iterator[Named]]:
    """The files to keep, opened: those of the run under way all at once, so that they belong to one run."""
    with ExitStack() as stack:
        state = _state(place, stack)
        out = place.out.relative_to(place.folder)
        kept = [*_KEPT, *(str(out / name) for name in _KEPT_OF_OUT)]
        yield chain(state, *(_opened(place.folder, name) for name in kept))


def _state(place: Place, stack: ExitStack) -> list[Named]:
    """The checkpoints. A file replaced meanwhile stays as it was when it was opened; a new run begins again here."""
    folder = place.out / "state"
    run = folder / "run.json"
    while True:
        before = run.read_bytes() if run.is_file() else b""
        try:
            paths = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
            opened: list[Named] = [
                (path.relative_to(place.folder).as_posix(), stack.enter_context(path.open("rb"))) for path in paths
            ]
        except FileNotFoundError:
            continue
        if before == (run.read_bytes() if run.is_file() else b""):
            return opened


def _opened(root: Path, name: str) -> Iterator[Named]:
    """A file, or all beneath a folder, one after the other; what is half-written (hidden) is left out."""
    start = root / name
    for path in [start] if start.is_file() else sorted(start.rglob("*")):
        below = path.relative_to(root)
        if path.is_file() and not any(part.startswith(".") for part in below.parts):
            with path.open("rb") as file:
                yield below.as_posix(), file


class _Hashing:
    """Reads a file and hashes what was read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._source.read(size)
        self.digest.update(content)
        return content


def _add(archive: tarfile.TarFile, name: str, source: BinaryIO) -> _File:
    about = os.fstat(source.fileno())
    info = tarfile.TarInfo(name)
    info.size, info.mode = about.st_size, about.st_mode & 0o777
    hashing = _Hashing(source)
    archive.addfile(info, hashing)
    return _File(size=info.size, mode=info.mode, sha256=hashing.digest.hexdigest())


def _unpack(file: Path, folder: Path) -> Backup:
    """Take an archive apart and hold every file against the index."""
    found: dict[str, _File] = {}
    try:
        with gzip.open(file, "rb") as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    path = PurePosixPath(member.name)
                    if not member.isreg() or path.is_absolute() or ".." in path.parts or member.name in found:
                        raise _damaged(file, f"{member.name} is no file of a backup")
                    source = archive.extractfile(member)
                    assert source is not None  # a regular file
                    found[member.name] = _extract(_Hashing(source), folder / path, member)  # type: ignore[arg-type]
            while stream.read(_BLOCK):  # to the end, where gzip's own checksum stands
                pass
        found.pop(_INDEX, None)
        backup = Backup.model_validate(parsed((folder / _INDEX).read_bytes()))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, FileNotFoundError, ValueError) as error:
        raise _damaged(file, str(error) or "it is cut off") from error
    if backup.files != found:
        wrong = sorted(name for name in backup.files.keys() | found if backup.files.get(name) != found.get(name))
        raise _damaged(file, f"{wrong[0]} is not as it was")
    if backup.schema_version != SCHEMA_VERSION:
        raise FederationError("K770", f"{file} is of another version of Koinon.", "Restore it with that version.")
    (folder / _INDEX).unlink()
    for restored in folder.rglob("*"):
        restored.chmod(0o700 if restored.is_dir() else backup.files[restored.relative_to(folder).as_posix()].mode)
    return backup


def _extract(source: _Hashing, target: Path, member: tarfile.TarInfo) -> _File:
    target.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)
        size = file.tell()
    return _File(size=size, mode=member.mode, sha256=source.digest.hexdigest())


def _place(folder: Path, database: str) -> Place:
    """Where the restored state lies; ``host.toml`` is changed where another database was asked for."""
    host = folder / "host.toml"
    if not host.is_file():
        open_store(folder / LEDGER_FILE).close()
    elif database:
        from koinon.server.membership import HostConfig

        moved = HostConfig.from_toml(host).model_copy(update={"state": database})
        write_atomically(host, moved.to_toml())
    return Place.find(folder)


def _fill(place: Place, dumped: Path, copy: Path | None) -> None:
    """Put the tables into an empty database, and the entries made since; all in one transaction."""
    store = open_store(place.database)
    try:
        with store.session() as session:
            if there := filled(session):
                raise FederationError(
                    "K783", f"The database holds something already ({', '.join(there)}).", "Give an empty database."
                )
            for name, table in tables().items():
                load(session, table, _lines(dumped / f"{name}.jsonl"))
            if copy is not None:
                LedgerBook(store, Signer.open(place.key)).recover(session, read_lines(copy))
    finally:
        store.close()


def _damaged(file: Path, why: str) -> FederationError:
    return FederationError(
        "K782", f"The backup {file} is damaged: {why}.", "Take another backup; nothing was restored."
    )
