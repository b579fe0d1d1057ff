"""Times of events: numbers in seconds to nanoseconds, texts in the usual spellings, typed columns."""

from __future__ import annotations

import polars as pl

from koinon.data.partner import TimeUnit

__all__ = ["parse_times", "unit_of"]

_PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}

_WITH_OFFSET = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z")
_LOCAL = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
)
_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")


def unit_of(times: pl.Expr) -> pl.Expr:
    """The unit of a number of that size that counts from 1970: ``s`` below 10¹¹, ``ms`` below 10¹⁴, ``us``, ``ns``."""
    size = times.abs()
    return (
        pl.when(size < 1e11)
        .then(pl.lit("s"))
        .when(size < 1e14)
        .then(pl.lit("ms"))
        .when(size < 1e17)
        .then(pl.lit("us"))
        .otherwise(pl.lit("ns"))
    )


def parse_times(column: pl.Series, text: pl.Series, unit: TimeUnit, pattern: str | None, zone: str) -> pl.DataFrame:
    """Milliseconds since 1970 UTC of a column of times.

    Parameters
    ----------
    column
        As read: text, number, date or datetime.
    text
        The same as trimmed text, null where missing.
    unit
        Of numbers; ``auto`` takes the unit that fits the median.
    pattern
        strptime format of texts.
    zone
        IANA zone of texts and typed values without an offset.

    Returns
    -------
    ``timestamp`` (int64, null where missing, unreadable or in another unit), ``readable`` and ``one_unit`` (whether the
    row's time is in the unit of the column).
    """
    if column.dtype.is_temporal():
        return _frame(_to_utc(column.cast(pl.Datetime("ms")) if column.dtype == pl.Date() else column, zone), text)
    number = text.cast(pl.Float64, strict=False)
    present = len(text) - text.null_count()
    is_numeric = pattern is None and unit != "text" and (len(number) - number.null_count()) * 2 > present
    if not is_numeric and unit in ("auto", "text"):
        return _frame(_parse_texts(text, pattern, zone), text)
    frame = pl.DataFrame({"number": number, "missing": text.is_null()}).with_columns(own=unit_of(pl.col("number")))
    if unit == "auto":
        middle = frame.select(unit_of(pl.col("number").median())).item()
        unit = middle if middle is not None else "s"
    one_unit = (pl.col("own") == unit) | pl.col("number").is_null()
    return frame.select(
        timestamp=pl.when(one_unit).then((pl.col("number") / _PER_MS[unit]).round().cast(pl.Int64, strict=False)),
        readable=pl.col("number").is_finite().fill_null(False) | pl.col("missing"),
        one_unit=one_unit,
    )


def _frame(moments: pl.Series, text: pl.Series) -> pl.DataFrame:
    stamp = moments.dt.epoch("ms")
    readable = stamp.is_not_null() | text.is_null()
    return pl.DataFrame({"timestamp": stamp, "readable": readable, "one_unit": pl.repeat(True, len(stamp), eager=True)})


def _to_utc(moments: pl.Series, zone: str) -> pl.Series:
    if isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone is None:
        # A local time that a clock change skipped does not exist: null, hence reported as unreadable.
        moments = moments.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return moments.dt.convert_time_zone("UTC")


def _parse_texts(text: pl.Series, pattern: str | None, zone: str) -> pl.Series:
    result = pl.Series(text.name, [None], dtype=pl.Datetime("ms", "UTC")).new_from_index(0, len(text))
    if pattern is not None:
        if "%z" in pattern or "%#z" in pattern:
            return text.str.to_datetime(pattern, time_unit="ms", time_zone="UTC", strict=False)
        if any(mark in pattern for mark in ("%H", "%I", "%T", "%R", "%s")):
            return _to_utc(text.str.to_datetime(pattern, time_unit="ms", strict=False), zone)
        return _to_utc(text.str.to_date(pattern, strict=False).cast(pl.Datetime("ms")), zone)
    zulu = text.str.replace(r"\s?(Z|UTC)$", "+00:00")
    for spelling in (*_WITH_OFFSET, *_LOCAL, *_DAYS):
        open_rows = result.is_null() & zulu.is_not_null()
        if not open_rows.any():
            break
        left = zulu.filter(open_rows)
        if spelling in _WITH_OFFSET:
            found = left.str.to_datetime(spelling, time_unit="ms", time_zone="UTC", strict=False)
        elif spelling in _LOCAL:
            found = _to_utc(left.str.to_datetime(spelling, time_unit="ms", strict=False), zone)
        else:
            found = _to_utc(left.str.to_date(spelling, strict=False).cast(pl.Datetime("ms")), zone)
        if found.null_count() < len(found):
            result = result.scatter(open_rows.arg_true(), found)
    return result
