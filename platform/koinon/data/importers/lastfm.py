"""Last.fm listening: HetRec 2011 (2K users), the 360K-user play counts, the 1K-user listening log.

Sources: Cantador et al., HetRec 2011 at RecSys '11; Celma, "Music Recommendation and Discovery", Springer 2010.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from koinon.data.building import item_table
from koinon.data.importers.common import (
    UNDETERMINED,
    Note,
    as_text,
    canonical_tables,
    find,
    read_delimited,
    wrong_folder,
)
from koinon.data.public.movielens import age_band
from koinon.data.tables import Tables
from koinon.errors import DataError

__all__ = ["EXPECTS", "TITLE", "read"]

TITLE = "a Last.fm data set"
EXPECTS = (
    "artists.dat and user_artists.dat (HetRec 2011), usersha1-artmbid-artname-plays.tsv (360K), "
    "or userid-timestamp-artid-artname-traid-traname.tsv (1K)"
)

_PLAYS_360K = "usersha1-artmbid-artname-plays.tsv"
_LOG_1K = "userid-timestamp-artid-artname-traid-traname.tsv"
_TAGS_PER_ARTIST = 5
_GENDERS = {"m": "male", "f": "female"}


def read(path: Path, *, items: str = "artist", note: Note | None = None) -> Tables:
    """Import an unpacked folder; user ids get the prefix ``lastfm-``.

    Parameters
    ----------
    path
        The folder.
    items
        ``artist``, or ``track`` for the 1K log.
    note
        Told what was left out.

    Raises
    ------
    DataError
        K240 it is no Last.fm folder, K241 a file of it cannot be read, K242 nothing is left, K243 ``items`` is neither.
    """
    if items not in ("artist", "track"):
        raise DataError("K243", f"`items` is `{items}`.", "It is `artist` or `track`.")
    artists, plays = find(path, "artists.dat"), find(path, "user_artists.dat")
    if artists is not None and plays is not None:
        return _hetrec(path, artists, plays, note)
    counts, log = find(path, _PLAYS_360K), find(path, _LOG_1K)
    if counts is not None:
        return _plays(path, counts, note)
    if log is not None:
        return _log(path, log, items, note)
    raise wrong_folder(path, TITLE, EXPECTS)


def _hetrec(path: Path, artists: Path, plays: Path, note: Note | None) -> Tables:
    names = read_delimited(artists, ["id", "name"], header=True)
    tags = _artist_tags(path)
    ids, titles = names["id"].to_list(), [name.strip() for name in names["name"].fill_null("").to_list()]
    categories = [tags.get(artist, []) for artist in ids]
    texts = [as_text(title, ", ".join(of)) for title, of in zip(titles, categories, strict=True)]
    catalogue = item_table(ids, titles, texts, categories=categories, languages=UNDETERMINED).filter(
        pl.col("title") != ""
    )
    events = read_delimited(plays, ["user", "artist", "count"], header=True).select(
        user_id=pl.lit("lastfm-") + pl.col("user"),
        item_id=pl.col("artist"),
        kind=pl.lit("listen"),
        weight=pl.col("count").cast(pl.Float32, strict=False),
    )
    return canonical_tables(path, catalogue, events, note=note)


def _artist_tags(path: Path) -> dict[str, list[str]]:
    """Most used tags of each artist, where the folder has them."""
    tags, uses = find(path, "tags.dat"), find(path, "user_taggedartists.dat")
    if tags is None or uses is None:
        return {}
    names = read_delimited(tags, ["tag", "name"], header=True, encoding="latin-1")
    counted = (
        read_delimited(uses, ["user", "artist", "tag"], header=True)
        .join(names, on="tag")
        .group_by("artist", "name")
        .len()
        .sort("artist", "len", "name", descending=[False, True, False])
        .group_by("artist", maintain_order=True)
        .agg(pl.col("name").head(_TAGS_PER_ARTIST))
    )
    return dict(counted.rows())


def _key(mbid: str, name: str) -> pl.Expr:
    """MusicBrainz id where there is one, else the name in small letters."""
    named = pl.lit("name:") + pl.col(name).str.strip_chars().str.to_lowercase()
    return pl.when(pl.col(mbid).str.strip_chars() != "").then(pl.col(mbid).str.strip_chars()).otherwise(named)


def _profiles(path: Path, *names: str) -> pl.DataFrame | None:
    profile = find(path, *names)
    if profile is None:
        return None
    frame = read_delimited(profile, ["user", "gender", "age", "country", "signup"])
    years = pl.col("age").cast(pl.Int16, strict=False)
    plausible = pl.when(years.is_between(5, 100)).then(years)
    return frame.filter(~pl.col("user").str.starts_with("#")).select(
        user_id=pl.lit("lastfm-") + pl.col("user"),
        gender=pl.col("gender").replace_strict(_GENDERS, default=None, return_dtype=pl.String),
        age=age_band(plausible),
        age_years=plausible,
        country=pl.when(pl.col("country") != "").then(pl.col("country").str.to_lowercase()),
    )


def _plays(path: Path, counts: Path, note: Note | None) -> Tables:
    frame = read_delimited(counts, ["user", "mbid", "artist", "plays"]).with_columns(item_id=_key("mbid", "artist"))
    named = frame.filter(pl.col("artist").str.strip_chars() != "").unique("item_id", keep="first", maintain_order=True)
    titles = named["artist"].str.strip_chars().to_list()
    events = frame.select(
        user_id=pl.lit("lastfm-") + pl.col("user"),
        item_id="item_id",
        kind=pl.lit("listen"),
        weight=pl.col("plays").str.strip_chars().cast(pl.Float32, strict=False),
    )
    catalogue = item_table(named["item_id"].to_list(), titles, titles, languages=UNDETERMINED)
    return canonical_tables(path, catalogue, events, _profiles(path, "usersha1-profile.tsv"), note)


def _log(path: Path, log: Path, items: str, note: Note | None) -> Tables:
    frame = read_delimited(log, ["user", "time", "artist_id", "artist", "track_id", "track"])
    if items == "artist":
        frame = frame.with_columns(item_id=_key("artist_id", "artist"), title=pl.col("artist"))
    else:
        joined = pl.col("artist").str.to_lowercase() + pl.lit(" / ") + pl.col("track").str.to_lowercase()
        has_id = pl.col("track_id").str.strip_chars() != ""
        key = pl.when(has_id).then(pl.col("track_id").str.strip_chars()).otherwise(pl.lit("name:") + joined)
        frame = frame.with_columns(item_id=key, title=pl.col("track"))
    named = frame.filter(pl.col("title").str.strip_chars() != "").unique("item_id", keep="first", maintain_order=True)
    titles = named["title"].str.strip_chars().to_list()
    creators = None if items == "artist" else named["artist"].to_list()
    texts = titles if creators is None else [as_text(t, c) for t, c in zip(titles, creators, strict=True)]
    events = frame.select(
        user_id=pl.lit("lastfm-") + pl.col("user"),
        item_id="item_id",
        timestamp=pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False, time_unit="ms", time_zone="UTC"),
        kind=pl.lit("listen"),
        weight=pl.lit(1.0),
    )
    catalogue = item_table(named["item_id"].to_list(), titles, texts, creators=creators, languages=UNDETERMINED)
    return canonical_tables(path, catalogue, events, _profiles(path, "userid-profile.tsv"), note)
