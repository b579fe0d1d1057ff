"""Both databases, with a real PostgreSQL server started for the tests."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest


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
