"""From the files of Book-Crossing to canonical tables: the language of each book, the country of each reader."""

from __future__ import annotations

import csv
import html
import io
import re

import polars as pl

from koinon.data.building import item_table
from koinon.data.public.movielens import age_band
from koinon.data.tables import EVENT_SCHEMA, Tables

__all__ = ["REGIONS", "UNDETERMINED", "cut_by_language", "isbn_language", "mend_text", "read_book_crossing"]

UNDETERMINED = "und"
"""Language of a book whose ISBN group tells none (ISO 639-2's code for it)."""

REGIONS = {"usa": "us", "canada": "ca", "united kingdom": "uk", "australia": "au"}
"""Countries that have an English shop of their own; readers of any other country, or of none, are ``intl``."""

_ISBN_GROUPS = {"0": "en", "1": "en", "2": "fr", "3": "de", "84": "es", "88": "it"}
_NO_AUTHOR = {"not applicable (na )", "n/a", "unknown", "na", ""}
_PLAUSIBLE_AGE = (5, 100)
_TWICE = re.compile("Ã\\?Â([\x80-\xbf])")
_ONCE = re.compile("Ã([\x80-\xbf])")
_NARROW = re.compile("Â([\x80-\xbf])")
_LOST = re.compile("Ã\\?(?:Â\\?)?|Â\\?")
_GERMAN_CAPITALS = {"b": "Ü", "g": "Ä", "r": "Ä", "n": "Ä", "p": "Ä", "s": "Ö", "k": "Ö", "d": "Ö", "l": "Ö", "f": "Ö"}


def isbn_language(isbn: str) -> str:
    """Return the language of an ISBN's registration group, :data:`UNDETERMINED` where it names none known here."""
    if len(isbn) < 10 or not isbn[:9].isdigit():
        return UNDETERMINED
    return _ISBN_GROUPS.get(isbn[0]) or _ISBN_GROUPS.get(isbn[:2]) or UNDETERMINED


def mend_text(text: str, language: str = UNDETERMINED) -> str:
    """Undo what happened to a text on its way into the file.

    The file is UTF-8 that was read as Latin-1 once or twice, with bytes 0x80-0x9F replaced by question marks, and with
    HTML entities. Letters that lost their byte (``Ã?``) are restored where the language leaves little doubt: inside a
    word the German sharp s, at a word's beginning the German umlaut that the next letter suggests or the French É;
    elsewhere the debris is dropped.
    """
    if "Ã" in text or "Â" in text:
        text = _TWICE.sub(lambda found: "Ã" + found[1], text)
        text = _ONCE.sub(lambda found: chr(ord(found[1]) + 0x40), text)
        text = _LOST.sub(lambda found: _lost_letter(text, found, language), text)
        text = _NARROW.sub(lambda found: found[1], text)
    if "&" in text:
        text = html.unescape(text)
    return " ".join(text.split())


def _lost_letter(text: str, found: re.Match[str], language: str) -> str:
    if found[0].startswith("Â"):
        return ""
    before, after = text[: found.start()][-1:], text[found.end() :][:1]
    if before.isalpha():
        return "ß" if language == "de" else ""
    if language == "de":
        return _GERMAN_CAPITALS.get(after.lower(), "")
    return "É" if language == "fr" and after.isalpha() else ""


def _rows(content: bytes) -> list[list[str]]:
    source = io.StringIO(content.decode("latin-1"), newline="")
    rows = csv.reader(source, delimiter=";", quotechar='"', escapechar="\\", doublequote=False)
    next(rows)
    return list(rows)


def _clean_isbn(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().str.to_uppercase()


def read_book_crossing(books: bytes, ratings: bytes, users: bytes) -> Tables:
    """Read ``BX-Books.csv``, ``BX-Book-Ratings.csv`` and ``BX-Users.csv``.

    Every rating whose book has a record is an event (implicit zeros too), once per reader and book; ISBNs are compared
    without regard to case. User ids get the prefix ``bx-``. ``age`` is a band and ``age_years`` a number where the
    stated age is between 5 and 100.
    """
    items = _books(books)
    events = (
        pl.DataFrame(_rows(ratings), schema=["user", "isbn", "rating"], orient="row")
        .select(
            user_id=pl.lit("bx-") + pl.col("user"),
            item_id=_clean_isbn("isbn"),
            timestamp=pl.lit(None, EVENT_SCHEMA["timestamp"]),
            kind=pl.lit("rating"),
            weight=pl.col("rating").cast(pl.Float32),
        )
        .join(items.select("item_id"), on="item_id", how="semi", maintain_order="left")
        .unique(["user_id", "item_id"], keep="first", maintain_order=True)
        .cast(EVENT_SCHEMA)  # type: ignore[arg-type]
    )
    years = pl.col("age").cast(pl.Int16, strict=False)
    plausible = pl.when(years.is_between(*_PLAUSIBLE_AGE)).then(years)
    country = pl.col("location").str.split(",").list.last().str.strip_chars(' ."').str.to_lowercase()
    people = (
        pl.DataFrame(_rows(users), schema=["user", "location", "age"], orient="row")
        .select(
            user_id=pl.lit("bx-") + pl.col("user"),
            age=age_band(plausible),
            age_years=plausible,
            country=pl.when(country.str.contains("^[a-z][a-z ]+$")).then(country),
        )
        .join(events.select("user_id"), on="user_id", how="semi", maintain_order="left")
    )
    return Tables(items=items, events=events, users=people)


def _books(content: bytes) -> pl.DataFrame:
    records: dict[str, list[str]] = {}
    for record in _rows(content):
        records.setdefault(record[0].strip().upper(), record)
    languages = [isbn_language(isbn) for isbn in records]
    titles, creators, texts = [], [], []
    for record, language in zip(records.values(), languages, strict=True):
        title = mend_text(record[1], language)
        creator = None if record[2].strip().lower() in _NO_AUTHOR else mend_text(record[2], language)
        titles.append(title)
        creators.append(creator)
        texts.append(f"{title.rstrip('. ')}. {creator}" if creator else title)
    return item_table(list(records), titles, texts, creators=creators, languages=languages)


def cut_by_language(tables: Tables, language: str, region: str | None = None) -> Tables:
    """Return the shop of one language, or for English of one region (``us``, ``ca``, ``uk``, ``au``, ``intl``).

    Items that nobody of the shop took are left out.
    """
    of_language = tables.items.filter(pl.col("language") == language)
    users = tables.users
    if region is not None:
        home = pl.col("country").replace_strict(REGIONS, default="intl").fill_null("intl")
        users = users.filter(home == region)
    events = tables.events.join(of_language.select("item_id"), on="item_id", how="semi", maintain_order="left").join(
        users.select("user_id"), on="user_id", how="semi", maintain_order="left"
    )
    return Tables(
        items=of_language.join(events.select("item_id"), on="item_id", how="semi", maintain_order="left"),
        events=events,
        users=users.join(events.select("user_id"), on="user_id", how="semi", maintain_order="left"),
    )
