"""The three canonical tables: what every source becomes, and what every importer returns."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

__all__ = ["CONTEXT", "EVENT_SCHEMA", "ITEM_SCHEMA", "Tables", "context_columns"]

ITEM_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "creator": pl.String(),
    "description": pl.String(),
    "language": pl.String(),
    "categories": pl.List(pl.String()),
    "price": pl.Float64(),
    "text": pl.String(),
}
"""One row per item. ``language``: ISO 639-1; ``text``: what the encoder reads. Nullable: creator, description, price"""

EVENT_SCHEMA: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "timestamp": pl.Datetime("ms", "UTC"),
    "kind": pl.String(),
    "weight": pl.Float32(),
}
"""One row per event. ``timestamp`` is null throughout where the source has none. ``kind``: e.g. ``rating``"""
CONTEXT = "context."
"""Events may have further text columns of this prefix, null where not known: ``context.device``."""


def context_columns(events: pl.DataFrame) -> list[str]:
    """Names of the columns that tell events' circumstances, with their prefix, in alphabetical order."""
    return sorted(name for name in events.columns if name.startswith(CONTEXT))


@dataclass(frozen=True)
class Tables:
    """A partner's canonical tables.

    Attributes
    ----------
    items
        Columns of :data:`ITEM_SCHEMA`; ``item_id`` unique.
    events
        Columns of :data:`EVENT_SCHEMA`, then any that :data:`CONTEXT` begins; every item is in ``items``.
    users
        ``user_id`` (unique) and declared attributes as strings or numbers; may hold no attribute columns.
    """

    items: pl.DataFrame
    events: pl.DataFrame
    users: pl.DataFrame
