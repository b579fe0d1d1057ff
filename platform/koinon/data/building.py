"""Building canonical tables from columns."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from koinon.data.tables import ITEM_SCHEMA

__all__ = ["item_table"]


def item_table(
    ids: Sequence[str],
    titles: Sequence[str],
    texts: Sequence[str],
    *,
    creators: Sequence[str | None] | None = None,
    descriptions: Sequence[str | None] | None = None,
    languages: Sequence[str] | str = "en",
    categories: Sequence[Sequence[str]] | None = None,
    prices: Sequence[float | None] | None = None,
) -> pl.DataFrame:
    """Build a canonical item table of parallel columns; of repeated ids the first stays.

    ``languages`` may be one for all. Columns that are ``None`` are null throughout, categories empty.
    """
    given: dict[str, Sequence[object] | None] = {
        "item_id": ids,
        "title": titles,
        "creator": creators,
        "description": descriptions,
        "language": None if isinstance(languages, str) else languages,
        "categories": categories,
        "price": prices,
        "text": texts,
    }
    present = {name: values for name, values in given.items() if values is not None}
    frame = pl.DataFrame(present, schema={name: ITEM_SCHEMA[name] for name in present})
    # A literal is a thousand times faster here than a column of as many empty lists.
    constants: dict[str, object] = {"language": languages, "categories": []}
    frame = frame.with_columns(
        pl.lit(constants.get(name), dtype=kind).alias(name) for name, kind in ITEM_SCHEMA.items() if name not in present
    )
    return frame.select(list(ITEM_SCHEMA)).unique("item_id", keep="first", maintain_order=True)
