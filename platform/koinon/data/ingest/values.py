"""From what stands in a source to canonical values, whole columns at a time."""

from __future__ import annotations

from string import Formatter

import polars as pl

__all__ = ["as_categories", "as_number", "as_text", "attribute", "clean_words", "render_text", "without_placeholders"]

_PLACEHOLDERS = ["\\N", "NULL", "null", "None", "NaN", "nan", "NA", "N/A"]
"""Spellings of "nothing" that exports leave behind; never applied to ids and titles."""

_SEPARATORS = ("|", ";", ",")


def as_text(column: pl.Series) -> pl.Series:
    """Text of a column of any type: trimmed, empty as null, whole numbers kept in floats without ``.0``."""
    kind = column.dtype
    if isinstance(kind, pl.List):
        column = column.list.eval(pl.element().cast(pl.String)).list.join("|", ignore_nulls=True)
    elif isinstance(kind, (pl.Struct, pl.Object, pl.Array)):
        column = pl.Series(column.name, [None if value is None else str(value) for value in column], dtype=pl.String)
    elif kind.is_float():
        whole = column.is_nan().fill_null(True) | (column == column.round())
        column = column.fill_nan(None)
        column = column.cast(pl.Int64, strict=False).cast(pl.String) if whole.all() else column.cast(pl.String)
    elif kind == pl.Binary():
        column = pl.Series(
            column.name, [None if raw is None else raw.decode("utf-8", "replace") for raw in column], dtype=pl.String
        )
    elif kind != pl.String():
        column = column.cast(pl.String)
    text = column.str.strip_chars()
    return text.set(text == "", None)


def without_placeholders(column: pl.Series) -> pl.Series:
    """Null where a text stands for nothing (``NULL``, ``NaN``, ``N/A`` ...)."""
    return column.set(column.is_in(_PLACEHOLDERS).fill_null(False), None)


def clean_words(column: pl.Series) -> pl.Series:
    """Every run of white space as one space."""
    return column.str.replace_all(r"\s+", " ")


def as_number(column: pl.Series) -> pl.Series:
    """``float64`` of a text column, null where it is no number.

    A currency sign is passed over, and a comma before at most two last digits is a decimal comma.
    """
    plain = column.str.strip_chars("$€£¥ ").str.replace(r"^([+-]?\d+),(\d{1,2})$", "$1.$2")
    return plain.cast(pl.Float64, strict=False)


def as_categories(column: pl.Series, separator: str | None) -> pl.Series:
    """``list[str]`` of categories: ``a|b``, ``['a', 'b']``, ``["a", "b"]``; missing ones give an empty list."""
    listed = column.str.starts_with("[").fill_null(False)
    if separator is None:
        found = (mark for mark in _SEPARATORS if column.filter(~listed).str.contains(mark, literal=True).any())
        separator = next(found, "|")
    inner = column.str.strip_chars("[]").str.split(",").list.eval(pl.element().str.strip_chars(" \t'\""))
    parts = column.str.split(separator).list.eval(pl.element().str.strip_chars())
    frame = pl.DataFrame({"listed": listed, "inner": inner, "parts": parts})
    chosen = frame.select(pl.when("listed").then("inner").otherwise("parts").alias(column.name)).to_series()
    return chosen.list.eval(pl.element().filter(pl.element() != "")).fill_null([])


def render_text(frame: pl.DataFrame, template: str) -> pl.Series:
    """Fill a text template row by row; an empty field drops out together with the words before it.

    Returns
    -------
    ``str[rows]``, null where every field is empty.
    """
    text = pl.lit(None, dtype=pl.String)
    prefix = suffix = ""
    for position, (words, field, _, _) in enumerate(Formatter().parse(template)):
        if field is None:
            suffix = words
            continue
        if position == 0:
            prefix, words = words, ""
        value = pl.col(field) if field in frame.columns else pl.lit(None, dtype=pl.String)
        text = (
            pl.when(value.is_null()).then(text).when(text.is_null()).then(value).otherwise(text + pl.lit(words) + value)
        )
    filled = pl.when(text.is_not_null()).then(pl.lit(prefix) + text + pl.lit(suffix)).str.strip_chars()
    return frame.select(filled.alias("text")).to_series() if frame.height else pl.Series("text", [], dtype=pl.String)


def attribute(column: pl.Series) -> pl.Series:
    """A user attribute: a number where every value is one (and none is a code like ``01234``), otherwise text."""
    text = without_placeholders(as_text(column))
    if text.str.contains(r"^[+-]?0\d").any():
        return text
    number = as_number(text)
    if (
        number.null_count() > text.null_count()
        or not number.drop_nulls().is_finite().all()
        or number.null_count() == len(number)
    ):
        return text
    whole = number.cast(pl.Int64, strict=False)
    return whole if bool((whole.cast(pl.Float64) == number).all()) else number
