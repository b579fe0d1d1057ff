"""From the publishers' files to canonical tables."""

from __future__ import annotations

import polars as pl
import pytest

from koinon.data.public import (
    DEMO_PARTNERS,
    cache_folder,
    cap_tables,
    demo_split_config,
    demo_tables,
    find_dataset,
    get,
    list_datasets,
)
from koinon.data.public.bookcrossing import cut_by_language, isbn_language, mend_text, read_book_crossing
from koinon.data.public.movielens import age_band, cut_by_genre, film_title, read_ml_1m
from koinon.data.splitting import make_split
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA, Tables
from koinon.errors import DataError

MOVIES = """1::Toy Story (1995)::Animation|Children's|Comedy
2::Matrix, The (1999)::Action|Sci-Fi|Thriller
3::Misérables, Les (1995)::Drama|Musical
4::Casino (1995)::Drama|Thriller
""".encode("latin-1")
RATINGS = b"1::1::5::978300760\n1::4::3::978300761\n2::2::4::978300759\n2::3::4::978300800\n"
PEOPLE = b"1::F::1::10::48067\n2::M::56::16::70072\n"

BOOKS = (
    '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"S";"M";"L"\n'
    '"0001";"x";"Not Applicable (NA )";"1999";"P";"";"";""\n'
    '"044651862x";"Romeo &amp; \\"Juliet\\"; a play";"W. Shakespeare";"1999";"P";"";"";""\n'
    '"044651862X";"the same";"again";"1999";"P";"";"";""\n'
    '"3257203659";"Der illustrierte Mann. ErzÃ?Â¤hlungen.";"Ray Bradbury";"1999";"P";"";"";""\n'
).encode("latin-1")
BOOK_RATINGS = (
    b'"User-ID";"ISBN";"Book-Rating"\n"7";"044651862X";"0"\n"7";"044651862x";"5"\n"8";"3257203659";"8"\n'
    b'"8";"044651862X";"1"\n"8";"unknown\\"isbn";"5"\n'
)
READERS = (
    b'"User-ID";"Location";"Age"\n"7";"stockton, california, usa";"18"\n"8";"berlin, , germany";"239"\n'
    b'"9";"nobody, nowhere, ";NULL\n'
)


@pytest.fixture
def films() -> Tables:
    return read_ml_1m(MOVIES, RATINGS, PEOPLE)


@pytest.fixture
def books() -> Tables:
    return read_book_crossing(BOOKS, BOOK_RATINGS, READERS)


def assert_canonical(tables: Tables) -> None:
    assert dict(tables.items.schema) == ITEM_SCHEMA
    assert dict(tables.events.schema) == EVENT_SCHEMA
    assert tables.items["item_id"].is_unique().all()
    assert tables.users["user_id"].is_unique().all()
    assert set(tables.events["item_id"]) <= set(tables.items["item_id"])
    assert set(tables.events["user_id"]) <= set(tables.users["user_id"])


class TestMovieLens:
    def test_tables_are_canonical(self, films: Tables) -> None:
        assert_canonical(films)
        assert films.items["text"].to_list()[1] == "The Matrix (1999). Action, Sci-Fi, Thriller"
        assert films.events["timestamp"][0].isoformat() == "2000-12-31T22:12:39+00:00"
        assert films.users.rows() == [
            ("ml-1", "female", "under 18", "K-12 student"),
            ("ml-2", "male", "56+", "self-employed"),
        ]

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("Matrix, The (1999)", "The Matrix (1999)"),
            ("Cry, the Beloved Country (1995)", "Cry, the Beloved Country (1995)"),
            ("Postino, Il (The Postman) (1994)", "Il Postino (The Postman) (1994)"),
            ("Avventura, L' (1960)", "L'Avventura (1960)"),
            ("Heat", "Heat"),
        ],
    )
    def test_articles_come_first(self, written: str, read: str) -> None:
        assert film_title(written) == read

    def test_a_film_goes_where_most_of_its_genres_belong_and_ties_to_drama(self, films: Tables) -> None:
        drama, action = cut_by_genre(films, dramatic=True), cut_by_genre(films, dramatic=False)
        assert drama.items["item_id"].to_list() == ["3", "4"]
        assert action.items["item_id"].to_list() == ["1", "2"]
        assert drama.users["user_id"].to_list() == action.users["user_id"].to_list() == ["ml-1", "ml-2"]
        for business in (drama, action):
            assert_canonical(business)

    def test_age_bands(self) -> None:
        ages = pl.DataFrame({"age": [17, 18, 24, 55, 56, 90, None]})
        bands = ["under 18", "18-24", "18-24", "50-55", "56+", "56+", None]
        assert ages.select(age_band(pl.col("age"))).to_series().to_list() == bands


class TestBookCrossing:
    def test_tables_are_canonical(self, books: Tables) -> None:
        assert_canonical(books)
        assert books.items["item_id"].to_list() == ["0001", "044651862X", "3257203659"]
        assert books.items["text"].to_list() == [
            "x",
            'Romeo & "Juliet"; a play. W. Shakespeare',
            "Der illustrierte Mann. Erzählungen. Ray Bradbury",
        ]
        assert books.items["language"].to_list() == ["und", "en", "de"]

    def test_every_rating_of_a_recorded_book_counts_once(self, books: Tables) -> None:
        assert books.events.select("user_id", "item_id", "weight").rows() == [
            ("bx-7", "044651862X", 0.0),
            ("bx-8", "3257203659", 8.0),
            ("bx-8", "044651862X", 1.0),
        ]
        assert books.events["timestamp"].null_count() == 3

    def test_only_plausible_ages_count(self, books: Tables) -> None:
        assert books.users.rows() == [("bx-7", "18-24", 18, "usa"), ("bx-8", None, None, "germany")]

    def test_shops_by_language_and_region(self, books: Tables) -> None:
        assert cut_by_language(books, "de").users["user_id"].to_list() == ["bx-8"]
        assert cut_by_language(books, "en", "us").users["user_id"].to_list() == ["bx-7"]
        assert cut_by_language(books, "en", "intl").users["user_id"].to_list() == ["bx-8"]

    @pytest.mark.parametrize(
        ("isbn", "language"),
        [
            ("0446518620", "en"),
            ("3257203659", "de"),
            ("2070389634", "fr"),
            ("8483007010", "es"),
            ("8804356812", "it"),
            ("9722014862", "und"),
            ("B0000DYXID", "und"),
            ("044651862X", "en"),
        ],
    )
    def test_language_follows_from_the_isbn_group(self, isbn: str, language: str) -> None:
        assert isbn_language(isbn) == language

    @pytest.mark.parametrize(
        ("written", "language", "read"),
        [
            ("Antoine de Saint-ExupÃ©ry", "en", "Antoine de Saint-Exupéry"),
            ("Pourquoi j'ai mangÃ?Â© mon pÃ?Â¨re", "fr", "Pourquoi j'ai mangé mon père"),
            ("BiografÃ\xadas", "es", "Biografías"),
            ("Ein heiÃ?Â?er Sommer", "de", "Ein heißer Sommer"),
            ("Der letzte Ã?sterreicher", "de", "Der letzte Österreicher"),
            ("Ulysses (Ã?Â?bersetzg. WollschlÃ?Â¤ger)", "de", "Ulysses (Übersetzg. Wollschläger)"),
            ("Les Ã?tudes", "fr", "Les Études"),
            ("Ã?rden", "es", "rden"),
            ("Sense &amp; Sensibility", "en", "Sense & Sensibility"),
            ("  plain   words ", "en", "plain words"),
        ],
    )
    def test_texts_are_mended(self, written: str, language: str, read: str) -> None:
        assert mend_text(written, language) == read


class TestCaps:
    @staticmethod
    def shop(users: int) -> Tables:
        rows = [(f"u{user}", f"i{item}") for user in range(users) for item in range(user % 5 + 1)]
        events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
        items = events.select("item_id").unique()
        return Tables(items=items, events=events, users=events.select("user_id").unique())

    def test_the_items_with_most_events_stay(self) -> None:
        capped = cap_tables(self.shop(20), max_items=2)
        assert sorted(capped.items["item_id"]) == ["i0", "i1"]
        assert set(capped.events["item_id"]) == {"i0", "i1"}

    def test_a_small_shop_keeps_everybody(self) -> None:
        assert cap_tables(self.shop(20), max_users=20).users.height == 20

    def test_a_large_shop_keeps_a_sample_of_those_with_two_events(self) -> None:
        shop = self.shop(40)
        capped = cap_tables(shop, max_users=10)
        assert capped.users.height == 10
        assert not {f"u{user}" for user in range(0, 40, 5)} & set(capped.users["user_id"])
        assert sorted(capped.users["user_id"]) == sorted(cap_tables(shop, max_users=10).users["user_id"])


class TestRegistry:
    def test_every_set_has_what_a_user_must_know(self) -> None:
        names = [dataset.name for dataset in list_datasets()]
        assert names[:5] == ["ml-100k", "ml-1m", "ml-1m-drama", "ml-1m-action", "book-crossing"]
        assert {f"book-crossing-{cut}" for cut in ("en-us", "en-intl", "de", "fr", "es", "it")} <= set(names)
        assert {partner.dataset for partner in DEMO_PARTNERS.values()} <= set(names)
        for dataset in list_datasets():
            assert len(dataset.sha256) == 64
            assert dataset.download_size > 1_000_000
            assert dataset.licence
            assert "doi:" in dataset.citation

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(DataError, match=r"K232.*ml-100k"):
            find_dataset("netflix")
        with pytest.raises(DataError, match=r"K233.*books-de"):
            demo_tables("books-it")


def _cached(name: str) -> bool:
    return bool(list(cache_folder().glob(f"v*/{name}")))


@pytest.mark.skipif(not _cached("book-crossing") or not _cached("ml-1m"), reason="not in the cache: run `koinon demo`")
class TestRealData:
    def test_published_counts(self) -> None:
        films = get("ml-1m")
        assert (films.events.height, films.users.height, films.items.height) == (1_000_209, 6_040, 3_883)
        assert films.users["gender"].value_counts().sort("gender").rows() == [("female", 1_709), ("male", 4_331)]
        books = get("book-crossing")
        assert_canonical(books)
        assert books.events.height > 1_031_000
        assert not books.items["text"].str.contains("Ã|&amp;").any()

    def test_every_demo_partner_can_be_divided_and_evaluated(self) -> None:
        config = demo_split_config()
        for name in DEMO_PARTNERS:
            if not _cached(f"demo-{name}"):
                continue
            tables = demo_tables(name)
            split = make_split(name, tables, config)
            assert split.train.n_items <= 4_000
            assert split.train.n_users <= 8_000
            assert split.test.main.sum() >= 300
            assert 0.03 < split.cold_item.mean() < 0.08
