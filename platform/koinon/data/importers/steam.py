"""Steam: the reviews and the games people own, as McAuley's group publishes them, and the 200k CSV of plays.

Sources: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; Pathak et al., "Generating and
Personalizing Bundle Recommendations on Steam", SIGIR 2017.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import polars as pl

from koinon.data.building import item_table
from koinon.data.importers.common import (
    Note,
    as_text,
    canonical_tables,
    damaged,
    find,
    lines,
    records,
    wrong_folder,
)
from koinon.data.tables import Tables
from koinon.errors import DataError

__all__ = ["EXPECTS", "TITLE", "read"]

TITLE = "a Steam data set"
EXPECTS = (
    "steam_reviews.json[.gz] with steam_games.json[.gz], australian_users_items.json[.gz] (to which "
    "steam_games.json[.gz] adds genres), or steam-200k.csv"
)


def read(path: Path, *, events: str | None = None, note: Note | None = None) -> Tables:
    """Import a folder; user ids get the prefix ``steam-``.

    Parameters
    ----------
    path
        The folder.
    events
        ``reviews`` (with dates) or ``plays`` (games owned, without); by default reviews where they are there.
    note
        Told what was left out.

    Raises
    ------
    DataError
        K240 it is no Steam folder, K241 a file of it cannot be read, K242 nothing is left, K243 ``events`` is neither.
    """
    if events not in (None, "reviews", "plays"):
        raise DataError("K243", f"`events` is `{events}`.", "It is `reviews` or `plays`.")
    reviews, games = find(path, "steam_reviews.json"), find(path, "steam_games.json")
    owned, table = find(path, "australian_users_items.json"), find(path, "steam-200k.csv")
    if reviews is not None and games is not None and events != "plays":
        return _reviews(path, reviews, games, note)
    if owned is not None and events != "reviews":
        return _owned(path, owned, games, note)
    if table is not None and events != "reviews":
        return _table(path, table, note)
    raise wrong_folder(path, TITLE, EXPECTS)


def _games(path: Path, note: Note | None) -> list[dict[str, Any]]:
    games = []
    for game in records(path, ["id"], note):
        title = str(game.get("app_name") or game.get("title") or "").strip()
        if title:
            games.append({**game, "id": str(game["id"]), "name": title})
    return games


def _items(games: list[dict[str, Any]]) -> pl.DataFrame:
    titles = [game["name"] for game in games]
    categories = [[str(name) for name in game.get("genres") or game.get("tags") or []] for game in games]
    return item_table(
        [game["id"] for game in games],
        titles,
        [as_text(title, ", ".join(of)) for title, of in zip(titles, categories, strict=True)],
        creators=[_or_none(game.get("developer")) for game in games],
        categories=categories,
        prices=[_price(game.get("price")) for game in games],
    )


def _or_none(value: object) -> str | None:
    return str(value).strip() or None if value is not None else None


def _price(value: object) -> float | None:
    """Return a price as a number; `Free to Play` and its like are free, other words say nothing."""
    if isinstance(value, int | float):
        return float(value)
    return 0.0 if isinstance(value, str) and "free" in value.lower() else None


def _reviews(path: Path, reviews: Path, games: Path, note: Note | None) -> Tables:
    columns: dict[str, list[Any]] = {"user_id": [], "item_id": [], "date": [], "weight": []}
    for review in records(reviews, ["username", "product_id", "date"], note):
        columns["user_id"].append(f"steam-{review['username']}")
        columns["item_id"].append(str(review["product_id"]))
        columns["date"].append(str(review["date"]))
        hours = review.get("hours")
        columns["weight"].append(float(hours) if isinstance(hours, int | float) else 1.0)
    frame = pl.DataFrame(columns).select(
        "user_id",
        "item_id",
        "weight",
        timestamp=pl.col("date").str.to_datetime("%Y-%m-%d", strict=False, time_unit="ms", time_zone="UTC"),
        kind=pl.lit("review"),
    )
    return canonical_tables(path, _items(_games(games, note)), frame.sort("timestamp", maintain_order=True), note=note)


def _owned(path: Path, owned: Path, games: Path | None, note: Note | None) -> Tables:
    columns: dict[str, list[Any]] = {"user_id": [], "item_id": [], "weight": []}
    names: dict[str, dict[str, Any]] = {}
    for person in records(owned, ["user_id", "items"], note):
        for game in person["items"]:
            if not isinstance(game, dict) or not game.get("item_id") or not game.get("item_name"):
                continue
            columns["user_id"].append(f"steam-{person['user_id']}")
            columns["item_id"].append(str(game["item_id"]))
            columns["weight"].append(float(game.get("playtime_forever", 0)) / 60)
            names.setdefault(str(game["item_id"]), {"id": str(game["item_id"]), "name": str(game["item_name"])})
    if not names:
        raise damaged(owned, "nobody in it owns a game")
    if games is not None:
        names |= {game["id"]: game for game in _games(games, note) if game["id"] in names}
    frame = pl.DataFrame(columns).with_columns(kind=pl.lit("play"))
    return canonical_tables(path, _items(list(names.values())), frame, note=note)


def _table(path: Path, table: Path, note: Note | None) -> Tables:
    """``user, title, purchase | play, 1 | hours, 0`` without a header; a game's title is its id."""
    rows: list[tuple[str, str, str, float]] = []
    for number, line in lines(table):
        fields = next(csv.reader([line]))
        try:
            user, title, kind, value = fields[0], fields[1].strip(), fields[2], float(fields[3])
        except (IndexError, ValueError) as error:
            raise damaged(table, f"line {number} is not `user, title, purchase or play, value`") from error
        rows.append((f"steam-{user}", title, kind, value))
    if not rows:
        raise damaged(table, "the file is empty")
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "kind", "weight"], orient="row")
    titles = frame["item_id"].unique(maintain_order=True).to_list()
    return canonical_tables(path, item_table(titles, titles, titles), frame, note=note)
