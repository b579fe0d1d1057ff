"""What tests of several houses share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pytest

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Take Ctrl-C as Python does by default, also where a shell's background job began with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class ShopMaker(Protocol):
    """Writes a small partner's folder; its readers are called ``<name>-reader-<n>``."""

    def __call__(
        self, name: str, *, seed: int = 0, first: int = 0, works: int = 40, users: int = 60, public: bool = True
    ) -> Path: ...


def _write_shop(root: Path, name: str, *, seed: int, first: int, works: int, users: int, public: bool) -> Path:
    rng = np.random.default_rng(seed)
    numbers = range(first, first + works)
    titles = [f"Work {number}" for number in numbers]
    items = pl.DataFrame(
        {
            "item_id": [f"{name}-{number}" for number in numbers],
            "title": titles,
            "creator": ["An Author"] * works,
            "description": [None] * works,
            "language": ["en"] * works,
            "categories": [[]] * works,
            "price": [None] * works,
            "text": [f"{title}. An Author" for title in titles],
        },
        schema=ITEM_SCHEMA,
    )
    share = 1 / np.arange(1, works + 1)
    taken = [rng.choice(works, 8, replace=False, p=share / share.sum()) for _ in range(users)]
    readers = [f"{name}-reader-{number}" for number in range(users)]
    events = {
        "user_id": np.repeat(readers, 8),
        "item_id": [f"{name}-{numbers[item]}" for item in np.concatenate(taken)],
        "timestamp": [None] * users * 8,
        "kind": ["rating"] * users * 8,
        "weight": [1.0] * users * 8,
    }
    config = PartnerConfig.model_validate({"name": name, "catalogue": "public" if public else "secret"})
    people = pl.DataFrame({"user_id": readers}, schema={"user_id": pl.String()})
    Vault.create(root / name, config, Tables(items, pl.DataFrame(events, schema=EVENT_SCHEMA), people))
    return root / name


@pytest.fixture(scope="session")
def make_shop(tmp_path_factory: pytest.TempPathFactory) -> ShopMaker:
    """Return a function that writes a small partner into a folder of its own and returns that folder."""

    def make(
        name: str, *, seed: int = 0, first: int = 0, works: int = 40, users: int = 60, public: bool = True
    ) -> Path:
        root = tmp_path_factory.mktemp("shops")
        return _write_shop(root, name, seed=seed, first=first, works=works, users=users, public=public)

    return make
