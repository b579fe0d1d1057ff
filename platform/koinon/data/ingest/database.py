"""SQLite, DuckDB and PostgreSQL by URL, read only.

Values are taken as text, as from a file, so that one set of rules reads them all. PostgreSQL streams through COPY.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import duckdb
import polars as pl

from koinon.data.ingest.raw import ROW, RawTable, require_columns
from koinon.data.partner import Source
from koinon.errors import DataError

__all__ = ["read_database"]

_BATCH = 100_000


def read_database(root: Path, source: Source, wanted: list[str], *, limit: int | None = None) -> RawTable:
    """Read columns of a table or query.

    Raises
    ------
    DataError
        K205 columns missing, K206 the database cannot be reached or refuses the query, K207 no reader or driver for
        the URL, K201 no rows.
    """
    url = source.url or ""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme == "sqlite":
        frame = _sqlite(_local_file(root, url), source, wanted, limit)
    elif scheme == "duckdb":
        frame = _duckdb(_local_file(root, url), source, wanted, limit)
    elif scheme in ("postgresql", "postgres"):
        frame = _postgres("postgresql://" + url.partition("://")[2], source, wanted, limit)
    else:
        raise DataError(
            "K207",
            f"No reader for databases called `{scheme}`.",
            "Use sqlite:///, duckdb:/// or postgresql://, or export the table to a file.",
        )
    if frame.is_empty():
        raise DataError("K201", f"{source.label} has no rows.", "Check `table` or `query` in partner.toml.")
    return RawTable(source.label, frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64)))


def _local_file(root: Path, url: str) -> Path:
    """``sqlite:///relative.db`` and ``sqlite:////absolute.db``, as SQLAlchemy writes them."""
    path = root / unquote(url.partition("://")[2].removeprefix("/"))
    if not path.is_file():
        raise DataError("K200", f"There is no file {path}.", "Correct `url` in partner.toml.")
    return path


def _select(source: Source) -> str:
    if source.query is not None:
        return f"({source.query.strip().rstrip(';')}) AS source"
    return ".".join(_quoted(part) for part in (source.table or "").split("."))


def _columns(found: Sequence[str], wanted: list[str], source: Source) -> list[str]:
    require_columns(wanted, found, source.label)
    return wanted or list(found)


def _refused(source: Source, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError("K206", f"{source.label}: {reason[:300]}.", "Check `url`, `table` or `query`, and that it runs.")


def _sqlite(path: Path, source: Source, wanted: list[str], limit: int | None) -> pl.DataFrame:
    origin = _select(source)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            found = [column[0] for column in connection.execute(f"SELECT * FROM {origin} LIMIT 0").description]
            names = _columns(found, wanted, source)
            picked = ", ".join(f"CAST({_quoted(name)} AS TEXT)" for name in names)
            cursor = connection.execute(f"SELECT {picked} FROM {origin}{_limit(limit)}")
            schema = dict.fromkeys(names, pl.String())
            parts = [pl.DataFrame(schema=schema)]
            while rows := cursor.fetchmany(_BATCH):
                parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
            return pl.concat(parts)
    except sqlite3.Error as error:
        raise _refused(source, error) from error


def _duckdb(path: Path, source: Source, wanted: list[str], limit: int | None) -> pl.DataFrame:
    origin = _select(source)
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            names = _columns(connection.sql(f"SELECT * FROM {origin} LIMIT 0").columns, wanted, source)
            picked = ", ".join(_quoted(name) for name in names)
            frame = pl.from_arrow(connection.sql(f"SELECT {picked} FROM {origin}{_limit(limit)}").to_arrow_table())
            assert isinstance(frame, pl.DataFrame)
            return frame
    except duckdb.Error as error:
        raise _refused(source, error) from error


def _postgres(url: str, source: Source, wanted: list[str], limit: int | None) -> pl.DataFrame:
    try:
        import psycopg
        from psycopg import sql
    except ImportError as error:
        raise DataError(
            "K207", "The PostgreSQL driver is not installed.", "Run `pip install 'koinon[postgres]'`."
        ) from error
    origin = _select(source)
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            connection.read_only = True
            described = connection.execute(sql.SQL(f"SELECT * FROM {origin} LIMIT 0")).description or []
            names = _columns([column.name for column in described], wanted, source)
            picked = ", ".join(_quoted(name) for name in names)
            buffer = io.BytesIO()
            statement = f"COPY (SELECT {picked} FROM {origin}{_limit(limit)}) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"
            with connection.cursor().copy(sql.SQL(statement)) as copy:
                for block in copy:
                    buffer.write(block)
    except psycopg.Error as error:
        raise _refused(source, error) from error
    schema = dict.fromkeys(names, pl.String())
    if not buffer.tell():
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, new_columns=names, schema_overrides=schema, infer_schema=False)


def _limit(limit: int | None) -> str:
    return "" if limit is None else f" LIMIT {int(limit)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
