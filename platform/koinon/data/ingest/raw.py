"""What a reader returns: the wanted columns as they stand in the source, with row numbers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from koinon.errors import DataError

__all__ = ["MALFORMED_SCHEMA", "ROW", "RawTable", "require_columns"]

ROW = "__row__"
"""Name of the row number's column. The header counts as row 1 where there is one."""

MALFORMED_SCHEMA: dict[str, pl.DataType] = {ROW: pl.Int64(), "content": pl.String()}


@dataclass(frozen=True)
class RawTable:
    """One source as read.

    Attributes
    ----------
    label
        How faults name the source.
    frame
        :data:`ROW` and the wanted columns, text as text, typed columns as they were.
    malformed
        Rows that could not be read: their row number and, where it is text, what they hold.
    """

    label: str
    frame: pl.DataFrame
    malformed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=MALFORMED_SCHEMA))

    @property
    def n_rows(self) -> int:
        """Rows of the source, readable or not."""
        return self.frame.height + self.malformed.height


def require_columns(wanted: Sequence[str], found: Sequence[str], label: str) -> None:
    """Raise K205 when a mapped column is not in the source; names what is there and the likely spelling."""
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    hints = []
    for name in missing:
        folded = {column.casefold().strip(): column for column in found}
        near = difflib.get_close_matches(name.casefold(), folded, n=1)
        hints.append(f"`{name}`" + (f" (did you mean `{folded[near[0]]}`?)" if near else ""))
    shown = ", ".join(f"`{name}`" for name in found[:30]) + (" ..." if len(found) > 30 else "")
    raise DataError(
        "K205",
        f"{label} has no column {', '.join(hints)}. It has: {shown}.",
        "Correct `columns` of this source in partner.toml.",
    )
