"""Both databases, with a real PostgreSQL server started for the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest


def _binary(name: str) -> str | None:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(versions[0]) if versions else shutil.which(name)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a fresh PostgreSQL server on a free port, run by an ordinary user."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: apt-get install postgresql)")
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
    try:
        _wait_for(f"postgresql://koinon@127.0.0.1:{port}/postgres")
        yield f"koinon@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(url: str) -> None:
    import psycopg

    for _ in range(150):
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not come up")


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """URL of an empty database."""
    import psycopg

    name = f"t{uuid4().hex}"
    with psycopg.connect(f"postgresql://{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://{postgres_server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is, once as a file and once as a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "state" / "server.sqlite")
    url: str = request.getfixturevalue("postgres")
    return url
