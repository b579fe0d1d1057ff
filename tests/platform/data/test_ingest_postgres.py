"""A real PostgreSQL server as a source; needs its binaries (Debian: ``apt-get install postgresql``)."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
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


def _binary(name: str) -> str | None:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or (str(versions[0]) if versions else None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fresh server on a free port, run by an ordinary user, with a shop in it."""
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server on this machine")
    account = "postgres" if os.geteuid() == 0 else getpass.getuser()
    folder = tmp_path_factory.mktemp("postgres")
    if os.geteuid() == 0:
        shutil.chown(folder, account)
        for parent in folder.parents[:2]:
            parent.chmod(0o755)
    as_user = {"user": account} if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run(
        [initdb, "-D", folder / "data", "-U", "koinon", "-A", "trust", "--no-sync", "-E", "UTF8"],
        check=True, capture_output=True, cwd="/", **as_user,
    )  # fmt: skip
    process = subprocess.Popen(
        [postgres, "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **as_user,
    )  # fmt: skip
    url = f"postgresql://koinon@127.0.0.1:{port}/postgres"
    try:
        _fill(url)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _fill(url: str) -> None:
    for _ in range(100):
        try:
            with psycopg.connect(url, connect_timeout=2) as connection:
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
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start")


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
