"""The server's database: SQLite in a file by default, PostgreSQL by a URL, one way of writing for both.

Whoever writes, writes alone: a transaction of :meth:`Store.session` holds the database's write lock from its first
moment (SQLite ``BEGIN IMMEDIATE``, PostgreSQL an advisory lock), in this process and in others. So what was read inside
it is still true when it is written, and either all of it is there afterwards or nothing. What was committed is on the
disk (WAL, ``synchronous=FULL``).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from koinon.errors import FederationError, ResourceError

__all__ = ["Base", "Store", "open_store"]

SCHEMA_VERSION = 1
_WRITER = 0x6B6F696E6F6E
"""PostgreSQL's advisory lock of a federation's writer."""
_READING = "koinon_reading"
_BUSY_SECONDS = 60
_ROOM = 64 * 1024
"""Bytes that SQLite's write-ahead log and its index need at least."""


class Base(DeclarativeBase):
    """Base of every table of the server's state; a table exists once its module has been imported before the store."""


class _Version(Base):
    __tablename__ = "schema_version"
    version: Mapped[int] = mapped_column(primary_key=True)


class Store:
    """An open database.

    Attributes
    ----------
    engine
        SQLAlchemy's engine, for what neither of the two kinds of transaction serves.
    """

    def __init__(self, engine: sql.Engine) -> None:
        self.engine = engine
        self._for_reading = engine.execution_options(**{_READING: True})

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Give a transaction that nobody else can write beside; committed at the end, undone by an exception.

        Raises
        ------
        FederationError
            K771 the database cannot be reached or written.
        ResourceError
            K801 the disk is full.
        """
        with _told(self.engine), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a transaction that sees one consistent state and hinders no writer.

        Raises
        ------
        FederationError
            K771 the database cannot be reached.
        """
        with _told(self.engine), Session(self._for_reading) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_store(where: str | Path, *, create: bool = True) -> Store:
    """Open the server's database.

    Parameters
    ----------
    where
        A file for SQLite (made readable by its owner alone), or a SQLAlchemy URL (``postgresql://user@host/name``).
    create
        Whether a new database, or a missing table, is made; otherwise a database that is not there is an error.

    Raises
    ------
    FederationError
        K770 the database is of another version of Koinon, or is none of Koinon's; K771 it cannot be reached, read or
        written.
    """
    url = _url(where)
    if url.get_backend_name() == "sqlite" and url.database:
        _file(Path(url.database), create=create)
    store = Store(_engine(url))
    try:
        _schema(store, url, create=create)
    except BaseException:
        store.close()
        raise
    return store


def _url(where: str | Path) -> sql.URL:
    if isinstance(where, Path) or "://" not in where:
        return sql.URL.create("sqlite", database=str(Path(where).resolve()))
    try:
        url = sql.make_url(where)
        if url.get_backend_name() == "postgresql":
            return url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() == "sqlite":
            return url
    except sql.exc.ArgumentError:
        pass
    raise FederationError(
        "K771", "The database's URL is none of sqlite:///… and postgresql://….", "Give a file or such a URL."
    )


def _file(path: Path, *, create: bool) -> None:
    if path.is_file():
        return
    if not create:
        raise FederationError("K771", f"There is no database {path}.", "Check the path.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _made_whole(path)
    except (OSError, sqlite3.Error) as error:
        if _full(sql.URL.create("sqlite", database=str(path))):
            raise ResourceError("K801", f"Cannot create {path}: {error}.", "Free disk space.") from error
        raise FederationError("K771", f"Cannot create {path}: {error}.", "Choose another folder.") from error


def _made_whole(path: Path) -> None:
    """Create an empty database that keeps a write-ahead log; one that another process makes meanwhile stays.

    A file keeps its journal's mode, and SQLite waits for nobody when it is changed: two processes that both change it
    find the database locked. So it is set under a name that nobody else knows.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    os.close(descriptor)
    try:
        made = sqlite3.connect(name)
        try:
            made.execute("PRAGMA journal_mode=WAL")
        finally:
            made.close()
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _engine(url: sql.URL) -> sql.Engine:
    if url.get_backend_name() == "postgresql":
        engine = sql.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    else:
        # NullPool: a connection must not be carried into another thread or a child process
        engine = sql.create_engine(url, poolclass=sql.NullPool, connect_args={"timeout": _BUSY_SECONDS})
        sql.event.listen(engine, "connect", _prepare_sqlite)
    sql.event.listen(engine, "begin", _begin)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    # what was damaged on the disk must come as a value that can be judged, not end the reading of all that follows
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for setting in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: sql.Connection) -> None:
    reading = connection.get_execution_options().get(_READING, False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
    elif reading:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")


def _schema(store: Store, url: sql.URL, *, create: bool) -> None:
    shown = url.render_as_string(hide_password=True)
    if create:
        with store.session() as session:
            Base.metadata.create_all(session.connection())
            found = session.scalars(sql.select(_Version.version)).all()
            if not found:
                session.add(_Version(version=SCHEMA_VERSION))
                found = [SCHEMA_VERSION]
    else:
        with store.reading() as session:
            there = sql.inspect(session.connection()).has_table(_Version.__tablename__)
            found = session.scalars(sql.select(_Version.version)).all() if there else []
    if list(found) != [SCHEMA_VERSION]:
        raise FederationError(
            "K770",
            f"{shown} is no server database of this version (found {list(found) or 'none'}, need {SCHEMA_VERSION}).",
            "Use the version of Koinon that made it, or another database.",
        )


@contextmanager
def _told(engine: sql.Engine) -> Iterator[None]:
    """Turn what the database refuses into one clear error."""
    try:
        yield
    except sql.exc.IntegrityError:
        raise
    except sql.exc.DatabaseError as error:
        said = " ".join(str(error.orig).split())
        if "disk is full" in said or "No space left" in said or _full(engine.url):
            raise ResourceError("K801", f"Cannot write the server's database: {said}.", "Free disk space.") from error
        raise FederationError(
            "K771", f"The server's database refuses: {said}.", "Check its address, rights and free space."
        ) from error


def _full(url: sql.URL) -> bool:
    """Whether a file's disk has no room for SQLite's own files beside it; SQLite names that in several ways."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return False
    return shutil.disk_usage(Path(url.database).parent).free < _ROOM
