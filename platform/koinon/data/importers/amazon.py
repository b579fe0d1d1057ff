"""Amazon Reviews 2023 (McAuley Lab), any category: ``<Category>.jsonl`` with ``meta_<Category>.jsonl``.

Source: Hou et al., "Bridging Language and Items for Retrieval and Recommendation", arXiv 2403.03952.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from koinon.data.building import item_table
from koinon.data.importers.common import (
    Note,
    as_text,
    canonical_tables,
    damaged,
    from_milliseconds,
    wrong_folder,
)
from koinon.data.tables import Tables
from koinon.errors import DataError

__all__ = ["EXPECTS", "TITLE", "read"]

TITLE = "Amazon Reviews 2023"
EXPECTS = "<Category>.jsonl[.gz] (reviews) or <Category>.csv[.gz] (ratings only), and meta_<Category>.jsonl[.gz]"

_REVIEW = {"user_id": "VARCHAR", "parent_asin": "VARCHAR", "asin": "VARCHAR", "rating": "FLOAT", "timestamp": "BIGINT"}
_META = {
    "parent_asin": "VARCHAR",
    "title": "VARCHAR",
    "store": "VARCHAR",
    "main_category": "VARCHAR",
    "price": "VARCHAR",
    "categories": "VARCHAR[]",
    "description": "VARCHAR[]",
}
_ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
_PRICE = re.compile(r"\d+(?:\.\d+)?")
_DESCRIPTION_CHARACTERS = 2_000


def read(path: Path, *, category: str | None = None, note: Note | None = None) -> Tables:
    """Import one category.

    Parameters
    ----------
    path
        The folder with both files, or the file of reviews with its ``meta_`` file beside it.
    category
        Which one, where the folder holds several, e.g. ``Books``.
    note
        Told what was left out.

    Raises
    ------
    DataError
        K240 the files are not there or there are several categories, K241 one cannot be read, K242 nothing is left.
    """
    reviews, meta = _files(path, category)
    items = _items(meta, note)
    frame = _table(reviews, _REVIEW)
    events = frame.select(
        user_id=pl.lit("amazon-") + pl.col("user_id"),
        item_id=pl.coalesce("parent_asin", "asin"),
        timestamp=from_milliseconds(pl.col("timestamp")),
        kind=pl.lit("rating"),
        weight=pl.col("rating"),
    )
    if events["user_id"].null_count() == events.height:
        raise damaged(reviews, "no line has a user_id: these are not reviews")
    return canonical_tables(path, items, events, note=note)


def _files(path: Path, category: str | None) -> tuple[Path, Path]:
    folder = path if path.is_dir() else path.parent
    metas = {_stem(meta).removeprefix("meta_"): meta for meta in sorted(folder.glob("meta_*.jsonl*"))}
    if path.is_file():
        category = _stem(path)
    if category is None and len(metas) > 1:
        raise DataError(
            "K240", f"{path} holds several categories: {', '.join(metas)}.", "Say which one with the option `category`."
        )
    chosen = category or next(iter(metas), None)
    if chosen not in metas:
        raise wrong_folder(path, TITLE, EXPECTS)
    named = [folder / f"{chosen}{ending}" for ending in _ENDINGS]
    reviews = path if path.is_file() else next((file for file in named if file.is_file()), None)
    if reviews is None:
        raise wrong_folder(path, TITLE, EXPECTS)
    return reviews, metas[chosen]


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _table(path: Path, columns: dict[str, str]) -> pl.DataFrame:
    """Read the named columns; what cannot be read as its type is null."""
    with duckdb.connect() as database:
        try:
            if ".csv" in path.suffixes:
                found = database.read_csv(str(path), all_varchar=True).limit(0).columns
                wanted = [
                    f'TRY_CAST("{name}" AS {kind}) AS "{name}"'
                    if name in found
                    else f'CAST(NULL AS {kind}) AS "{name}"'
                    for name, kind in columns.items()
                ]
                relation = database.read_csv(str(path), all_varchar=True, ignore_errors=True).project(", ".join(wanted))
            else:
                relation = database.sql(
                    "SELECT * FROM read_json($path, format='newline_delimited', columns=$columns, ignore_errors=true)",
                    params={"path": str(path), "columns": columns},
                )
            frame: pl.DataFrame = relation.pl()
        except duckdb.Error as error:
            raise damaged(path, f"unreadable ({str(error).splitlines()[0][:160]})") from error
    if frame.is_empty():
        raise damaged(path, "the file is empty")
    return frame


def _items(meta: Path, note: Note | None) -> pl.DataFrame:
    frame = _table(meta, _META)
    titled = frame.filter(pl.col("parent_asin").is_not_null() & (pl.col("title").str.strip_chars() != ""))
    if titled.is_empty():
        raise damaged(meta, "no line has a parent_asin and a title: this is not product metadata")
    if note is not None and titled.height < frame.height:
        note(f"{meta.name}: {frame.height - titled.height:,} of {frame.height:,} products have no title: left out.")
    columns: dict[str, list[Any]] = titled.to_dict(as_series=False)
    titles = [_clean(title) for title in columns["title"]]
    creators = [_clean(store) or None for store in columns["store"]]
    paths = [[_clean(name) for name in names or (main or "",) if name] for names, main in _both(columns)]
    return item_table(
        columns["parent_asin"],
        titles,
        [as_text(t, c, ", ".join(names[-2:])) for t, c, names in zip(titles, creators, paths, strict=True)],
        creators=creators,
        descriptions=[
            _clean(" ".join(text or []))[:_DESCRIPTION_CHARACTERS] or None for text in columns["description"]
        ],
        categories=paths,
        prices=[float(found[0]) if (found := _PRICE.search(price or "")) else None for price in columns["price"]],
    )


def _both(columns: dict[str, list[Any]]) -> list[tuple[list[str] | None, str | None]]:
    return list(zip(columns["categories"], columns["main_category"], strict=True))


def _clean(text: str | None) -> str:
    return " ".join(html.unescape(text or "").split())
