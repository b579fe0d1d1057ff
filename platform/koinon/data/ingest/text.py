"""Text files, streamed: bytes to lines to fields, with line numbers and without losing good rows to bad ones."""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import polars as pl

from koinon.data.ingest.raw import MALFORMED_SCHEMA, ROW, RawTable, require_columns
from koinon.errors import DataError

__all__ = ["DELIMITERS", "Dialect", "iterate_lines", "open_bytes", "read_delimited", "read_header", "suggest_encoding"]

DELIMITERS = (",", ";", "\t", "|")
"""What separates fields of text tables in practice; used to guess and to name faults."""

REPLACEMENT = "\ufffd"
_CHUNK = 1 << 25
_LONGEST_RECORD = 200
"""A quoted field may span so many lines; beyond that the quote counts as never closed."""


@dataclass(frozen=True)
class Dialect:
    """How a text table is written: see :class:`koinon.data.partner.Source`."""

    delimiter: str
    quote: str = '"'
    escape: str = '"'
    encoding: str = "utf-8"
    header: bool = True

    @property
    def quoting(self) -> bool:
        """Whether quotes mean anything: not with a delimiter of several characters."""
        return bool(self.quote) and len(self.delimiter) == 1

    def split(self, record: str) -> list[str]:
        """Fields of one record.

        Raises
        ------
        csv.Error
            A quote is open or misplaced.
        """
        return next(self.parse([record]), []) if self.quoting else record.split(self.delimiter)

    def parse(self, lines: list[str]) -> Iterator[list[str]]:
        """Records of lines, with quotes (errors: as :meth:`split`)."""
        escape = None if self.escape in ("", self.quote) else self.escape
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            doublequote=escape is None,
            escapechar=escape,
            strict=True,
        )


def open_bytes(path: Path) -> BufferedIOBase:
    """Open a file for reading, unpacking gzip (recognised by its first bytes).

    Raises
    ------
    DataError
        K200 missing or unreadable, K201 empty.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(2)
        if not magic:
            raise DataError("K201", f"{path} is empty.", "Export it again, or name another file in partner.toml.")
        return gzip.open(path, "rb") if magic == b"\x1f\x8b" else path.open("rb")
    except FileNotFoundError as error:
        raise DataError("K200", f"There is no file {path}.", "Correct `path` in partner.toml.") from error
    except OSError as error:
        raise DataError(
            "K200", f"Cannot read {path}: {error.strerror or error}.", "Check the file's rights."
        ) from error


def read_bytes(file: BufferedIOBase, path: Path, size: int) -> bytes:
    """Read up to ``size`` bytes; a damaged or cut-off gzip file gives K202, a failing disk K200."""
    try:
        return file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            "K202", f"{path} is damaged or cut off: {error}.", "Copy or export the file again; nothing was taken over."
        ) from error
    except OSError as error:
        raise DataError("K200", f"Cannot read {path}: {error.strerror or error}.", "Check the disk.") from error


def iterate_lines(path: Path, encoding: str) -> Iterator[list[str]]:
    """Yield a text file's lines in portions of about 32 MB, undecodable bytes as U+FFFD.

    Raises
    ------
    DataError
        K200, K201, K202 (binary or damaged), K203 (the whole file is in another encoding).
    """
    with open_bytes(path) as file:
        start = read_bytes(file, path, _CHUNK)
        encoding = _effective_encoding(start, encoding, path)
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        rest, census = "", _EncodingCensus()
        chunk = start
        while chunk:
            text = rest + decoder.decode(chunk)
            body, newline, rest = text.rpartition("\n")
            if newline:
                lines = body.replace("\r\n", "\n").removesuffix("\r").split("\n")
                census.count(text)
                yield lines
            chunk = read_bytes(file, path, _CHUNK)
        rest += decoder.decode(b"", final=True)
        if rest:
            census.count(rest)
            yield [rest.removesuffix("\r")]
        if census.foreign:
            raise DataError(
                "K203",
                f"{path} is not in {encoding}: {census.bad} lines hold bytes that are invalid in it.",
                f'Set `encoding = "{suggest_encoding(start)}"` for this source in partner.toml, or convert the file.',
            )


class _EncodingCensus:
    """Tells a file in another encoding from a file with some damaged lines."""

    def __init__(self) -> None:
        self.bad = self.good = self.lines = 0

    def count(self, text: str) -> None:
        if text.isascii():
            self.lines += text.count("\n") + 1
            return
        lines = pl.Series(text.split("\n"))
        bad = lines.str.contains(REPLACEMENT, literal=True)
        self.lines += len(lines)
        self.bad += int(bad.sum())
        self.good += int((~bad & lines.str.contains(r"[^\x00-\x7F]")).sum())

    @property
    def foreign(self) -> bool:
        """No line with letters beyond ASCII is valid, and they are too many for a slip."""
        return self.good == 0 and (self.bad >= 10 or self.bad > 0.01 * self.lines > 0)


def _effective_encoding(start: bytes, encoding: str, path: Path) -> str:
    canonical = codecs.lookup(encoding).name
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        if canonical.startswith("utf-16"):
            return "utf-16"
        raise DataError("K203", f"{path} is in UTF-16.", 'Set `encoding = "utf-16"` for this source in partner.toml.')
    if not canonical.startswith(("utf-16", "utf-32")) and b"\0" in start[:65536]:
        raise DataError("K202", f"{path} is not a text file.", "Set `format` or `encoding` of this source.")
    return "utf-8-sig" if canonical == "utf-8" else canonical


def suggest_encoding(start: bytes) -> str:
    """The likely encoding of a file, from its first bytes."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
        return "utf-8"
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte <= 0x9F for byte in set(start)) else "latin-1"


def read_header(path: Path, dialect: Dialect) -> list[str]:
    """Column names of a delimited file."""
    for lines in iterate_lines(path, dialect.encoding):
        for line in lines:
            if line.strip():
                return _names(line, dialect)
    raise DataError("K201", f"{path} is empty.", "Export it again, or name another file in partner.toml.")


def _names(line: str, dialect: Dialect) -> list[str]:
    try:
        fields = dialect.split(line)
    except csv.Error:
        fields = line.split(dialect.delimiter)
    if not dialect.header:
        return [f"c{number}" for number in range(1, len(fields) + 1)]
    return [field.strip() for field in fields]


def read_delimited(
    path: Path, label: str, dialect: Dialect, wanted: list[str], *, limit: int | None = None
) -> RawTable:
    """Read the wanted columns of a delimited text file.

    Lines without quotes are split as whole columns; only the others are parsed one by one.

    Parameters
    ----------
    path
        The file, plain or gzipped.
    label
        How faults name it.
    dialect
        How it is written.
    wanted
        Names as in the file; empty for all.
    limit
        Stop after about so many lines (for guessing).
    """
    names: list[str] = []
    frames: list[pl.DataFrame] = []
    malformed: list[tuple[int, str]] = []
    first_line = 1
    carry: list[str] = []
    for portion in iterate_lines(path, dialect.encoding):
        lines = carry + (portion if limit is None else portion[:limit])
        if not names:
            head = next((at for at, line in enumerate(lines) if line.strip()), None)
            if head is None:
                first_line += len(lines)
                continue
            names = _names(lines[head], dialect)
            _require(wanted, names, label, lines[head], dialect)
            skip = head + int(dialect.header)
            lines, first_line = lines[skip:], first_line + skip
        parser = _Portion(lines, first_line, names, wanted or names, dialect)
        frames.append(parser.frame)
        malformed += parser.malformed
        carry, first_line = parser.open_tail, first_line + len(lines) - len(parser.open_tail)
        if limit is not None:
            break
    if carry and limit is None:
        parser = _Portion(carry, first_line, names, wanted or names, dialect, last=True)
        frames.append(parser.frame)
        malformed += parser.malformed
    if not names or (not malformed and sum(frame.height for frame in frames) == 0):
        raise DataError("K201", f"{path} has no rows.", "Export it again, or name another file in partner.toml.")
    return RawTable(
        label,
        pl.concat(frames) if len(frames) > 1 else frames[0],
        pl.DataFrame(sorted(malformed), schema=MALFORMED_SCHEMA, orient="row"),
    )


def _require(wanted: list[str], names: list[str], label: str, header: str, dialect: Dialect) -> None:
    """Raise K204 when the header is one piece because the delimiter is another, K205 when columns are missing."""
    if len(names) == 1 and any(name not in names for name in wanted):
        count, likely = max((header.count(delimiter), delimiter) for delimiter in DELIMITERS)
        if count and likely != dialect.delimiter:
            raise DataError(
                "K204",
                f"{label} is not separated by {dialect.delimiter!r}: its first line reads {header[:80]!r}.",
                f"Set `delimiter = {likely!r}` for this source in partner.toml.",
            )
    require_columns(wanted, names, label)


class _Portion:
    """One portion of lines, parsed: the good rows, the malformed ones, and a record still open at the end."""

    def __init__(
        self,
        lines: list[str],
        first_line: int,
        names: list[str],
        wanted: list[str],
        dialect: Dialect,
        last: bool = False,
    ) -> None:
        self._dialect, self._width, self._last = dialect, len(names), last
        self._picked = {name: names.index(name) for name in wanted}
        self.malformed: list[tuple[int, str]] = []
        self.open_tail: list[str] = []
        column = pl.Series("line", lines, dtype=pl.String)
        frame = pl.DataFrame({ROW: pl.int_range(first_line, first_line + len(lines), eager=True), "line": column})
        special = pl.lit(False)
        if dialect.quoting:
            special = pl.col("line").str.contains(dialect.quote, literal=True)
            if dialect.escape not in ("", dialect.quote):
                special |= pl.col("line").str.contains(dialect.escape, literal=True)
        is_special = frame.select(special.alias("special")).to_series()
        if len(is_special) != frame.height:
            is_special = pl.repeat(False, frame.height, eager=True)
        taken, parsed = self._parse_special(lines, first_line, is_special)
        plain = frame.filter(~(is_special | taken))
        self.frame = pl.concat([self._split_plain(plain), parsed]).sort(ROW)

    def _split_plain(self, frame: pl.DataFrame) -> pl.DataFrame:
        frame = frame.filter(pl.col("line").str.strip_chars() != "")
        fields = frame.select(ROW, "line", pl.col("line").str.split(self._dialect.delimiter).alias("fields"))
        fits = fields["fields"].list.len() == self._width
        self.malformed += fields.filter(~fits).select(ROW, "line").rows()
        return fields.filter(fits).select(
            ROW, *(pl.col("fields").list.get(at).alias(name) for name, at in self._picked.items())
        )

    def _parse_special(
        self, lines: list[str], first_line: int, is_special: pl.Series
    ) -> tuple[pl.Series, pl.DataFrame]:
        """Parse lines with quotes; ``taken[lines]`` marks the further lines of records that span several."""
        places = is_special.arg_true().to_list()
        taken = [False] * len(lines)
        records: list[tuple[int, list[str]]] = []
        for at, fields in self._single_lines(lines, places) or self._records(lines, places, taken):
            if len(fields) == self._width:
                records.append((first_line + at, fields))
            else:
                self.malformed.append((first_line + at, lines[at]))
        data: dict[str, list[int] | list[str]] = {ROW: [row for row, _ in records]}
        for name, position in self._picked.items():
            data[name] = [fields[position] for _, fields in records]
        schema = {ROW: pl.Int64(), **dict.fromkeys(self._picked, pl.String())}
        return pl.Series(taken, dtype=pl.Boolean), pl.DataFrame(data, schema=schema)

    def _single_lines(self, lines: list[str], places: list[int]) -> list[tuple[int, list[str]]]:
        """The quick way, where no record spans lines and none is broken; otherwise nothing."""
        if not places:
            return []
        try:
            records = list(self._dialect.parse([lines[at] for at in places]))
        except csv.Error:
            return []
        # Every record takes at least a line: as many records as lines means that each took one.
        return list(zip(places, records, strict=True)) if len(records) == len(places) else []

    def _records(self, lines: list[str], places: list[int], taken: list[bool]) -> Iterator[tuple[int, list[str]]]:
        free = 0
        for at in places:
            if at < free:
                continue
            fields, span = self._record(lines, at)
            if span == 0:
                self.open_tail = lines[at:]
                taken[at:] = [True] * (len(lines) - at)
                return
            free = at + span
            taken[at + 1 : free] = [True] * (span - 1)
            yield at, fields

    def _record(self, lines: list[str], at: int) -> tuple[list[str], int]:
        """Fields of the record that begins at a line and how many lines it spans; span 0: it goes on after these."""
        for span in range(1, _LONGEST_RECORD + 1):
            # Only a line with a quote can close the record.
            if span == 1 or self._dialect.quote in lines[at + span - 1]:
                try:
                    return self._dialect.split("\n".join(lines[at : at + span])), span
                except csv.Error as error:
                    if "unexpected end of data" not in str(error):
                        return [], 1
            if at + span >= len(lines):
                return [], int(self._last)
        return [], 1
