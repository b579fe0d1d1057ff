"""What an ingest did: counts only, no value of any row, so that it may be kept beside the vault."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

__all__ = ["FaultCount", "IngestReport", "TableCount", "count_faults"]


@dataclass(frozen=True)
class FaultCount:
    """How often one fault occurred in one column."""

    code: str
    table: str
    file: str
    column: str | None
    rows: int
    first_row: int
    kept: bool
    """Whether the rows stay in the vault with this remark."""


@dataclass(frozen=True)
class TableCount:
    """Rows of one table: ``read = kept + quarantined + withdrawn + forgotten``."""

    read: int
    kept: int
    quarantined: int
    withdrawn: int = 0
    """Rows of people without a given consent, where a consent column is declared."""
    forgotten: int = 0
    """Rows of people whom the partner was asked to forget."""


@dataclass(frozen=True)
class IngestReport:
    """The outcome of :meth:`koinon.data.vault.Vault.ingest`."""

    partner: str
    tables: dict[str, TableCount] = field(default_factory=dict)
    faults: tuple[FaultCount, ...] = ()
    fingerprint: str = ""
    seconds: float = 0.0

    @property
    def quarantined(self) -> int:
        """Rows taken out, all tables together."""
        return sum(table.quarantined for table in self.tables.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def count_faults(faults: pl.DataFrame, noted: dict[tuple[str, str], int]) -> tuple[FaultCount, ...]:
    """Count faults by code and column; ``noted[(table, code)]`` has the true count of remarks that were cut off."""
    counted = faults.group_by("code", "table", "file", "column", "kept", maintain_order=True).agg(
        rows=pl.len(), first_row=pl.col("row").min()
    )
    return tuple(
        FaultCount(
            code=row["code"],
            table=row["table"],
            file=row["file"],
            column=row["column"],
            rows=max(row["rows"], noted.get((row["table"], row["code"]), 0)) if row["kept"] else row["rows"],
            first_row=row["first_row"],
            kept=row["kept"],
        )
        for row in counted.sort("kept", "code", "table").to_dicts()
    )
