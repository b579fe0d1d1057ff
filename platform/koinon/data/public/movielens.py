"""From the files of MovieLens 100K (RecBole atomic files) and MovieLens 1M to canonical tables."""

from __future__ import annotations

import re

import polars as pl

from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA, Tables

__all__ = [
    "AGE_BANDS",
    "DRAMATIC_GENRES",
    "GENDERS",
    "age_band",
    "cut_by_genre",
    "film_title",
    "read_ml_1m",
    "read_ml_100k",
]

AGE_BANDS = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (50, "45-49"), (56, "50-55"))
"""MovieLens' own age bands: (first year beyond the band, label); older people are ``56+``."""

DRAMATIC_GENRES = frozenset(
    {"Drama", "War", "Mystery", "Documentary", "Crime", "Film-Noir", "Romance", "Musical"},
)
"""The genres of the drama business; every other genre is the action business's."""

_OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
GENDERS = {"F": "female", "M": "male"}
"""MovieLens' letters and what the tables say."""
_ARTICLE = re.compile(
    r"^(?P<rest>.+), (?P<article>The|A|An|Le|La|Les|L'|Il|Lo|I|Gli|El|Los|Las|Der|Die|Das|Den|Det|Das|O|Os|Un|Una|Une)"
    r"(?P<tail>( \(.*\))?)$"
)
_GENRES_100K = re.compile(r"[A-Za-z'-]+")


def age_band(years: pl.Expr) -> pl.Expr:
    """Return the MovieLens age band of an age in years; null stays null."""
    band = pl.lit("56+")
    for beyond, label in reversed(AGE_BANDS):
        band = pl.when(years < beyond).then(pl.lit(label)).otherwise(band)
    return pl.when(years.is_not_null()).then(band)


def film_title(title: str) -> str:
    """Put a trailing article in front: ``Matrix, The (1999)`` becomes ``The Matrix (1999)``."""
    found = _ARTICLE.match(title.strip())
    if found is None:
        return title.strip()
    article = found["article"]
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{found['rest']}{found['tail']}"


def _items(ids: list[str], titles: list[str], genres: list[list[str]]) -> pl.DataFrame:
    texts = [f"{title}. {', '.join(of)}" if of else title for title, of in zip(titles, genres, strict=True)]
    return item_table(ids, titles, texts, categories=genres)


def _events(frame: pl.DataFrame) -> pl.DataFrame:
    """Build canonical events from columns ``user``, ``item``, ``rating``, ``seconds``."""
    return (
        frame.select(
            user_id=pl.lit("ml-") + pl.col("user").cast(pl.String),
            item_id=pl.col("item").cast(pl.String),
            timestamp=pl.from_epoch(pl.col("seconds").cast(pl.Int64) * 1000, "ms").dt.replace_time_zone("UTC"),
            kind=pl.lit("rating"),
            weight=pl.col("rating").cast(pl.Float32),
        )
        .sort("timestamp", "user_id", "item_id")
        .cast(EVENT_SCHEMA)  # type: ignore[arg-type]
    )


def read_ml_1m(movies: bytes, ratings: bytes, users: bytes) -> Tables:
    """Read ``movies.dat``, ``ratings.dat`` and ``users.dat``.

    User ids get the prefix ``ml-`` so that they never meet another data set's. Ages are the publisher's bands.
    """
    films = [line.split("::") for line in movies.decode("latin-1").splitlines()]
    items = _items([f[0] for f in films], [film_title(f[1]) for f in films], [f[2].split("|") for f in films])
    numbers = pl.read_csv(
        ratings.replace(b"::", b","), has_header=False, new_columns=["user", "item", "rating", "seconds"]
    )
    people = pl.read_csv(
        users.replace(b"::", b","),
        has_header=False,
        new_columns=["user", "gender", "age", "occupation", "zip"],
        schema_overrides={"zip": pl.String},
    ).select(
        user_id=pl.lit("ml-") + pl.col("user").cast(pl.String),
        gender=pl.col("gender").replace_strict(GENDERS),
        age=age_band(pl.col("age")),
        occupation=pl.col("occupation").replace_strict(dict(enumerate(_OCCUPATIONS)), return_dtype=pl.String),
    )
    return Tables(items=items, events=_events(numbers), users=people)


def read_ml_100k(inter: bytes, item: bytes, user: bytes) -> Tables:
    """Read RecBole's atomic files of MovieLens 100K; titles there carry no year, which has a column of its own."""
    films = [line.split("\t") for line in item.decode("utf-8").splitlines()[1:]]
    titles = [f"{film_title(f[1])} ({f[2]})" if f[2] else film_title(f[1]) for f in films]
    items = _items([f[0] for f in films], titles, [_GENRES_100K.findall(f[3]) for f in films])
    numbers = pl.read_csv(inter, separator="\t", has_header=True, new_columns=["user", "item", "rating", "seconds"])
    people = pl.read_csv(
        user,
        separator="\t",
        new_columns=["user", "age", "gender", "occupation", "zip"],
        schema_overrides={"zip_code:token": pl.String},
    ).select(
        user_id=pl.lit("ml-") + pl.col("user").cast(pl.String),
        gender=pl.col("gender").replace_strict(GENDERS),
        age=age_band(pl.col("age")),
        age_years=pl.col("age").cast(pl.Int16),
        occupation=pl.col("occupation"),
    )
    return Tables(items=items, events=_events(numbers), users=people)


def cut_by_genre(tables: Tables, *, dramatic: bool) -> Tables:
    """Return one of the two businesses that MovieLens is cut into.

    A film goes where the majority of its genres belong (:data:`DRAMATIC_GENRES` against the rest); a tie goes to the
    drama business. People are shared by id: both businesses may know the same person.
    """
    dramatic_genres = pl.col("categories").list.eval(pl.element().is_in(list(DRAMATIC_GENRES))).list.sum()
    is_dramatic = dramatic_genres * 2 >= pl.col("categories").list.len()
    items = tables.items.filter(is_dramatic if dramatic else ~is_dramatic)
    events = tables.events.join(items.select("item_id"), on="item_id", how="semi", maintain_order="left")
    users = tables.users.join(events.select("user_id"), on="user_id", how="semi", maintain_order="left")
    return Tables(items=items, events=events, users=users)
