"""The state's tables as JSON lines: what a backup holds of a database, whichever it is."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from koinon.privacy.canonical import canonical, parsed
from koinon.server.state.store import Base

__all__ = ["PLAIN", "filled", "load", "rows", "tables"]

PLAIN = (str, int, float, bool, bytes)
"""Types that a column may have."""
_OWNERS = ("koinon.server.state.ledger_book", "koinon.server.membership.records")
"""Modules whose tables make up the state."""
_BATCH = 1000


def tables() -> Mapping[str, sql.Table]:
    """Return every table of the state by name, but for the schema's version."""
    for owner in _OWNERS:
        import_module(owner)
    return {table.name: table for table in Base.metadata.sorted_tables if table.name != "schema_version"}


def rows(session: Session, table: sql.Table) -> Iterator[bytes]:
    """Return a table's rows, one a line (without its end), in the order of the key."""
    chosen = sql.select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_BATCH)
    for row in session.execute(chosen).mappings():
        yield canonical({name: _packed(value) for name, value in row.items()})


def load(session: Session, table: sql.Table, lines: Iterable[bytes]) -> None:
    """Put rows back.

    Raises
    ------
    ValueError
        A line is none of :func:`rows`.
    """
    batch: list[dict[str, Any]] = []
    for line in lines:
        batch.append(unpacked(line))
        if len(batch) == _BATCH:
            session.execute(sql.insert(table), batch)
            batch.clear()
    if batch:
        session.execute(sql.insert(table), batch)


def filled(session: Session) -> list[str]:
    """Return the names of the tables that hold anything."""
    return [name for name, table in tables().items() if session.scalar(sql.select(sql.exists(sql.select(table))))]


def unpacked(line: bytes) -> dict[str, Any]:
    """Return a row as :func:`rows` wrote it."""
    row = parsed(line)
    if not isinstance(row, dict):
        raise ValueError("no row")
    return {name: base64.b64decode(v["base64"]) if isinstance(v, dict) else v for name, v in row.items()}


def _packed(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
