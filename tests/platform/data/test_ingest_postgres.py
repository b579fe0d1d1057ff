"""A real PostgreSQL server as a source; needs its binaries (Debian: ``apt-get install postgresql``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from koinon.data import Vault
from koinon.data.guess import guess_partner
from koinon.data.ingest import read_source
from koinon.data.ingest.raw import ROW
from koinon.data.partner import Source
from koinon.errors import DataError

pytestmark = pytest.mark.slow

psycopg = pytest.importorskip("psycopg", reason="needs the extra `postgres`")


@pytest.fixture(scope="module")
def server(postgres_server: str) -> str:
    """URL of a fresh database with a shop in it."""
    with psycopg.connect(f"postgresql://{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    url = f"postgresql://{postgres_server}/shop"
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA shop")
        connection.execute("CREATE SEQUENCE shop.counter")
        connection.execute("CREATE TABLE shop.products (sku int PRIMARY KEY, title text, price numeric)")
        connection.execute("CREATE TABLE shop.orders (customer text, sku int, at timestamptz)")
        connection.execute(
            "INSERT INTO shop.products SELECT n, 'Title, \"quoted\" ' || n || E'\\nü', n / 2.0"
            " FROM generate_series(1, 50) n"
        )
        connection.execute(
            "INSERT INTO shop.orders SELECT 'c' || n % 20, n % 50 + 1,"
            " timestamptz '2024-01-01Z' + n * interval '1 minute' FROM generate_series(1, 5000) n"
        )
    return url


def test_a_table_and_a_query_are_read_whole(server: str, tmp_path: Path) -> None:
    products = read_source(tmp_path, Source(url=server, table="shop.products"), ["sku", "title"])
    assert products.frame.height == 50
    assert products.frame.row(0) == (1, "1", 'Title, "quoted" 1\nü')
    query = "SELECT customer, count(*) AS n FROM shop.orders GROUP BY 1 ORDER BY 1;"
    counted = read_source(tmp_path, Source(url=server, query=query)).frame
    assert counted.drop(ROW).head(1).rows() == [("c0", "250")]


def test_a_shop_in_a_database_becomes_a_vault(server: str, tmp_path: Path) -> None:
    guess = guess_partner(tmp_path, f"{server}#shop.products", f"{server}#shop.orders")
    guess.config.save(tmp_path, guess.said)
    assert Vault.ingest(tmp_path).quarantined == 0
    events = Vault(tmp_path).tables().events
    assert events.height == 5000
    assert str(events["timestamp"].min()) == "2024-01-01 00:01:00+00:00"
    assert events["user_id"].n_unique() == 20


@pytest.mark.parametrize(
    ("settings", "wanted", "code"),
    [
        ({"table": "shop.missing"}, "sku", "K206"),
        ({"query": "SELECT sku FROM shop.products WHERE false"}, "sku", "K201"),
        ({"table": "shop.orders"}, "title", "K205"),
    ],
)
def test_what_cannot_be_read_is_named(
    server: str, tmp_path: Path, settings: dict[str, str], wanted: str, code: str
) -> None:
    with pytest.raises(DataError, match=code):
        read_source(tmp_path, Source.from_dict({"url": server, **settings}), [wanted])


def test_the_source_is_opened_for_reading_only(server: str, tmp_path: Path) -> None:
    source = Source(url=server, query="SELECT nextval('shop.counter') AS n")
    with pytest.raises(DataError, match=r"K206.*read-only"):
        read_source(tmp_path, source, ["n"])
