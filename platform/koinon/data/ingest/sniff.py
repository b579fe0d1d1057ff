"""How a file is written, by looking at it: format, encoding, delimiter, header."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from koinon.data.ingest.sources import format_of
from koinon.data.ingest.text import DELIMITERS, Dialect, open_bytes, read_bytes, suggest_encoding
from koinon.data.partner import Format, Source
from koinon.errors import DataError

__all__ = ["Sniffed", "sniff"]

_SAMPLE_LINES = 200
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Sniffed:
    """What a file seems to be; ``None`` where its format has no such thing."""

    format: Format
    encoding: str | None = None
    delimiter: str | None = None
    quote: str = '"'
    escape: str = '"'
    header: bool = True


def sniff(path: Path) -> Sniffed:
    """Look at a file's first megabytes.

    Raises
    ------
    DataError
        K200 unreadable, K201 empty, K202 damaged or no table at all.
    """
    with open_bytes(path) as file:
        start = read_bytes(file, path, 1 << 25)
    if start.startswith(b"PAR1"):
        return Sniffed("parquet")
    encoding = suggest_encoding(start)
    if b"\0" in start[:65536] and encoding != "utf-16":
        raise DataError("K202", f"{path} is not a table Koinon can read.", "Export it as CSV, JSON lines or Parquet.")
    text = start.decode(encoding, errors="replace").lstrip("\ufeff")
    lines = [line.rstrip("\r") for line in text.split("\n")[:_SAMPLE_LINES] if line.strip()]
    if not lines:
        raise DataError("K201", f"{path} is empty.", "Export it again, or name another file.")
    if lines[0].lstrip().startswith("{"):
        return Sniffed("jsonl", encoding)
    try:
        if format_of(Source(path=str(path))) == "recbole":
            return Sniffed("recbole", encoding, "\t", "")
    except DataError:
        pass
    delimiter = _delimiter(lines)
    escape = _escape(text, delimiter)
    dialect = Dialect(delimiter, escape=escape)
    return Sniffed("tsv" if delimiter == "\t" else "csv", encoding, delimiter, '"', escape, _has_header(lines, dialect))


def _delimiter(lines: list[str]) -> str:
    """The separator that gives most lines the same number of fields, the more fields the better."""

    def fit(delimiter: str) -> tuple[float, int]:
        counts = Counter(len(_fields(line, Dialect(delimiter))) for line in lines)
        fields, agreeing = counts.most_common(1)[0]
        return (agreeing / len(lines) if fields > 1 else 0.0, fields)

    candidates = ("::", *DELIMITERS)
    scores = {delimiter: fit(delimiter) for delimiter in candidates}
    best = max(scores.values())[0]
    near = [delimiter for delimiter in candidates if scores[delimiter][0] >= best - 0.05]
    return max(near, key=lambda delimiter: scores[delimiter][1]) if best > 0 else ","


def _escape(text: str, delimiter: str) -> str:
    """What more often stands before a quote within quotes: a backslash, or the quote itself."""
    edge = re.escape(delimiter)
    inside = f'[^{edge}\\r\\n"]' if len(delimiter) == 1 else '[^\\r\\n"]'
    doubled = len(re.findall(f'{inside}""(?!{edge}|\\r|\\n)', text))
    return "\\" if text.count('\\"') > doubled else '"'


def _fields(line: str, dialect: Dialect) -> list[str]:
    try:
        return dialect.split(line)
    except csv.Error:
        return []


def _has_header(lines: list[str], dialect: Dialect) -> bool:
    """The first line names columns: no numbers in it, no field empty or repeated."""
    first = [field.strip() for field in _fields(lines[0], dialect)]
    return bool(first) and all(first) and len(set(first)) == len(first) and not any(map(_NUMBER.fullmatch, first))
