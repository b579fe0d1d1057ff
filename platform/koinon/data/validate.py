"""The rules a row must keep, as pandera schemas over prepared columns, and what happens to rows that break them.

A prepared table holds, beside the canonical columns, what the rules ask about: whether a number or a time could be
read, whether a row's bytes were valid. Field rules come first; among the rows that keep them, repeated ids and
references to other tables are judged, so that a good second row survives a broken first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandera.polars as pa
import polars as pl

from koinon.data.faults import FAULTS, QUARANTINE_SCHEMA, explain
from koinon.data.ingest.raw import ROW

__all__ = ["EARLIEST", "Prepared", "Verdict", "judge_events", "judge_items", "judge_users"]

EARLIEST = 315_532_800_000
"""1980-01-01 UTC in milliseconds: no event is older."""

_SLACK = 86_400_000
"""A day: clocks and zones differ by less."""

_MOST_NOTES = 1000
"""Remarks on rows that stay are kept up to so many per code; they are all counted."""

_OPTIONAL_VALUES = frozenset({("items", "price")})
"""Columns whose bad value is set to null while the row stays."""


def _rule(code: str, condition: pl.Expr) -> pa.Check:
    return pa.Check(lambda data: data.lazyframe.select(condition), name=code, error=code, ignore_na=False)


def _column(kind: pl.DataType, column: str, **rules: pl.Expr) -> pa.Column:
    return pa.Column(kind, checks=[_rule(code, rule) for code, rule in rules.items()], nullable=True, name=column)


def _filled(column: str) -> pa.Column:
    return _column(pl.String(), column, K212=pl.col(column).is_not_null())


def _true(column: str, code: str) -> pa.Column:
    return _column(pl.Boolean(), column, **{code: pl.col(column).fill_null(True)})


def _number(column: str) -> pa.Column:
    value = pl.col(column)
    return _column(pl.Float64(), column, K222=value.is_null() | (value.is_finite() & (value >= 0)))


ITEM_RULES = pa.DataFrameSchema(
    {
        "item_id": _filled("item_id"),
        "text": _column(pl.String(), "text", K215=pl.col("text").is_not_null()),
        "price": _number("price"),
        "price:readable": _true("price:readable", "K221"),
        "language:known": _true("language:known", "K223"),
        "item_id:decoded": _true("item_id:decoded", "K211"),
    }
)
"""Field rules of items. The part after the colon is what is asked about the column before it."""


def event_rules(now: int, timed: bool) -> pa.DataFrameSchema:
    """Field rules of events at a moment (milliseconds since 1970 UTC)."""
    time = pl.col("timestamp")
    rules: dict[str, pa.Column] = {
        "user_id": _filled("user_id"),
        "item_id": _filled("item_id"),
        "weight:readable": _true("weight:readable", "K221"),
        "order:readable": _true("order:readable", "K221"),
        "user_id:decoded": _true("user_id:decoded", "K211"),
    }
    if timed:
        in_unit = pl.col("timestamp:one_unit")
        rules |= {
            "timestamp:present": _true("timestamp:present", "K212"),
            "timestamp:readable": _true("timestamp:readable", "K218"),
            "timestamp:one_unit": _column(pl.Boolean(), "timestamp:one_unit", K220=in_unit),
            "timestamp": _column(
                pl.Int64(),
                "timestamp",
                K224=time.is_null() | (time >= EARLIEST),
                K219=time.is_null() | (time <= now + _SLACK),
            ),
        }
    return pa.DataFrameSchema(rules)


USER_RULES = pa.DataFrameSchema({"user_id": _filled("user_id"), "user_id:decoded": _true("user_id:decoded", "K211")})
"""Field rules of users; attributes are the partner's to declare."""


@dataclass(frozen=True)
class Prepared:
    """A table ready to be judged.

    Attributes
    ----------
    table
        ``items``, ``events`` or ``users``.
    label
        How faults name the source.
    frame
        Row number, canonical columns, and the columns the rules ask about.
    raw
        The mapped columns as text, by canonical name, in the same row order: what faults quote.
    names
        Canonical to source column.
    malformed
        Rows that could not be read (see :class:`koinon.data.ingest.raw.RawTable`).
    """

    table: str
    label: str
    frame: pl.DataFrame
    raw: pl.DataFrame
    names: Mapping[str, str]
    malformed: pl.DataFrame


@dataclass(frozen=True)
class Verdict:
    """What is kept of a table, and every fault found.

    Attributes
    ----------
    kept
        The good rows, with the columns of ``Prepared.frame``.
    faults
        Rows of :data:`koinon.data.faults.QUARANTINE_SCHEMA`.
    noted
        Fault code to the number of rows that stay with that remark (``faults`` holds at most 1000 of each).
    read
        Rows judged, malformed ones included.
    """

    kept: pl.DataFrame
    faults: pl.DataFrame
    noted: dict[str, int]
    read: int


@dataclass
class _Finding:
    code: str
    column: str
    rows: pl.Series
    """Positions in the prepared frame."""


def judge_items(items: Prepared) -> Verdict:
    """Apply the items' rules."""
    findings = _field_findings(items, ITEM_RULES)
    good = _good_positions(items, findings)
    findings += _repetitions(items, good, ["item_id"])
    return _verdict(items, findings)


def judge_users(users: Prepared) -> Verdict:
    """Apply the users' rules."""
    findings = _field_findings(users, USER_RULES)
    findings += _repetitions(users, _good_positions(users, findings), ["user_id"])
    return _verdict(users, findings)


def judge_events(events: Prepared, item_ids: pl.Series, user_ids: pl.Series | None, now: int) -> Verdict:
    """Apply the events' rules; ``user_ids`` is ``None`` where there is no users table."""
    timed = "timestamp" in events.names
    findings = _field_findings(events, event_rules(now, timed))
    good = _good_positions(events, findings)
    known = events.frame["item_id"].is_in(item_ids.implode())
    findings.append(_Finding("K216", "item_id", good.filter(~known.gather(good))))
    good = good.filter(known.gather(good))
    # Rows that say when or in which order things happened may repeat; without either a repetition says nothing.
    findings += _repetitions(events, good, ["user_id", "item_id", "kind", "timestamp", "order"])
    if user_ids is not None:
        good = _good_positions(events, findings)
        strange = ~events.frame["user_id"].is_in(user_ids.implode())
        findings.append(_Finding("K217", "user_id", good.filter(strange.gather(good))))
    return _verdict(events, findings)


def _field_findings(prepared: Prepared, rules: pa.DataFrameSchema) -> list[_Finding]:
    asked = prepared.frame.select(list(rules.columns))
    try:
        rules.validate(asked, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = pl.DataFrame(error.failure_cases).select("column", "check", "index").cast({"index": pl.UInt32})
        return [
            _Finding(str(code), str(column).partition(":")[0], part["index"])
            for (column, code), part in cases.group_by("column", "check", maintain_order=True)
        ]
    return []


def _good_positions(prepared: Prepared, findings: Iterable[_Finding]) -> pl.Series:
    bad = [finding.rows for finding in findings if not _stays(prepared.table, finding)]
    everything = pl.int_range(0, prepared.frame.height, dtype=pl.UInt32, eager=True)
    if not bad:
        return everything
    return everything.filter(~everything.is_in(pl.concat(bad).unique().implode()))


def _stays(table: str, finding: _Finding) -> bool:
    return FAULTS[finding.code].kept or (table, finding.column) in _OPTIONAL_VALUES


def _repetitions(prepared: Prepared, good: pl.Series, key: Sequence[str]) -> list[_Finding]:
    """K213 for rows equal to the first with their key, K214 for rows that differ from it."""
    present = [name for name in key if name in prepared.frame.columns]
    order = prepared.frame.select(present).with_row_index("at").select(pl.all().gather(good))
    first = order.select("at", first=pl.col("at").first().over(present))
    later = first.filter(pl.col("at") != pl.col("first"))
    if later.is_empty():
        return []
    same = _rows_equal(prepared.raw, later["at"], later["first"])
    return [
        _Finding("K213", key[0], later["at"].filter(same)),
        _Finding("K214", key[0], later["at"].filter(~same)),
    ]


def _rows_equal(frame: pl.DataFrame, left: pl.Series, right: pl.Series) -> pl.Series:
    ours, theirs = frame.select(pl.all().gather(left)), frame.select(pl.all().gather(right))
    equal = pl.repeat(True, len(left), eager=True)
    for name in frame.columns:
        equal &= ours[name].eq_missing(theirs[name])
    return equal


def _verdict(prepared: Prepared, findings: Sequence[_Finding]) -> Verdict:
    noted = {finding.code: len(finding.rows) for finding in findings if _stays(prepared.table, finding)}
    faults = [_describe(prepared, finding) for finding in findings if len(finding.rows)]
    faults.append(_describe_malformed(prepared))
    kept = prepared.frame.select(pl.all().gather(_good_positions(prepared, findings)))
    return Verdict(
        kept,
        pl.concat(faults).sort("row", maintain_order=True),
        {code: count for code, count in noted.items() if count},
        prepared.frame.height + prepared.malformed.height,
    )


def _describe(prepared: Prepared, finding: _Finding) -> pl.DataFrame:
    rows = finding.rows.sort()
    stays = _stays(prepared.table, finding)
    if stays:
        rows = rows.head(_MOST_NOTES)
    raw = prepared.raw.select(pl.all().gather(rows))
    column = finding.column
    if finding.code == "K211":
        broken = [pl.when(pl.col(name).str.contains("\ufffd")).then(pl.lit(name)) for name in raw.columns]
        column_name = raw.select(pl.coalesce(broken)).to_series()
        value = raw.select(
            pl.coalesce([pl.when(pl.col(name).str.contains("\ufffd")).then(pl.col(name)) for name in raw.columns])
        ).to_series()
        sources = column_name.replace_strict(dict(prepared.names), default=column_name, return_dtype=pl.String)
    else:
        sources = pl.repeat(prepared.names.get(column, column), len(rows), dtype=pl.String, eager=True)
        value = raw[column] if column in raw.columns else pl.repeat(None, len(rows), dtype=pl.String, eager=True)
    user = raw["user_id"] if "user_id" in raw.columns else pl.repeat(None, len(rows), dtype=pl.String, eager=True)
    frame = pl.DataFrame(
        {
            "table": pl.repeat(prepared.table, len(rows), dtype=pl.String, eager=True),
            "file": pl.repeat(prepared.label, len(rows), dtype=pl.String, eager=True),
            "row": prepared.frame[ROW].gather(rows),
            "column": sources,
            "value": value.str.slice(0, 200),
            "code": pl.repeat(finding.code, len(rows), dtype=pl.String, eager=True),
            "user_id": user,
            "content": raw.select(pl.struct(pl.all()).struct.json_encode()).to_series(),
        }
    )
    described = explain(frame).with_columns(kept=pl.lit(stays))
    return described if prepared.table == "items" else _without_strangers(described)


def _without_strangers(faults: pl.DataFrame) -> pl.DataFrame:
    """Strip rows whose person cannot be told: nobody could have them erased later."""
    nameless = pl.col("user_id").is_null() | pl.col("user_id").str.contains("\ufffd")
    return faults.with_columns(
        pl.when(~nameless).then(pl.col(name)).alias(name) for name in ("value", "user_id", "content")
    )


def _describe_malformed(prepared: Prepared) -> pl.DataFrame:
    count = prepared.malformed.height
    # A line that cannot be read cannot be traced to a person, so only catalogue lines are quoted.
    content = prepared.malformed["content"] if prepared.table == "items" else [None] * count
    frame = pl.DataFrame(
        {
            "table": [prepared.table] * count,
            "file": [prepared.label] * count,
            "row": prepared.malformed[ROW],
            "column": [None] * count,
            "value": [None] * count,
            "code": ["K210"] * count,
            "user_id": [None] * count,
            "content": content,
        },
        schema={
            name: QUARANTINE_SCHEMA[name]
            for name in ("table", "file", "row", "column", "value", "code", "user_id", "content")
        },
    )
    return explain(frame)
