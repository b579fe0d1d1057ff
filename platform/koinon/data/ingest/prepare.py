"""From raw tables to prepared ones (what the rules judge), and from judged ones to canonical tables."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from koinon.data.ingest.raw import ROW, RawTable
from koinon.data.ingest.times import parse_times
from koinon.data.ingest.values import (
    as_categories,
    as_number,
    as_text,
    attribute,
    clean_words,
    render_text,
    without_placeholders,
)
from koinon.data.languages import canonical_language
from koinon.data.partner import CANONICAL_COLUMNS, EventSource, ItemSource, PartnerConfig, Source, template_fields
from koinon.data.tables import CONTEXT, EVENT_SCHEMA, ITEM_SCHEMA, context_columns
from koinon.data.validate import Prepared

__all__ = [
    "MappedTable",
    "canonical_events",
    "canonical_items",
    "canonical_users",
    "prepare_events",
    "prepare_items",
    "prepare_users",
]

_TITLE_LENGTH = 80
"""An item without a title is called by the beginning of its text."""


@dataclass(frozen=True)
class MappedTable:
    """A source's rows under canonical names.

    Attributes
    ----------
    raw
        What the reader gave: label and malformed rows.
    row
        ``int64[rows]`` row numbers.
    typed
        The columns as read.
    text
        The columns as trimmed text, null where empty.
    names
        Canonical to source column.
    """

    label: str
    malformed: pl.DataFrame
    row: pl.Series
    typed: pl.DataFrame
    text: pl.DataFrame
    names: dict[str, str]

    @classmethod
    def of(cls, raw: RawTable, source: Source) -> MappedTable:
        """Name a source's columns canonically."""
        typed = raw.frame.select(pl.col(theirs).alias(ours) for ours, theirs in source.mapped.items())
        text = pl.DataFrame([as_text(column) for column in typed])
        return cls(raw.label, raw.malformed, raw.frame[ROW], typed, text, dict(source.mapped))

    def take(self, keep: pl.Series) -> MappedTable:
        """The rows of a mask."""
        return MappedTable(
            self.label,
            self.malformed,
            self.row.filter(keep),
            self.typed.filter(keep),
            self.text.filter(keep),
            self.names,
        )

    def column(self, name: str) -> pl.Series:
        """A column's text; nulls where it is not mapped."""
        if name in self.text.columns:
            return self.text[name]
        return pl.repeat(None, self.text.height, dtype=pl.String, eager=True).alias(name)

    def decoded(self) -> pl.Series:
        """``bool[rows]``: every byte of the row was valid in the file's encoding."""
        damaged = [pl.col(name).str.contains("\ufffd", literal=True).fill_null(False) for name in self.text.columns]
        return self.text.select(~pl.any_horizontal(damaged)).to_series()

    def prepared(self, table: str, frame: pl.DataFrame) -> Prepared:
        """Put the row numbers before the prepared columns."""
        return Prepared(table, self.label, frame.insert_column(0, self.row), self.text, self.names, self.malformed)


def prepare_items(items: MappedTable, config: PartnerConfig, source: ItemSource) -> Prepared:
    """Canonical columns of items, and what their rules ask about."""
    fields = {name: clean_words(items.column(name)) for name in {*template_fields(config.text), "title"}}
    separator = source.list_separator
    if separator is None and (source.path or "").removesuffix(".gz").endswith(".item"):
        separator = " "
    categories = as_categories(without_placeholders(items.column("categories")), separator)
    fields["categories"] = categories.list.join(", ")
    fields["categories"] = fields["categories"].set(fields["categories"] == "", None)
    price = without_placeholders(items.column("price"))
    number = as_number(price)
    language = without_placeholders(items.column("language"))
    known = language.to_frame("code").select(canonical_language(pl.col("code"))).to_series()
    for name in ("creator", "description"):
        fields[name] = without_placeholders(clean_words(items.column(name)))
    text = render_text(pl.DataFrame([column.alias(name) for name, column in fields.items()]), config.text)
    frame = pl.DataFrame(
        {
            "item_id": items.column("item_id"),
            "title": fields["title"].fill_null(text.str.slice(0, _TITLE_LENGTH)),
            "creator": fields["creator"],
            "description": fields["description"],
            "language": known.fill_null(config.language),
            "categories": categories,
            "price": number,
            "text": text,
            "price:readable": number.is_not_null() | price.is_null(),
            "language:known": known.is_not_null() | language.is_null(),
            "item_id:decoded": items.decoded(),
        }
    )
    return items.prepared("items", frame)


def prepare_events(events: MappedTable, config: PartnerConfig, source: EventSource) -> Prepared:
    """Canonical columns of events, and what their rules ask about."""
    weight = without_placeholders(events.column("weight"))
    number, place = as_number(weight), as_number(events.column("order"))
    stamp = without_placeholders(events.column("timestamp"))
    typed = events.typed["timestamp"] if "timestamp" in events.names else stamp
    times = parse_times(typed, stamp, source.time_unit, source.time_format, config.time_zone)
    untimed = stamp.null_count() == len(stamp)
    frame = pl.DataFrame(
        {
            "user_id": events.column("user_id"),
            "item_id": events.column("item_id"),
            "timestamp": times["timestamp"],
            "order": place,
            "kind": events.column("kind").fill_null(source.kind),
            "weight": number,
            "weight:readable": number.is_finite().fill_null(False) | weight.is_null(),
            "order:readable": place.is_not_null() if "order" in events.names else place.is_null(),
            "timestamp:present": stamp.is_null() if untimed else stamp.is_not_null(),
            "timestamp:readable": times["readable"],
            "timestamp:one_unit": times["one_unit"],
            "user_id:decoded": events.decoded(),
            **{CONTEXT + name: without_placeholders(events.column(CONTEXT + name)) for name in source.context},
        }
    )
    return events.prepared("events", frame)


def prepare_users(users: MappedTable) -> Prepared:
    """Canonical columns of users, and what their rules ask about."""
    attributes = [
        attribute(users.typed[name]).alias(name) for name in users.names if name not in CANONICAL_COLUMNS["users"]
    ]
    frame = pl.DataFrame([users.column("user_id").alias("user_id"), *attributes])
    return users.prepared("users", frame.with_columns(users.decoded().alias("user_id:decoded")))


def canonical_items(kept: pl.DataFrame) -> pl.DataFrame:
    """Judged items as :data:`koinon.data.tables.ITEM_SCHEMA`; unusable prices become null."""
    sound = pl.col("price").is_finite() & (pl.col("price") >= 0)
    return kept.with_columns(price=pl.when(sound).then("price")).select(list(ITEM_SCHEMA)).cast(ITEM_SCHEMA)  # type: ignore[arg-type]


def canonical_events(kept: pl.DataFrame) -> pl.DataFrame:
    """Judged events as :class:`koinon.data.tables.Tables` has them, each user's in order of time, place, source row."""
    context = context_columns(kept)
    return (
        kept.sort("user_id", "timestamp", "order", maintain_order=True)
        .with_columns(pl.col("timestamp").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))
        .with_columns(pl.col("weight").fill_null(1.0))
        .select([*EVENT_SCHEMA, *context])
        .cast(EVENT_SCHEMA)  # type: ignore[arg-type]
    )


def canonical_users(kept: pl.DataFrame) -> pl.DataFrame:
    """Judged users: id and attributes."""
    return kept.select(name for name in kept.columns if name != ROW and ":" not in name)
