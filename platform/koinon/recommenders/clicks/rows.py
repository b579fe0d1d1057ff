"""Click data: who was shown what, when, and did they like it; everything else hangs on the person or on the item."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data import Tables
from koinon.data.marks import PSEUDO
from koinon.errors import RecommenderError

__all__ = ["ClickData", "Rows", "Side", "click_data", "coded_items", "coded_people", "with_told"]

Codes = NDArray[np.int32]
Shares = tuple[float, float, float]


@dataclass(frozen=True)
class Rows:
    """Impressions as parallel arrays.

    Attributes
    ----------
    person, item
        ``int32[rows]``, rows of :class:`ClickData`'s two sides.
    label
        ``float32[rows]``: 1 liked or clicked, 0 not.
    time
        ``int64[rows]`` milliseconds since 1970 UTC, ascending. It orders rows and is no feature.
    """

    person: Codes
    item: Codes
    label: NDArray[np.float32]
    time: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.person)

    def take(self, keep: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Rows:
        """Return the rows selected by a mask, by positions or by a slice."""
        return Rows(self.person[keep], self.item[keep], self.label[keep], self.time[keep])


@dataclass(frozen=True)
class Side:
    """All people, or all items, with their fields as codes.

    Attributes
    ----------
    ids
        ``str[n]``.
    codes
        Field name to ``int32[n, slots]``; 0 is unknown (or no further value), known values count from 1. A field with
        several slots holds several values at once.
    values
        Field name to its known values; code ``c`` stands for ``values[c - 1]``.
    sentences
        ``str[n]``: the row's half of the prompt, "gender is female, age is 25-34"; without the id.
    told
        ``float32[n, d]``: what a language model said of each, as vectors; zeros where it said nothing. ``None``: of
        nobody.
    """

    ids: tuple[str, ...]
    codes: dict[str, Codes]
    values: dict[str, tuple[str, ...]]
    sentences: tuple[str, ...]
    told: NDArray[np.float32] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Field name to its number of codes, unknown included."""
        return {name: len(known) + 1 for name, known in self.values.items()}


@dataclass(frozen=True)
class ClickData:
    """Rows in three parts by time, and the two sides they point to.

    Attributes
    ----------
    name
        For reports.
    people, items
        Everybody and everything that rows may name; codes are those of values that training rows hold.
    train, validation, test
        In order of time.
    """

    name: str
    people: Side
    items: Side
    train: Rows
    validation: Rows
    test: Rows

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over what a training depends on: fields, their values, training rows."""
        digest = hashlib.sha256()
        for side in (self.people, self.items):
            for name, codes in side.codes.items():
                digest.update("\0".join((name, *side.values[name])).encode())
                digest.update(np.ascontiguousarray(codes).tobytes())
            if side.told is not None:
                digest.update(np.ascontiguousarray(side.told).tobytes())
        for array in (self.train.person, self.train.item, self.train.label):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def click_data(
    name: str,
    tables: Tables,
    *,
    liked_above: float = 3.0,
    dropped: float | None = 3.0,
    shares: Shares = (0.8, 0.1, 0.1),
    without: Sequence[str] = (),
) -> ClickData:
    """Turn canonical tables into click data by CTRL's protocol (arXiv 2306.02841).

    A rating above ``liked_above`` is a like, one equal to ``dropped`` is left out, any other is none. Rows are put in
    order of time, equal times as the source has them, and cut once for everybody.

    Fields are the ids, the people's declared attributes in words, and the items' creator, language and categories; one
    without two different values is left out. A value is known if a training row holds it. What would leak is no
    field: the rating, the row's time, counts and means over all rows, and what happened after the row. ``without``
    names columns of people that are left out too, sensitive ones say.

    Raises
    ------
    RecommenderError
        K420 no times to divide by, or too few rows; K421 training, validation or test hold one label alone.
    """
    events = tables.events.filter(pl.col("kind").ne_missing(PSEUDO))
    if events["timestamp"].null_count() or not events.height:
        raise RecommenderError(
            "K420", f"Click data of {name} cannot be divided by time: events without times.", "Bring timestamps."
        )
    if dropped is not None:
        events = events.filter(pl.col("weight") != dropped)
    events = events.sort("timestamp", maintain_order=True)
    people_ids, item_ids = events["user_id"].unique().sort(), tables.items["item_id"]
    rows = Rows(
        person=_places(events["user_id"], people_ids),
        item=_places(events["item_id"], item_ids),
        label=(events["weight"] > liked_above).to_numpy().astype(np.float32),
        time=events["timestamp"].dt.epoch("ms").to_numpy(),
    )
    ends = [int(len(rows) * edge) for edge in np.cumsum(shares)[:2] / sum(shares)]
    divided = [rows.take(slice(*edge)) for edge in zip([0, *ends], [*ends, len(rows)], strict=True)]
    for part, told in zip(divided, ("training", "validation", "test"), strict=True):
        if not len(part):
            raise RecommenderError("K420", f"Click data of {name} has no rows for {told}.", "Bring more events.")
        if part.label.min() == part.label.max():
            raise RecommenderError(
                "K421",
                f"All {len(part)} rows for {told} of {name} have the label {part.label[0]:.0f}.",
                "Choose another `liked_above`: a click model learns from likes and dislikes.",
            )
    seen_people, seen_items = np.unique(divided[0].person), np.unique(divided[0].item)
    people = pl.DataFrame({"user_id": people_ids}).join(tables.users, on="user_id", how="left", maintain_order="left")
    fields = [c for c in people.columns if c not in ("user_id", *without) and people.schema[c] == pl.String]
    columns = {"user": people["user_id"].to_list(), **{c: people[c].to_list() for c in fields}}
    return ClickData(name, coded_people(columns, seen_people), coded_items(tables.items, seen_items), *divided)


def with_told(data: ClickData, people: NDArray[np.float32] | None, items: NDArray[np.float32] | None) -> ClickData:
    """The same data with what a language model said of people and items, ``float32[n, d]`` each or ``None``.

    Raises
    ------
    RecommenderError
        K402 there are not as many vectors as people or items.
    """
    for side, told in ((data.people, people), (data.items, items)):
        if told is not None and len(told) != len(side.ids):
            raise RecommenderError(
                "K402", f"{len(told)} vectors are told of {len(side.ids)} rows.", "Give a vector, or zeros, for each."
            )
    return replace(data, people=replace(data.people, told=people), items=replace(data.items, told=items))


def coded_people(columns: Mapping[str, Sequence[object]], seen: NDArray[np.integer]) -> Side:
    """Code people's columns, the first of which is the id; values are known of rows ``seen``."""
    return _side(columns, seen, [])


def coded_items(items: pl.DataFrame, seen: NDArray[np.integer]) -> Side:
    """Code a canonical item table; the title is told in words alone."""
    columns = {"item": items["item_id"].to_list()}
    columns |= {c: items[c].to_list() for c in ("creator", "language", "categories")}
    return _side(columns, seen, [f"title is {title}" for title in items["title"].to_list()])


def _places(values: pl.Series, among: pl.Series) -> Codes:
    places = pl.DataFrame({"v": values}).join(
        pl.DataFrame({"v": among}).with_row_index("place"), on="v", how="left", maintain_order="left"
    )
    return places["place"].to_numpy().astype(np.int32)


def _side(columns: Mapping[str, Sequence[object]], seen: NDArray[np.integer], begun: Sequence[str]) -> Side:
    """Code the columns, the first of which is the id, and put the others into sentences that may be begun."""
    ids, *others = columns
    codes, values = {}, {}
    said: list[list[str]] = [[start] for start in begun] or [[] for _ in columns[ids]]
    for name, column in columns.items():
        lists = [_several(value) for value in column]
        known = sorted({value for row in seen.tolist() for value in lists[row]})
        if name != ids and len(known) < 2:
            continue
        place = {value: code for code, value in enumerate(known, 1)}
        table = np.zeros((len(lists), max(1, *map(len, lists))), dtype=np.int32)
        for row, found in enumerate(lists):
            coded = [place[value] for value in found if value in place]
            table[row, : len(coded)] = coded
            if name in others and found:
                said[row].append(f"{name} {'are' if len(found) > 1 else 'is'} {', '.join(found)}")
        codes[name], values[name] = table, tuple(known)
    names = tuple(str(one) for one in columns[ids])
    return Side(names, codes, values, tuple(", ".join(parts) or "nothing is known" for parts in said))


def _several(value: object) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]
