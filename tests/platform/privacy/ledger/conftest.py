"""A small ledger, signed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from koinon.privacy.ledger import Entry
from koinon.privacy.signing import Signer

Grow = Callable[..., list[Entry]]


def _grow(signer: Signer, entries: list[Entry], *subjects: str) -> list[Entry]:
    """Return a ledger with one further entry per subject."""
    grown = list(entries)
    for subject in subjects:
        grown.append(
            Entry.make(
                grown[-1] if grown else None,
                signer,
                time="2026-01-31T12:00:00.000Z",
                kind="left",
                subject=subject,
                body={"forget": True},
            )
        )
    return grown


@pytest.fixture
def grow() -> Grow:
    return _grow


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.open(tmp_path_factory.mktemp("key") / "server.key")


@pytest.fixture
def other(tmp_path: Path) -> Signer:
    return Signer.open(tmp_path / "other.key")


@pytest.fixture
def ledger(signer: Signer) -> list[Entry]:
    return _grow(signer, [], "shops", "books-de", "books-fr", "books-es")
