"""What all importers share: finding files, reading lines, and the last step to canonical tables."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from koinon.data.tables import EVENT_SCHEMA, Tables
from koinon.errors import DataError

__all__ = [
    "UNDETERMINED",
    "Note",
    "as_text",
    "canonical_tables",
    "damaged",
    "find",
    "from_milliseconds",
    "lines",
    "read_bytes",
    "read_delimited",
    "records",
    "wrong_folder",
]

UNDETERMINED = "und"
"""Language of texts that have none, such as names of artists (ISO 639-2's code for it)."""

Note = Callable[[str], None]
"""Told in a sentence what was left out, and why."""


def find(folder: Path, *names: str) -> Path | None:
    """Return the first of the named files (patterns allowed) that a folder holds, plain or with ``.gz``."""
    for name in names:
        for pattern in (name, f"{name}.gz"):
            found = sorted(path for path in folder.glob(pattern) if path.is_file())
            if found:
                return found[0]
    return None


def wrong_folder(path: Path, title: str, expects: str) -> DataError:
    """The one error for a folder (or file) that is not what its format expects."""
    if not path.exists():
        return DataError("K240", f"There is no {path}.", f"{title} needs {expects}.")
    held = sorted(entry.name for entry in path.iterdir())[:6] if path.is_dir() else []
    holds = f"it holds {', '.join(held)}" if held else "it is empty" if path.is_dir() else "it is another file"
    return DataError("K240", f"{path} is not {title}: {holds}.", f"Name a folder with {expects}.")


def damaged(path: Path, what: str) -> DataError:
    """The error for a file that is there and cannot be used."""
    return DataError("K241", f"{path}: {what}.", "Download or unpack it again; nothing was taken over.")


def read_bytes(path: Path) -> bytes:
    """Return a whole file, unpacked where its name ends in ``.gz``.

    Raises
    ------
    DataError
        K241 damaged, unreadable or empty.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"damaged or unreadable ({error})") from error
    if not content.strip():
        raise damaged(path, "the file is empty")
    return content


def lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield ``(number, line)`` of a text file that may be packed by gzip, blank lines left out.

    Raises
    ------
    DataError
        K241 damaged, unreadable or in another encoding.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding=encoding, newline="\n") as source:
            for number, line in enumerate(source, start=1):
                stripped = line.rstrip("\r\n")
                if stripped.strip():
                    yield number, stripped
    except UnicodeDecodeError as error:
        raise damaged(path, f"after line {number} it is not {encoding}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"damaged after line {number} ({error})") from error


def records(path: Path, required: Sequence[str], note: Note | None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file with one JSON object or one Python dictionary per line.

    Lines that are neither, or lack a required key, are left out and told to ``note``.

    Raises
    ------
    DataError
        K241 no line is usable, or the file is damaged.
    """
    good, bad, first_bad = 0, 0, 0
    for number, line in lines(path):
        record = _record(line)
        if record is None or any(record.get(key) is None for key in required):
            bad += 1
            first_bad = first_bad or number
            continue
        good += 1
        yield record
    if not good:
        raise damaged(path, f"no line is an object with {', '.join(required)}")
    if bad and note is not None:
        note(f"{path.name}: {bad:,} lines without {', '.join(required)} left out, the first is line {first_bad:,}.")


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        try:
            record = ast.literal_eval(line)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return record if isinstance(record, dict) else None


def read_delimited(
    path: Path, columns: Sequence[str], *, separator: str = "\t", header: bool = False, encoding: str = "utf-8"
) -> pl.DataFrame:
    """Return a table whose values are all text and whose quotes mean nothing; short rows are filled with null.

    Raises
    ------
    DataError
        K241 unreadable, or rows with fewer columns than named throughout.
    """
    content = read_bytes(path)
    text = content if encoding == "utf-8" else content.decode(encoding).encode()
    width = text[: text.find(b"\n") + 1 or None].count(separator.encode()) + 1
    if width < len(columns):
        raise damaged(path, f"it has {width} columns where {len(columns)} are expected ({', '.join(columns)})")
    further = [f"column {position}" for position in range(len(columns), width)]
    try:
        frame = pl.read_csv(
            text,
            separator=separator,
            has_header=False,
            skip_rows=int(header),
            quote_char=None,
            schema={name: pl.String() for name in [*columns, *further]},
            truncate_ragged_lines=True,
            encoding="utf8-lossy",
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(path, f"not a table of {len(columns)} columns ({str(error).splitlines()[0][:120]})") from error
    return frame.select(columns)


def from_milliseconds(column: pl.Expr) -> pl.Expr:
    """Milliseconds since 1970 as a canonical time."""
    return pl.from_epoch(column.cast(pl.Int64), "ms").dt.replace_time_zone("UTC")


def as_text(title: str, creator: str | None = None, more: str | None = None) -> str:
    """Join what the encoder reads: title, creator and something more, each a sentence."""
    parts = [
        part.strip().rstrip(". ") if last is not None else part.strip() for part, last in _pairs(title, creator, more)
    ]
    return ". ".join(parts)


def _pairs(*parts: str | None) -> list[tuple[str, str | None]]:
    present = [part for part in parts if part and part.strip()]
    return list(zip(present, [*present[1:], None], strict=True))


def canonical_tables(
    path: Path, items: pl.DataFrame, events: pl.DataFrame, users: pl.DataFrame | None = None, note: Note | None = None
) -> Tables:
    """Take the last step: events in canonical form, of known items only; users that have events.

    Parameters
    ----------
    path
        Named in errors.
    items
        Canonical items.
    events
        ``user_id``, ``item_id``, ``timestamp`` (may be absent), ``kind``, ``weight``.
    users
        ``user_id`` and attributes; those who have events but no row get one without attributes.
    note
        Told how many events were of unknown items or incomplete.

    Raises
    ------
    DataError
        K242 no event is left.
    """
    if "timestamp" not in events.columns:
        events = events.with_columns(timestamp=pl.lit(None, EVENT_SCHEMA["timestamp"]))
    required = ["user_id", "item_id", "kind", "weight"]
    if events["timestamp"].null_count() < events.height:
        required.append("timestamp")
    whole = events.select(list(EVENT_SCHEMA)).cast(EVENT_SCHEMA).drop_nulls(required)  # type: ignore[arg-type]
    known = whole.join(items.select("item_id"), on="item_id", how="semi", maintain_order="left")
    if known.is_empty():
        raise DataError(
            "K242",
            f"{path}: none of {events.height:,} events is complete and of an item of the catalogue.",
            "Check that the files belong together.",
        )
    if note is not None and whole.height < events.height:
        note(f"{events.height - whole.height:,} of {events.height:,} events are incomplete and were left out.")
    if note is not None and known.height < whole.height:
        note(f"{whole.height - known.height:,} of {whole.height:,} events are of items without a record: left out.")
    people = known.select("user_id").unique(maintain_order=True)
    if users is not None:
        people = people.join(users.unique("user_id", keep="first"), on="user_id", how="left", maintain_order="left")
    return Tables(items=items, events=known, users=people)
