"""A small shop whose recommender serves one group of people well and another badly."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.partner import UserPolicy
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA

KINDS = ("crime", "romance", "travel", "history")


def shop_tables(seed: int = 0, people: int = 320, items: int = 80) -> Tables:
    """Half the people keep to one kind of item, the other half take anything; nobody else tells the two apart."""
    rng = np.random.default_rng(seed)
    kind = np.arange(items) % len(KINDS)
    catalogue = pl.DataFrame(
        {
            "item_id": [f"i{item:03}" for item in range(items)],
            "title": [f"Title {item}" for item in range(items)],
            "creator": [f"Writer {item // 5}" for item in range(items)],
            "description": [None] * items,
            "language": ["en" if item % 3 else "de" for item in range(items)],
            "categories": [[KINDS[of]] for of in kind],
            "price": [None] * items,
            "text": [f"Title {item}" for item in range(items)],
        },
        schema=ITEM_SCHEMA,
    )
    rows = []
    for person in range(people):
        steady = person % 2 == 0
        mine = np.flatnonzero(kind == person // 2 % len(KINDS)) if steady else np.arange(items)
        rows += [(f"u{person:04}", f"i{item:03}", None, "rating", 5.0 if item % 2 else 2.0)
                 for item in rng.choice(mine, rng.integers(7, 15), replace=False)]  # fmt: skip
    events = pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")
    band = rng.choice(["under 25", "25-49", "50+"], people)
    users = pl.DataFrame(
        {
            "user_id": [f"u{person:04}" for person in range(people)],
            "taste": ["steady" if person % 2 == 0 else "roaming" for person in range(people)],
            "age": [None if person % 11 == 0 else band[person] for person in range(people)],
            "planet": ["earth"] * people,
        }
    )
    return Tables(items=catalogue, events=events, users=users)


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """The shop's folder; ``taste`` is sensitive."""
    folder = tmp_path_factory.mktemp("partners") / "shop"
    policy = UserPolicy(sensitive=("taste",), attributes=("taste", "age", "planet"))
    Vault.create(folder, PartnerConfig(name="shop", users=policy), shop_tables())
    return folder
