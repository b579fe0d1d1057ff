"""Each importer on small files in its publisher's real format."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from koinon.data.importers import IMPORTERS, read
from koinon.data.partner import PartnerConfig
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA, Tables
from koinon.data.vault import Vault
from koinon.errors import DataError


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def json_lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def python_lines(*records: dict[str, Any]) -> str:
    return "".join(f"{record!r}\n" for record in records)


def pairs(tables: Tables) -> list[tuple[str, str]]:
    return tables.events.select("user_id", "item_id").rows()


def times(tables: Tables) -> list[datetime]:
    return tables.events["timestamp"].to_list()


@pytest.fixture
def notes() -> list[str]:
    return []


class TestAmazon:
    REVIEWS = (
        {"rating": 5.0, "title": "Great", "text": "…", "asin": "B01", "parent_asin": "B00", "user_id": "AE",
         "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True},
        {"rating": 2.0, "title": "", "text": "", "images": [], "asin": "B02", "parent_asin": "B02", "user_id": "AF",
         "timestamp": 1600000000000, "helpful_vote": 1, "verified_purchase": False},
        {"rating": 4.0, "asin": "B09", "parent_asin": "B09", "user_id": "AF", "timestamp": 1600000000001},
    )  # fmt: skip
    META = (
        {"main_category": "Books", "title": "Pride &amp; Prejudice", "average_rating": 4.5, "features": ["x"],
         "description": ["A classic.", "Again."], "price": 12.99, "images": [], "store": "Jane Austen (Author)",
         "categories": ["Books", "Literature", "Classics"], "details": {"Pages": "300"}, "parent_asin": "B00"},
        {"main_category": "Software", "title": "Notes App", "description": [], "price": "from 4.99", "store": None,
         "categories": [], "details": {}, "parent_asin": "B02"},
        {"main_category": "Software", "title": None, "description": [], "price": None, "parent_asin": "B03"},
    )  # fmt: skip

    def folder(self, root: Path, ending: str = ".jsonl") -> Path:
        write(root / f"Books{ending}", json_lines(*self.REVIEWS))
        write(root / f"meta_Books{ending}", json_lines(*self.META))
        return root

    @pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
    def test_reviews_and_metadata(self, tmp_path: Path, ending: str, notes: list[str]) -> None:
        tables = read("amazon-2023", self.folder(tmp_path, ending), note=notes.append)
        assert pairs(tables) == [("amazon-AE", "B00"), ("amazon-AF", "B02")]
        assert times(tables)[0] == datetime(2020, 5, 5, 14, 8, 48, 923000, tzinfo=UTC)
        assert tables.items["text"].to_list() == [
            "Pride & Prejudice. Jane Austen (Author). Literature, Classics",
            "Notes App. Software",
        ]
        assert tables.items["price"].to_list() == [12.99, 4.99]
        assert tables.items["description"].to_list() == ["A classic. Again.", None]
        assert any("no title" in note for note in notes)
        assert any("1 of 3 events are of items without a record" in note for note in notes)

    def test_the_file_of_reviews_may_be_named(self, tmp_path: Path) -> None:
        assert read("amazon-2023", self.folder(tmp_path) / "Books.jsonl").events.height == 2

    def test_ratings_only_csv(self, tmp_path: Path) -> None:
        self.folder(tmp_path)
        (tmp_path / "Books.jsonl").unlink()
        write(tmp_path / "Books.csv", "user_id,parent_asin,rating,timestamp\nAE,B00,5.0,1588687728923\n")
        assert pairs(read("amazon-2023", tmp_path)) == [("amazon-AE", "B00")]

    def test_several_categories_need_a_choice(self, tmp_path: Path) -> None:
        self.folder(tmp_path)
        write(tmp_path / "meta_Software.jsonl", json_lines(*self.META))
        with pytest.raises(DataError, match=r"K240.*Books, Software"):
            read("amazon-2023", tmp_path)
        assert read("amazon-2023", tmp_path, category="Books").events.height == 2

    def test_a_broken_line_does_not_take_the_others_along(self, tmp_path: Path, notes: list[str]) -> None:
        folder = self.folder(tmp_path)
        with (folder / "Books.jsonl").open("a") as file:
            file.write('{"rating": 5.0, "user_id": "AE", "parent')
        assert read("amazon-2023", folder, note=notes.append).events.height == 2
        assert any("1 of 4 events are incomplete" in note for note in notes)

    def test_metadata_in_place_of_reviews_is_named(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        write(folder / "Books.jsonl", json_lines(*self.META))
        with pytest.raises(DataError, match=r"K241.*user_id"):
            read("amazon-2023", folder)


class TestMovieLens:
    def test_csv_sizes(self, tmp_path: Path) -> None:
        write(
            tmp_path / "movies.csv",
            'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n2,"A ""Q""",(no genres listed)\n',
        )
        write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.5,964982703\n1,2,1,964982704\n")
        tables = read("movielens", tmp_path)
        assert tables.items["text"].to_list() == ["The American President (1995). Comedy, Drama", 'A "Q"']
        assert times(tables)[0] == datetime(2000, 7, 30, 18, 45, 3, tzinfo=UTC)
        assert tables.events["weight"].to_list() == [4.5, 1.0]

    def test_ten_million(self, tmp_path: Path) -> None:
        write(tmp_path / "movies.dat", "1::Léon: The Professional (1994)::Action|Crime\n2::A::B (1990)::Drama\n")
        write(tmp_path / "ratings.dat", "7::1::3.5::838985046\n7::2::5::838985047\n")
        tables = read("movielens", tmp_path)
        assert tables.items["title"].to_list() == ["Léon: The Professional (1994)", "A::B (1990)"]
        assert tables.events["weight"].to_list() == [3.5, 5.0]

    def test_one_million(self, tmp_path: Path) -> None:
        write(tmp_path / "movies.dat", "1::Misérables, Les (1995)::Drama|Musical\n", "latin-1")
        write(tmp_path / "ratings.dat", "1::1::5::978300760\n")
        write(tmp_path / "users.dat", "1::F::25::10::48067\n2::M::56::16::70072\n")
        tables = read("movielens", tmp_path)
        assert tables.items["title"].to_list() == ["Les Misérables (1995)"]
        assert tables.users.rows() == [("ml-1", "female", "25-34", "K-12 student")]

    def test_one_hundred_thousand(self, tmp_path: Path) -> None:
        flags = "|".join("1" if genre in (3, 5) else "0" for genre in range(19))
        write(tmp_path / "u.item", f"1|Toy Story (1995)|01-Jan-1995||http://imdb|{flags}\n", "latin-1")
        write(tmp_path / "u.user", "196|49|M|writer|55105\n")
        write(tmp_path / "u.data", "196\t1\t3\t881250949\n")
        tables = read("movielens", tmp_path)
        assert tables.items["categories"].to_list() == [["Animation", "Comedy"]]
        assert tables.users.rows() == [("ml-196", "male", "45-49", 49, "writer")]

    def test_a_damaged_row_is_named(self, tmp_path: Path) -> None:
        write(tmp_path / "movies.csv", "movieId,title,genres\n1,A,Drama\n")
        write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,1,good,964982703\n")
        with pytest.raises(DataError, match=r"K241.*ratings\.csv.*user, item, rating, seconds"):
            read("movielens", tmp_path)

    def test_ratings_of_other_films_leave_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "movies.csv", "movieId,title,genres\n1,A,Drama\n")
        write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,9,4,964982703\n")
        with pytest.raises(DataError, match="K242"):
            read("movielens", tmp_path)


class TestLastFm:
    def test_hetrec(self, tmp_path: Path) -> None:
        write(
            tmp_path / "artists.dat",
            'id\tname\turl\tpictureURL\n1\tMALICE MIZER\thttp://a\thttp://b\n2\tSay "No"\thttp://c\n',
        )
        write(tmp_path / "user_artists.dat", "userID\tartistID\tweight\n2\t1\t13883\n2\t2\t11690\n")
        write(tmp_path / "tags.dat", "tagID\ttagValue\n1\tmetal\n2\tvisual kei\n3\tpsychod\xe9lique\n", "latin-1")
        write(
            tmp_path / "user_taggedartists.dat",
            "userID\tartistID\ttagID\tday\tmonth\tyear\n2\t1\t2\t1\t4\t2009\n3\t1\t2\t1\t4\t2009\n3\t1\t3\t1\t4\t2009\n",
        )
        tables = read("lastfm", tmp_path)
        assert pairs(tables) == [("lastfm-2", "1"), ("lastfm-2", "2")]
        assert tables.events["weight"].to_list() == [13883.0, 11690.0]
        assert tables.items["text"].to_list() == ["MALICE MIZER. visual kei, psychodélique", 'Say "No"']
        assert tables.events["timestamp"].null_count() == 2

    def test_play_counts(self, tmp_path: Path) -> None:
        write(
            tmp_path / "usersha1-artmbid-artname-plays.tsv",
            "00ff\t3bd7\tbetty blowtorch\t2137\n00ff\t\tThe Black Dice\t37 \n01aa\t\tthe black dice\t5\n",
        )
        write(tmp_path / "usersha1-profile.tsv", "00ff\tf\t22\tGermany\tFeb 1, 2007\n01aa\t\t\tMexico\tSep 1, 2008\n")
        tables = read("lastfm", tmp_path)
        assert pairs(tables)[1:] == [("lastfm-00ff", "name:the black dice"), ("lastfm-01aa", "name:the black dice")]
        assert tables.users.rows() == [
            ("lastfm-00ff", "female", "18-24", 22, "germany"),
            ("lastfm-01aa", None, None, None, "mexico"),
        ]

    @pytest.mark.parametrize(
        ("items", "expected"), [("artist", "The Dogs D'Amour"), ("track", "Fall in Love. The Dogs D'Amour")]
    )
    def test_listening_log(self, tmp_path: Path, items: str, expected: str) -> None:
        write(
            tmp_path / "userid-timestamp-artid-artname-traid-traname.tsv",
            "user_000639\t2009-04-08T01:57:47Z\tMB1\tThe Dogs D'Amour\tMB2\tFall in Love\n",
        )
        write(
            tmp_path / "userid-profile.tsv",
            "#id\tgender\tage\tcountry\tregistered\nuser_000639\tm\t\tMexico\tApr 27, 2005\n",
        )
        tables = read("lastfm", tmp_path, items=items)
        assert tables.items["text"].to_list() == [expected]
        assert times(tables) == [datetime(2009, 4, 8, 1, 57, 47, tzinfo=UTC)]
        assert tables.users.row(0) == ("lastfm-user_000639", "male", None, None, "mexico")


class TestMind:
    NEWS = 'N1\tsports\tgolf\tGolf "today"\tAll about it.\thttps://x\t[]\t[]\nN2\tnews\tworld\tMore news\t\thttps://y\t[]\t[]\nN3\tnews\t\tThird\tAbc\thttps://z\t[]\t[]\n'
    BEHAVIOURS = (
        "1\tU1\t11/11/2019 9:05:58 AM\tN3 N2\tN1-1 N2-0\n"
        "2\tU2\t11/12/2019 6:11:30 PM\t\tN2-1 N1-0\n"
        "3\tU1\t11/13/2019 1:00:00 PM\tN3 N2\tN2-1\n"
    )  # fmt: skip

    def folder(self, root: Path) -> Path:
        write(root / "news.tsv", self.NEWS)
        write(root / "behaviors.tsv", self.BEHAVIOURS)
        return root

    def test_clicks_and_earlier_clicks(self, tmp_path: Path) -> None:
        tables = read("mind", self.folder(tmp_path / "MINDsmall_train"))
        assert tables.events.select("user_id", "item_id", "kind").rows() == [
            ("mind-U1", "N3", "history"),
            ("mind-U1", "N1", "click"),
            ("mind-U2", "N2", "click"),
            ("mind-U1", "N2", "click"),
        ]
        assert times(tables)[0] < times(tables)[1] == datetime(2019, 11, 11, 9, 5, 58, tzinfo=UTC)
        assert tables.items["text"].to_list() == ['Golf "today". All about it.', "More news", "Third. Abc"]
        assert tables.items["categories"].to_list() == [["sports", "golf"], ["news", "world"], ["news"]]

    def test_train_and_dev_together(self, tmp_path: Path) -> None:
        self.folder(tmp_path / "MINDsmall_train")
        dev = self.folder(tmp_path / "MINDsmall_dev")
        write(dev / "behaviors.tsv", "1\tU9\t11/15/2019 9:05:58 AM\t\tN1-1\n")
        assert read("mind", tmp_path).events.height == 5

    def test_xmind_as_tsv(self, tmp_path: Path, notes: list[str]) -> None:
        translated = write(
            tmp_path / "ron" / "xMINDsmall_train" / "news.tsv", "N1\tGolf azi\tTotul despre.\nN2\tMai multe știri\t\n"
        )
        tables = read("mind", self.folder(tmp_path / "mind"), translations=str(translated), note=notes.append)
        assert tables.items["text"].to_list() == ["Golf azi. Totul despre.", "Mai multe știri"]
        assert tables.items["language"].unique().to_list() == ["ro"]
        assert tables.events.height == 3
        assert any("without a record" in note for note in notes)

    def test_xmind_as_parquet(self, tmp_path: Path) -> None:
        folder = tmp_path / "data" / "jpn"
        folder.mkdir(parents=True)
        pl.DataFrame({"nid": ["N1"], "title": ["ゴルフ"], "abstract": ["今日"]}).write_parquet(
            folder / "train.parquet.gzip"
        )
        tables = read("mind", self.folder(tmp_path / "mind"), translations=str(folder))
        assert tables.items.select("text", "language").rows() == [("ゴルフ. 今日", "ja")]

    def test_an_unknown_language_is_asked_for(self, tmp_path: Path) -> None:
        translated = write(tmp_path / "somewhere" / "news.tsv", "N1\tA\tB\n")
        with pytest.raises(DataError, match="K243"):
            read("mind", self.folder(tmp_path / "mind"), translations=str(translated))
        tables = read("mind", tmp_path / "mind", translations=str(translated), language="fin")
        assert tables.items["language"].to_list() == ["fi"]


class TestSteam:
    GAMES = (
        {"publisher": "Kotoshiro", "genres": ["Action", "Indie"], "app_name": "Lost Summoner", "title": "Lost Summoner",
         "tags": ["Strategy"], "price": 4.99, "id": "761140", "developer": "Kotoshiro"},
        {"app_name": "Ironbound", "genres": ["Free to Play"], "price": "Free To Play", "id": "643980"},
        {"app_name": "no id"},
    )  # fmt: skip

    def test_reviews_as_python_dictionaries(self, tmp_path: Path, notes: list[str]) -> None:
        reviews = python_lines(
            {"username": "Chaos O'Syren", "hours": 0.1, "product_id": "643980", "date": "2017-12-17", "text": "fun"},
            {"username": "Bob", "product_id": "761140", "date": "2017-12-16", "text": "é"},
        )
        write(tmp_path / "steam_reviews.json.gz", reviews.replace("{'", "{u'") + "{'username': 'cut\n")
        write(tmp_path / "steam_games.json.gz", python_lines(*self.GAMES))
        tables = read("steam", tmp_path, note=notes.append)
        assert pairs(tables) == [("steam-Bob", "761140"), ("steam-Chaos O'Syren", "643980")]
        assert times(tables)[0] == datetime(2017, 12, 16, tzinfo=UTC)
        assert tables.items.select("text", "creator", "price").rows() == [
            ("Lost Summoner. Action, Indie", "Kotoshiro", 4.99),
            ("Ironbound. Free to Play", None, 0.0),
        ]
        assert any("steam_reviews.json.gz: 1 lines" in note and "line 3" in note for note in notes)

    def test_games_owned(self, tmp_path: Path) -> None:
        person = {
            "user_id": "js41637", "items_count": 2, "steam_id": "7656", "user_url": "http://steam",
            "items": [
                {"item_id": "10", "item_name": "Counter-Strike", "playtime_forever": 60, "playtime_2weeks": 0},
                {"item_id": "643980", "item_name": "Ironbound", "playtime_forever": 0, "playtime_2weeks": 0},
            ],
        }  # fmt: skip
        write(tmp_path / "australian_users_items.json", python_lines(person))
        write(tmp_path / "steam_games.json", python_lines(*self.GAMES))
        tables = read("steam", tmp_path)
        assert tables.items["text"].to_list() == ["Counter-Strike", "Ironbound. Free to Play"]
        assert tables.events.select("item_id", "weight", "kind").rows() == [
            ("10", 1.0, "play"),
            ("643980", 0.0, "play"),
        ]

    def test_the_table_of_200k_plays(self, tmp_path: Path) -> None:
        write(
            tmp_path / "steam-200k.csv",
            '151603712,"Warhammer 40,000",purchase,1.0,0\n151603712,"Warhammer 40,000",play,14.9,0\n',
        )
        tables = read("steam", tmp_path)
        assert pairs(tables) == [("steam-151603712", "Warhammer 40,000")] * 2
        assert tables.events["kind"].to_list() == ["purchase", "play"]

    def test_a_line_of_another_table_is_named(self, tmp_path: Path) -> None:
        write(tmp_path / "steam-200k.csv", "user,title,purchase,value,0\n")
        with pytest.raises(DataError, match=r"K241.*line 1"):
            read("steam", tmp_path)


def complete_folder(name: str, root: Path) -> Path:
    """A folder that the format's importer accepts."""
    if name == "amazon-2023":
        return TestAmazon().folder(root)
    if name == "mind":
        return TestMind().folder(root)
    files = {
        "movielens": {"movies.csv": "movieId,title,genres\n1,A,Drama\n", "ratings.csv": "u,m,r,t\n1,1,4,964982703\n"},
        "lastfm": {"usersha1-artmbid-artname-plays.tsv": "00ff\t3bd7\tbetty\t2137\n"},
        "steam": {"steam-200k.csv": "1,Spore,play,14.9,0\n"},
    }
    for file, content in files[name].items():
        write(root / file, content)
    return root


@pytest.mark.parametrize("name", list(IMPORTERS))
class TestEveryImporter:
    def test_tables_are_canonical_and_make_a_vault(self, name: str, tmp_path: Path) -> None:
        tables = read(name, complete_folder(name, tmp_path / "source"))
        assert dict(tables.items.schema) == ITEM_SCHEMA
        assert dict(tables.events.schema) == EVENT_SCHEMA
        assert set(tables.users["user_id"]) == set(tables.events["user_id"])
        vault = Vault.create(tmp_path / "partner", PartnerConfig(name="shop"), tables)
        assert vault.tables().events.height == tables.events.height

    def test_a_wrong_folder_gives_one_clear_error(self, name: str, tmp_path: Path) -> None:
        write(tmp_path / "holiday.jpg", "no data")
        with pytest.raises(DataError, match=r"K240.*holiday\.jpg") as caught:
            read(name, tmp_path)
        assert IMPORTERS[name].expects.split(" ")[0] in caught.value.remedy

    def test_a_folder_that_is_not_there_gives_one_too(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"K240.*There is no"):
            read(name, tmp_path / "nowhere")

    def test_a_truncated_download_is_named(self, name: str, tmp_path: Path) -> None:
        folder = complete_folder(name, tmp_path)
        biggest = max(folder.iterdir(), key=lambda file: (not file.name.startswith("meta"), file.stat().st_size))
        if name == "movielens":
            biggest = folder / "ratings.csv"
        packed = gzip.compress(biggest.read_bytes())[:-12]
        biggest.unlink()
        target = biggest if name in ("movielens", "mind") else biggest.with_name(f"{biggest.name}.gz")
        target.write_bytes(packed)
        with pytest.raises(DataError, match="K24"):
            read(name, folder)


def test_unknown_formats_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"K243.*amazon-2023"):
        read("netflix", tmp_path)
    with pytest.raises(DataError, match=r"K243.*category"):
        read("amazon-2023", tmp_path, language="de")
