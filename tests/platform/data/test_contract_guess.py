"""A stranger's files become a first ``partner.toml``; what was guessed is said, what cannot be told is asked."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest

from koinon.data import Vault
from koinon.data.guess import guess_language, guess_partner
from koinon.errors import ConfigError, DataError

GERMAN = [
    "Die Verwandlung",
    "Der Steppenwolf",
    "Das Parfum: die Geschichte eines Mörders",
    "Im Westen nichts Neues",
    "Der Vorleser",
    "Die unendliche Geschichte",
    "Homo faber: ein Bericht",
    "Die Blechtrommel",
    "Der Richter und sein Henker",
    "Das Schloss",
    "Die Leiden des jungen Werther",
    "Ansichten eines Clowns",
    "Der Schwarm",
    "Die Vermessung der Welt",
]


def _write(folder: Path, name: str, header: str, rows: list[str], encoding: str = "utf-8") -> str:
    path = folder / name
    path.write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return str(path)


def _books(folder: Path, header: str = "isbn;titel;autor", **more: str) -> str:
    rows = [f"9780{n:03d};{title};Autor {n}" for n, title in enumerate(GERMAN)]
    return _write(folder, "books.csv", header, rows, **more)


def _loans(folder: Path, header: str = "leser;isbn;datum", when: str = "{:02d}.03.2024") -> str:
    rows = [f"L{n % 5};9780{n % 14:03d};{when.format(n % 27 + 1)}" for n in range(60)]
    return _write(folder, "loans.csv", header, rows)


def test_delimiter_encoding_columns_language_and_times_are_guessed_and_said(tmp_path: Path) -> None:
    guess = guess_partner(tmp_path, _books(tmp_path, encoding="cp1252"), _loans(tmp_path))
    items, events = guess.config.sources.items, guess.config.sources.events
    assert items is not None
    assert events is not None
    assert (items.path, items.delimiter, items.encoding) == ("books.csv", ";", "latin-1")
    assert items.columns == {"item_id": "isbn", "title": "titel", "creator": "autor"}
    assert events.columns == {"user_id": "leser", "item_id": "isbn", "timestamp": "datum"}
    assert guess.config.language == "de"
    assert {
        "language",
        "text",
        "sources.items.encoding",
        "sources.items.columns.title",
        "sources.events.time_unit",
    } <= set(guess.said)
    guess.config.save(tmp_path, guess.said)
    assert Vault.ingest(tmp_path).quarantined == 0


def test_columns_without_telling_names_are_found_by_what_they_share(tmp_path: Path) -> None:
    books, loans = _books(tmp_path, "a;b;c"), _loans(tmp_path, "x;y;z")
    guess = guess_partner(tmp_path, books, loans)
    items, events = guess.config.sources.items, guess.config.sources.events
    assert items is not None
    assert events is not None
    assert items.columns["item_id"] == "a"
    assert items.columns["title"] == "b"
    assert events.columns == {"item_id": "y", "user_id": "x", "timestamp": "z"}
    assert "share these ids" in guess.said["sources.events.columns.item_id"]


def test_files_without_a_header_are_noticed(tmp_path: Path) -> None:
    books = _write(
        tmp_path,
        "movies.dat",
        "1::Toy Story (1995)::Animation|Comedy",
        ["2::Jumanji (1995)::Adventure", "3::Heat (1995)::Action"],
    )
    ratings = _write(
        tmp_path,
        "ratings.dat",
        "10::1::5::978300760",
        [f"{n % 4 + 10}::{n % 3 + 1}::3::97830{n:04d}" for n in range(20)],
    )
    guess = guess_partner(tmp_path, books, ratings)
    events = guess.config.sources.events
    assert events is not None
    assert events.header is False
    assert events.delimiter == "::"
    assert (events.columns["item_id"], events.columns["timestamp"], events.time_unit) == ("c2", "c4", "s")


@pytest.mark.parametrize(("quote", "escape"), [('\\"', "\\"), ('""', '"')])
def test_how_quotes_are_escaped_is_seen_far_into_the_file(tmp_path: Path, quote: str, escape: str) -> None:
    rows = [f'"9780{n:03d}";"{title} Band {n}";""' for n, title in enumerate(GERMAN * 30)]
    rows[-1] = f'"9780001";"Der {quote}kleine{quote} Prinz; ein Buch";""'
    books = _write(tmp_path, "books.csv", '"isbn";"titel";"autor"', rows)
    guess = guess_partner(tmp_path, books, _loans(tmp_path))
    assert guess.config.sources.items is not None
    assert guess.config.sources.items.escape == escape


@pytest.mark.parametrize(
    ("when", "pattern"),
    [
        ("{:02d}/03/2024", "%d/%m/%Y"),
        ("03/{:02d}/2024", "%m/%d/%Y"),
        ("202403{:02d}", "%Y%m%d"),
        ("Mar {:02d}, 2024 ", "%b %d, %Y"),
    ],
)
def test_the_spelling_of_dates_is_found(tmp_path: Path, when: str, pattern: str) -> None:
    guess = guess_partner(tmp_path, _books(tmp_path), _loans(tmp_path, when=when))
    events = guess.config.sources.events
    assert events is not None
    assert events.time_format == pattern


def test_ambiguous_dates_are_pointed_out(tmp_path: Path) -> None:
    rows = [f"L{n % 5};9780{n % 14:03d};{n % 11 + 1:02d}/03/2024" for n in range(40)]
    loans = _write(tmp_path, "loans.csv", "leser;isbn;datum", rows)
    assert any("day first" in remark for remark in guess_partner(tmp_path, _books(tmp_path), loans).open)


def test_users_give_attributes_and_none_is_taken_for_sensitive_unless_declared(tmp_path: Path) -> None:
    people = [f"L{n};{'mf'[n % 2]};{20 + n % 9};l{n}@x.de;{'ja' if n else 'nein'}" for n in range(40)]
    readers = _write(tmp_path, "readers.csv", "leser;Geschlecht;Alter;E-Mail;Einwilligung", people)
    books, loans = _books(tmp_path), _loans(tmp_path)
    guess = guess_partner(tmp_path, books, loans, readers)
    assert guess.config.attributes == ("geschlecht", "alter")
    assert guess.config.has_consent
    assert guess.config.sensitive == ()
    assert any("E-Mail" in remark for remark in guess.open)
    declared = guess_partner(tmp_path, books, loans, readers, sensitive=("geschlecht",))
    assert declared.config.sensitive == ("geschlecht",)
    with pytest.raises(ConfigError, match="K103"):
        guess_partner(tmp_path, books, loans, readers, sensitive=("religion",))


def test_what_the_user_states_is_taken(tmp_path: Path) -> None:
    stated = {"items": {"title": "autor"}, "events": {"user_id": "leser"}}
    guess = guess_partner(
        tmp_path, _books(tmp_path), _loans(tmp_path), stated=stated, name="bücher".replace("ü", "ue"), language="de"
    )
    assert guess.config.sources.items is not None
    assert guess.config.sources.items.columns["title"] == "autor"
    assert "sources.items.columns.title" not in guess.said
    assert guess.config.name == "buecher"


def test_json_lines_parquet_and_databases_are_recognised(tmp_path: Path) -> None:
    books = tmp_path / "catalogue.data"
    books.write_bytes(
        gzip.compress("".join(json.dumps({"asin": f"B{n}", "title": t}) + "\n" for n, t in enumerate(GERMAN)).encode())
    )
    with sqlite3.connect(tmp_path / "shop.db") as lite:
        lite.execute("CREATE TABLE orders (customer TEXT, product TEXT, bought_at INTEGER)")
        lite.executemany(
            "INSERT INTO orders VALUES (?, ?, ?)",
            [(f"c{n % 4}", f"B{n % 14}", 1_700_000_000_000 + n) for n in range(50)],
        )
    lite.close()
    guess = guess_partner(tmp_path, str(books), "sqlite:///shop.db#orders")
    items, events = guess.config.sources.items, guess.config.sources.events
    assert items is not None
    assert events is not None
    assert items.format == "jsonl"
    assert events.columns == {"user_id": "customer", "item_id": "product", "timestamp": "bought_at"}
    assert events.time_unit == "ms"
    guess.config.save(tmp_path)
    assert Vault.ingest(tmp_path).tables["events"].kept == 50


def test_tables_that_share_no_ids_are_asked_about(tmp_path: Path) -> None:
    loans = _write(tmp_path, "loans.csv", "leser;titelnummer", [f"L{n % 5};X{n}" for n in range(30)])
    with pytest.raises(DataError, match=r"K227.*--column items.item_id"):
        guess_partner(tmp_path, _books(tmp_path), loans)


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (GERMAN, "de"),
        (["L'Étranger", "Le petit prince", "Les Misérables", "Du côté de chez Swann", "La Peste et la nuit"], "fr"),
        (["Cien años de soledad", "La casa de los espíritus", "El amor en los tiempos del cólera"], "es"),
        (["Война и мир", "Преступление и наказание", "Мастер и Маргарита"], "ru"),
        (["ノルウェイの森", "雪国", "こころ"], "ja"),
    ],
)
def test_the_language_of_titles_is_told(texts: list[str], language: str) -> None:
    assert guess_language(texts)[0] == language
