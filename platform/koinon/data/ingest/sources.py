"""Which reader takes which source."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import duckdb
import polars as pl

from koinon.data.ingest import database
from koinon.data.ingest.raw import MALFORMED_SCHEMA, ROW, RawTable, require_columns
from koinon.data.ingest.text import Dialect, iterate_lines, open_bytes, read_bytes, read_delimited, read_header
from koinon.data.partner import Source
from koinon.errors import DataError

__all__ = ["dialect_of", "format_of", "list_columns", "read_source"]

_ENDINGS = {
    ".csv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".inter": "recbole",
    ".item": "recbole",
    ".user": "recbole",
}


def format_of(source: Source) -> str:
    """The source's format: as stated, or by the file's ending (``.gz`` left aside).

    Raises
    ------
    DataError
        K207 the ending says nothing.
    """
    if source.url is not None:
        return "database"
    if source.format != "auto":
        return source.format
    name = Path(source.path or "")
    ending = (name.with_suffix("") if name.suffix.lower() == ".gz" else name).suffix.lower()
    if ending not in _ENDINGS:
        raise DataError(
            "K207",
            f"The ending of {source.path} does not tell its format.",
            "Set `format` of this source to csv, tsv, jsonl, parquet or recbole.",
        )
    return _ENDINGS[ending]


def dialect_of(source: Source) -> Dialect:
    """How a text source is written. RecBole's atomic files are tab-separated and know no quotes."""
    kind = format_of(source)
    delimiter = source.delimiter or ("," if kind == "csv" else "\t")
    quote = "" if kind == "recbole" else source.quote
    return Dialect(delimiter, quote, source.escape, source.encoding, source.header)


def read_source(root: Path, source: Source, wanted: Sequence[str] = (), *, limit: int | None = None) -> RawTable:
    """Read columns of a source.

    Parameters
    ----------
    root
        The partner's folder; relative paths start there.
    source
        Where and how.
    wanted
        The source's column names; empty for all.
    limit
        Read about so many rows only (for guessing).

    Raises
    ------
    DataError
        K200 unreadable, K201 empty, K202 damaged or of another kind, K203 encoding, K204 delimiter, K205 columns
        missing, K206 database, K207 unknown format.
    """
    names = list(dict.fromkeys(wanted))
    kind = format_of(source)
    if kind == "database":
        return database.read_database(root, source, names, limit=limit)
    path = root / (source.path or "")
    if kind == "parquet":
        return _read_parquet(path, source, names, limit)
    if kind == "jsonl":
        return _read_json_lines(path, source, names, limit)
    dialect = dialect_of(source)
    if kind == "recbole":
        header = read_header(path, dialect)
        plain = {name.partition(":")[0]: name for name in header}
        require_columns([name.partition(":")[0] for name in names], list(plain), source.label)
        raw = read_delimited(
            path, source.label, dialect, [plain[name.partition(":")[0]] for name in names], limit=limit
        )
        frame = raw.frame.rename({column: column.partition(":")[0] for column in raw.frame.columns if ":" in column})
        spelled = {name.partition(":")[0]: name for name in names}
        return RawTable(
            raw.label, frame.rename({old: new for old, new in spelled.items() if old != new}), raw.malformed
        )
    return read_delimited(path, source.label, dialect, names, limit=limit)


def list_columns(root: Path, source: Source) -> list[str]:
    """Names of a source's columns (errors: as :func:`read_source`)."""
    return [name for name in read_source(root, source, limit=1000).frame.columns if name != ROW]


def _read_parquet(path: Path, source: Source, wanted: list[str], limit: int | None) -> RawTable:
    with open_bytes(path) as file:
        # A gzipped Parquet file cannot be read by parts: it is unpacked whole.
        content = read_bytes(file, path, -1) if isinstance(file, gzip.GzipFile) else None
    try:
        found = list(pl.read_parquet_schema(path if content is None else io.BytesIO(content)))
        require_columns(wanted, found, source.label)
        frame = pl.read_parquet(path if content is None else io.BytesIO(content), columns=wanted or found, n_rows=limit)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            "K202", f"{path} is not readable as Parquet: {str(error)[:200]}.", "Export it again, or correct `format`."
        ) from error
    if frame.is_empty():
        raise DataError("K201", f"{path} has no rows.", "Export it again, or name another file in partner.toml.")
    return RawTable(source.label, frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64)))


def _read_json_lines(path: Path, source: Source, wanted: list[str], limit: int | None) -> RawTable:
    parts: list[pl.DataFrame] = []
    malformed: list[pl.DataFrame] = []
    first_line, found = 1, wanted
    with duckdb.connect() as connection:
        for portion in iterate_lines(path, source.encoding):
            lines = portion if limit is None else portion[:limit]
            frame = pl.DataFrame(
                {ROW: pl.int_range(first_line, first_line + len(lines), eager=True), "line": lines}
            ).filter(pl.col("line").str.strip_chars() != "")
            first_line += len(lines)
            connection.register("lines", frame.to_arrow())
            # DuckDB may evaluate both sides of AND; only CASE keeps broken JSON from its parser.
            judged = _sql(
                connection,
                "SELECT *, CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END AS ok FROM lines",
            ).sort(ROW)
            malformed.append(judged.filter(~pl.col("ok")).select(ROW, content="line"))
            good = judged.filter("ok").select(ROW, "line")
            if good.is_empty():
                continue
            connection.register("good", good.to_arrow())
            if not parts:
                keys = connection.sql(
                    "SELECT DISTINCT unnest(json_keys(line)) FROM (SELECT line FROM good LIMIT 10000)"
                )
                known = sorted(str(key) for (key,) in keys.fetchall())
                require_columns(wanted, known, source.label)
                found = wanted or known
            picked = [f"json_extract_string(line, {_literal(_pointer(name))}) AS {_identifier(name)}" for name in found]
            parts.append(_sql(connection, f"SELECT {', '.join([_identifier(ROW), *picked])} FROM good"))
            if limit is not None:
                break
    if not parts:
        raise DataError(
            "K202", f"{path} holds no JSON objects, one per line.", "Export it as JSON lines, or correct `format`."
        )
    return RawTable(source.label, pl.concat(parts).sort(ROW), pl.concat(malformed).cast(dict(MALFORMED_SCHEMA)))  # type: ignore[arg-type]


def _sql(connection: duckdb.DuckDBPyConnection, query: str) -> pl.DataFrame:
    result = pl.from_arrow(connection.sql(query).to_arrow_table())
    assert isinstance(result, pl.DataFrame)
    return result


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
