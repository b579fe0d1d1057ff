"""Every fault a row can have: a stable code, what it means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

__all__ = ["FAULTS", "QUARANTINE_SCHEMA", "FaultKind", "empty_quarantine", "explain"]


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault.

    Attributes
    ----------
    name
        Short name, e.g. ``unknown-item``.
    reason
        What is wrong, one sentence.
    remedy
        What to do, one sentence.
    kept
        Whether the row stays in the vault with a remark instead of going to the quarantine.
    """

    name: str
    reason: str
    remedy: str
    kept: bool = False


FAULTS: dict[str, FaultKind] = {
    "K210": FaultKind(
        "malformed-row",
        "The row cannot be read: wrong number of fields, an open quote, or broken JSON.",
        "Mend the row; if there are many, check `delimiter`, `quote` and `escape` in partner.toml.",
    ),
    "K211": FaultKind(
        "wrong-encoding",
        "The row holds bytes that are not valid in the file's encoding.",
        "Write the file in one encoding and name it as `encoding` in partner.toml.",
    ),
    "K212": FaultKind("missing-value", "A required value is empty.", "Fill it in or leave the row out."),
    "K213": FaultKind("duplicate-row", "The same row stands in the table before.", "Nothing: the first one is kept."),
    "K214": FaultKind(
        "conflicting-row",
        "The same id (of events: the same user, item and time) stands in the table before with other values.",
        "Decide which one is right; the first one is kept until then.",
    ),
    "K215": FaultKind(
        "empty-text",
        "The item has no text for the encoder to read.",
        "Give it a title, or name further columns in `text` of partner.toml.",
    ),
    "K216": FaultKind(
        "unknown-item",
        "The event's item is not in the catalogue.",
        "Add the item, or check that both tables spell ids alike.",
    ),
    "K217": FaultKind(
        "unknown-user",
        "The event's user is not in the users table.",
        "Nothing, if the table is partial: the event is kept, without attributes.",
        kept=True,
    ),
    "K218": FaultKind(
        "unreadable-time",
        "The time cannot be read.",
        "Give `time_unit` or `time_format` (strptime) in sources.events of partner.toml.",
    ),
    "K219": FaultKind("future-time", "The time lies in the future.", "Correct the clock or the unit of the column."),
    "K220": FaultKind(
        "mixed-time-unit",
        "The time is in another unit than most of the column (seconds, milliseconds ...).",
        "Convert the column to one unit.",
    ),
    "K221": FaultKind("not-a-number", "The value should be a number.", "Write it with a decimal point, without units."),
    "K222": FaultKind("out-of-range", "The number is negative or not finite.", "Correct the value."),
    "K223": FaultKind(
        "unknown-language",
        "The language is not an ISO 639 code; the partner's language is taken.",
        "Use codes such as en, de, fr, es.",
        kept=True,
    ),
    "K224": FaultKind(
        "ancient-time", "The time lies before 1980: a missing value or a wrong unit.", "Leave missing times empty."
    ),
}
"""Fault code to kind. Codes are stable; several faults of one row are all reported."""

QUARANTINE_SCHEMA: dict[str, pl.DataType] = {
    "table": pl.String(),
    "file": pl.String(),
    "row": pl.Int64(),
    "column": pl.String(),
    "value": pl.String(),
    "code": pl.String(),
    "reason": pl.String(),
    "remedy": pl.String(),
    "kept": pl.Boolean(),
    "user_id": pl.String(),
    "content": pl.String(),
}
"""One row per fault. ``row`` counts the header as 1, so it is the line of a file without line breaks in fields;
``content`` is the row as JSON."""


def empty_quarantine() -> pl.DataFrame:
    """A quarantine without faults."""
    return pl.DataFrame(schema=QUARANTINE_SCHEMA)


def explain(faults: pl.DataFrame) -> pl.DataFrame:
    """Add ``reason``, ``remedy`` and ``kept`` to faults that have a ``code``."""
    kinds = pl.DataFrame(
        [
            {"code": code, "reason": kind.reason, "remedy": kind.remedy, "kept": kind.kept}
            for code, kind in FAULTS.items()
        ]
    )
    return faults.join(kinds, on="code", how="left", maintain_order="left").select(list(QUARANTINE_SCHEMA))
