"""Every format gives the same table; bad rows are set apart with their line; good ones are never lost with them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koinon.data.ingest.text as text_reader
from koinon.data.ingest import RawTable, list_columns, read_source
from koinon.data.ingest.raw import ROW
from koinon.data.ingest.text import Dialect, read_delimited
from koinon.data.partner import Source
from koinon.errors import DataError

TABLE = pl.DataFrame({"user": ["u1", "u2", "u3"], "item": ["i1", "i 2", "ü3"], "n": ["1", "2", "3"]})


def _csv(frame: pl.DataFrame, separator: str = ",") -> bytes:
    return frame.write_csv(separator=separator).encode()


def _json_lines(frame: pl.DataFrame) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in frame.to_dicts())


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _recbole(frame: pl.DataFrame) -> bytes:
    return _csv(frame.rename({"user": "user:token", "item": "item:token_seq", "n": "n:float"}), "\t")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("t.csv", _csv(TABLE), {}),
        ("t.csv", _csv(TABLE, ";"), {"delimiter": ";"}),
        ("t.csv", _csv(TABLE).replace(b"\n", b"\r\n"), {}),
        ("t.csv", b"\xef\xbb\xbf" + _csv(TABLE), {}),
        ("t.csv", _csv(TABLE).decode().encode("latin-1"), {"encoding": "latin-1"}),
        ("t.csv", _csv(TABLE).decode().encode("utf-16"), {"encoding": "utf-16"}),
        ("t.dat", _csv(TABLE).replace(b",", b"::"), {"delimiter": "::"}),
        ("t.tsv", _csv(TABLE, "\t"), {}),
        ("t.jsonl", _json_lines(TABLE), {}),
        ("t.parquet", _parquet(TABLE), {}),
        ("t.inter", _recbole(TABLE), {}),
    ],
    ids=["csv", "semicolon", "crlf", "bom", "latin-1", "utf-16", "dat", "tsv", "jsonl", "parquet", "recbole"],
)
def test_every_format_gives_the_same_table(
    tmp_path: Path, name: str, content: bytes, settings: dict[str, object], packed: bool
) -> None:
    path = f"{name}.gz" if packed else name
    (tmp_path / path).write_bytes(gzip.compress(content) if packed else content)
    source = Source.from_dict({"path": path, **settings})
    raw = read_source(tmp_path, source, ["item", "user", "n"])
    assert raw.frame.select("user", "item", "n").equals(TABLE)
    assert raw.malformed.is_empty()
    assert sorted(list_columns(tmp_path, source)) == ["item", "n", "user"]


@pytest.mark.parametrize("scheme", ["sqlite", "duckdb"])
def test_a_local_database_gives_the_same_table(tmp_path: Path, scheme: str) -> None:
    if scheme == "sqlite":
        with sqlite3.connect(tmp_path / "shop.db") as lite:
            lite.execute('CREATE TABLE "my orders" (user TEXT, item TEXT, n INTEGER)')
            lite.executemany('INSERT INTO "my orders" VALUES (?, ?, ?)', TABLE.rows())
        lite.close()
    else:
        with duckdb.connect(str(tmp_path / "shop.db")) as duck:
            duck.execute('CREATE TABLE "my orders" (user TEXT, item TEXT, n INTEGER)')
            duck.executemany('INSERT INTO "my orders" VALUES (?, ?, ?)', TABLE.rows())
    url = f"{scheme}:///shop.db"
    whole = read_source(tmp_path, Source(url=url, table="my orders"), ["user", "item", "n"])
    assert whole.frame.drop(ROW).cast(pl.String).equals(TABLE)
    asked = Source(url=url, query='SELECT user, n + 1 AS m FROM "my orders" WHERE n > 1 ORDER BY n;')
    assert read_source(tmp_path, asked, ["user", "m"]).frame.cast(pl.String).rows() == [
        ("1", "u2", "3"),
        ("2", "u3", "4"),
    ]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (Source(url="sqlite:///none.db", table="t"), "K200"),
        (Source(url="sqlite:///a.db", table="missing"), "K206"),
        (Source(url="sqlite:///a.db", table="t"), "K205"),
        (Source(url="sqlite:///a.db", query="SELEKT 1"), "K206"),
        (Source(url="sqlite:///a.db", query="SELECT user FROM t WHERE 0"), "K201"),
        (Source(url="oracle://host/db", table="t"), "K207"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, source: Source, code: str) -> None:
    with sqlite3.connect(tmp_path / "a.db") as lite:
        lite.execute("CREATE TABLE t (user TEXT)")
    lite.close()
    with pytest.raises(DataError) as caught:
        read_source(tmp_path, source, ["usr"] if code == "K205" else ["user"])
    assert caught.value.code == code


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    source = Source(url="postgresql://reader:hunter2@127.0.0.1:1/shop", table="orders")
    with pytest.raises(DataError, match="K206") as caught:
        read_source(tmp_path, source, ["user"])
    assert "hunter2" not in str(caught.value)


def test_malformed_rows_are_set_apart_with_their_line_and_cost_no_good_row(tmp_path: Path) -> None:
    lines = [
        "user,item",
        "u1,i1",
        "u2",
        "",
        "u3,i3,extra",
        '"u4,i4',
        "u5,i5",
        'u6,"i""6"',
        'u7,"i"7"',
        'u8,"two',
        'lines"',
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    raw = read_source(tmp_path, Source(path="t.csv"))
    assert raw.frame.rows() == [(2, "u1", "i1"), (7, "u5", "i5"), (8, "u6", 'i"6'), (10, "u8", "two\nlines")]
    assert raw.malformed.rows() == [(3, "u2"), (5, "u3,i3,extra"), (6, '"u4,i4'), (9, 'u7,"i"7"')]


def test_broken_json_lines_are_set_apart_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": "x", "b": [1, "y"]}\n\n{"a": 7\n[1]\n{"a": null, "b": "z"}\n')
    raw = read_source(tmp_path, Source(path="t.jsonl"), ["a", "b"])
    assert raw.frame.rows() == [(1, "x", '[1,"y"]'), (5, None, "z")]
    assert raw.malformed[ROW].to_list() == [3, 4]


def test_backslash_escapes_are_understood(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"a";"b"\n"x \\"y\\"; z";"1"\n')
    raw = read_source(tmp_path, Source(path="t.csv", delimiter=";", escape="\\"))
    assert raw.frame.rows() == [(2, 'x "y"; z', "1")]


_cells = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufffd\x1c\x1d\x1e\x85\u2028\u2029\x0b\x0c"),
    max_size=8,
)


@given(rows=st.lists(st.tuples(_cells, _cells, _cells), min_size=1, max_size=12), chunk=st.integers(16, 200))
@settings(max_examples=120, deadline=None)
def test_what_the_standard_library_writes_is_read_back_in_portions_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_reader, "_CHUNK", chunk)
        raw = read_delimited(path, "t.csv", Dialect(","), [])
    assert raw.frame.select("a", "b", "c").rows() == rows
    assert raw.malformed.is_empty()


def test_only_wanted_columns_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(_csv(TABLE))
    assert read_source(tmp_path, Source(path="t.csv"), ["n"]).frame.columns == [ROW, "n"]


def _read(
    tmp_path: Path, content: bytes, *, name: str = "t.csv", wanted: tuple[str, ...] = ("user", "item"), **more: object
) -> RawTable:
    (tmp_path / name).write_bytes(content)
    return read_source(tmp_path, Source.from_dict({"path": name, **more}), wanted)


GERMAN = "user,item\n" + "".join(f"u{n},Süßer Brei {n}\n" for n in range(30))


@pytest.mark.parametrize(
    ("content", "settings", "code", "says"),
    [
        (b"", {}, "K201", "empty"),
        (b"user,item\n", {}, "K201", "no rows"),
        (b"\n\n", {}, "K201", "no rows"),
        (b"user;item\nu1;i1\n", {}, "K204", "delimiter = ';'"),
        (b"user\titem\nu1\ti1\n", {}, "K204", "delimiter = '\\t'"),
        (b"User,artikel\nu1,i1\n", {}, "K205", "did you mean `User`"),
        (GERMAN.encode("latin-1"), {}, "K203", 'encoding = "latin-1"'),
        (GERMAN.replace("Brei", "Brei €").encode("cp1252"), {}, "K203", 'encoding = "cp1252"'),
        (GERMAN.encode("utf-16"), {}, "K203", "utf-16"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, "K202", "not a text file"),
        (gzip.compress(GERMAN.encode())[:-20], {}, "K202", "cut off"),
        (b"\x1f\x8bnonsense", {}, "K202", "damaged"),
        (b"not parquet at all", {"name": "t.parquet"}, "K202", "Parquet"),
        (b"nothing of json\n", {"name": "t.jsonl", "wanted": ()}, "K202", "JSON"),
        (b"a,b\n", {"name": "t.xlsx"}, "K207", "format"),
    ],
)
def test_a_file_that_cannot_be_used_gives_one_clear_error(
    tmp_path: Path, content: bytes, settings: dict[str, object], code: str, says: str
) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, content, **settings)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert caught.value.remedy


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    for name in ("none.csv", "d.csv"):
        with pytest.raises(DataError, match="K200"):
            read_source(tmp_path, Source(path=name))


def test_a_few_damaged_lines_do_not_condemn_the_file(tmp_path: Path) -> None:
    content = GERMAN.encode() + b"u99,S\xfc\xdfer\n"
    raw = _read(tmp_path, content)
    assert raw.frame.height == 31
    assert raw.frame["item"][-1] == "S\ufffd\ufffder"
