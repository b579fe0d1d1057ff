"""MovieLens of every size, as GroupLens packs them: 100K, 1M, 10M, 20M, 25M, 32M, latest.

Source: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from koinon.data.building import item_table
from koinon.data.importers.common import Note, canonical_tables, damaged, read_bytes, wrong_folder
from koinon.data.public.movielens import GENDERS, age_band, film_title, read_ml_1m
from koinon.data.tables import Tables

__all__ = ["EXPECTS", "TITLE", "read"]

TITLE = "a MovieLens data set"
EXPECTS = (
    "ratings.csv and movies.csv (latest, 20M, 25M, 32M), ratings.dat and movies.dat (1M, 10M), "
    "or u.data, u.item and u.user (100K)"
)

# fmt: off
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)
# fmt: on
_NO_GENRE = "(no genres listed)"


def read(path: Path, *, note: Note | None = None) -> Tables:
    """Import an unpacked folder of any size; user ids get the prefix ``ml-``.

    People have gender, age band and occupation in 100K and 1M, no attributes elsewhere.

    Raises
    ------
    DataError
        K240 it is no MovieLens folder, K241 a file of it cannot be read, K242 nothing is left.
    """
    if (path / "ratings.csv").is_file() and (path / "movies.csv").is_file():
        return _csv(path, note)
    if (path / "ratings.dat").is_file() and (path / "movies.dat").is_file():
        return _dat(path, note)
    if all((path / name).is_file() for name in ("u.data", "u.item", "u.user")):
        return _ml_100k(path, note)
    raise wrong_folder(path, TITLE, EXPECTS)


def _ratings(path: Path, content: bytes, separator: str, header: bool) -> pl.DataFrame:
    """Columns ``user_id``, ``item_id``, ``timestamp``, ``kind``, ``weight`` of user, item, rating, seconds."""
    try:
        frame = pl.read_csv(
            content,
            separator=separator,
            has_header=False,
            skip_rows=int(header),
            new_columns=["user", "item", "rating", "seconds"],
            schema_overrides=[pl.Int64, pl.Int64, pl.Float32, pl.Int64],
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(path, f"not rows of user, item, rating, seconds ({str(error).splitlines()[0][:120]})") from error
    return frame.select(
        user_id=pl.lit("ml-") + pl.col("user").cast(pl.String),
        item_id=pl.col("item").cast(pl.String),
        timestamp=pl.from_epoch(pl.col("seconds") * 1000, "ms").dt.replace_time_zone("UTC"),
        kind=pl.lit("rating"),
        weight=pl.col("rating"),
    )


def _films(path: Path, rows: list[tuple[str, str, list[str]]]) -> pl.DataFrame:
    if not rows:
        raise damaged(path, "it holds no film")
    titles = [film_title(title) for _, title, _ in rows]
    genres = [[genre for genre in of if genre and genre != _NO_GENRE] for _, _, of in rows]
    texts = [f"{title}. {', '.join(of)}" if of else title for title, of in zip(titles, genres, strict=True)]
    return item_table([film for film, _, _ in rows], titles, texts, categories=genres)


def _csv(path: Path, note: Note | None) -> Tables:
    movies = path / "movies.csv"
    try:
        frame = pl.read_csv(io.BytesIO(read_bytes(movies)), infer_schema=False).select("movieId", "title", "genres")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(movies, f"not columns movieId, title, genres ({str(error).splitlines()[0][:120]})") from error
    films = [(film, title, genres.split("|")) for film, title, genres in frame.fill_null("").rows()]
    ratings = _ratings(path / "ratings.csv", read_bytes(path / "ratings.csv"), ",", header=True)
    return canonical_tables(path, _films(movies, films), ratings, note=note)


def _dat(path: Path, note: Note | None) -> Tables:
    movies, ratings = read_bytes(path / "movies.dat"), read_bytes(path / "ratings.dat")
    if (path / "users.dat").is_file():
        users = read_bytes(path / "users.dat")
        try:
            tables = read_ml_1m(movies, ratings, users)
        except (pl.exceptions.PolarsError, OSError, IndexError) as error:
            raise damaged(path, f"not the files of MovieLens 1M ({str(error).splitlines()[0][:120]})") from error
        return canonical_tables(path, tables.items, tables.events, tables.users, note)
    films = []
    for number, line in enumerate(movies.decode("utf-8", errors="replace").splitlines(), start=1):
        film, first, rest = line.partition("::")
        title, second, genres = rest.rpartition("::")
        if not (first and second):
            raise damaged(path / "movies.dat", f"line {number} is not `id::title::genres`")
        films.append((film, title, genres.split("|")))
    events = _ratings(path / "ratings.dat", ratings.replace(b"::", b"\t"), "\t", header=False)
    return canonical_tables(path, _films(path / "movies.dat", films), events, note=note)


def _ml_100k(path: Path, note: Note | None) -> Tables:
    films = []
    for number, line in enumerate(read_bytes(path / "u.item").decode("latin-1").splitlines(), start=1):
        fields = line.split("|")
        if len(fields) < 5 + len(_GENRES_100K):
            raise damaged(path / "u.item", f"line {number} has {len(fields)} fields where 24 are expected")
        flags = zip(_GENRES_100K, fields[5:], strict=False)
        films.append((fields[0], fields[1], [genre for genre, flag in flags if flag == "1" and genre != "unknown"]))
    try:
        people = pl.read_csv(
            read_bytes(path / "u.user"),
            separator="|",
            has_header=False,
            new_columns=["user", "age", "gender", "occupation", "zip"],
            schema_overrides=[pl.String, pl.Int16, pl.String, pl.String, pl.String],
        ).select(
            user_id=pl.lit("ml-") + pl.col("user"),
            gender=pl.col("gender").replace_strict(GENDERS, default=None),
            age=age_band(pl.col("age")),
            age_years=pl.col("age"),
            occupation=pl.col("occupation"),
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(path / "u.user", f"not rows of user, age, gender, occupation ({str(error)[:120]})") from error
    events = _ratings(path / "u.data", read_bytes(path / "u.data"), "\t", header=False)
    return canonical_tables(path, _films(path / "u.item", films), events, people, note)
