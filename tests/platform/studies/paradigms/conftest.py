"""A small shop with times, likes and topics as a partner's folder; and small results of a study."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA

TOPICS, ITEMS, USERS = 4, 48, 90
SUBJECTS = ("the dark forest", "a red rose", "war and peace", "the little cat")


def shop_tables(seed: int = 3) -> Tables:
    """People keep mostly to one topic and like what is of it."""
    rng = np.random.default_rng(seed)
    topic = np.arange(ITEMS) % TOPICS
    rows = []
    for user in range(USERS):
        liking = np.where(topic == user % TOPICS, 12.0, 1.0) / (1 + np.arange(ITEMS) // TOPICS)
        taken = rng.choice(ITEMS, size=int(rng.integers(8, 16)), replace=False, p=liking / liking.sum())
        begun = rng.integers(0, 30 * 86_400_000)
        for place, item in enumerate(taken):
            likes = (topic[item] == user % TOPICS) != (rng.random() < 0.15)
            rows.append(
                (f"u{user:02d}", f"i{item:02d}", 1_600_000_000_000 + int(begun) + place * 3 * 86_400_000, likes)
            )
    events = pl.DataFrame(
        {
            "user_id": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "timestamp": pl.Series([row[2] for row in rows]).cast(pl.Datetime("ms", "UTC")),
            "kind": ["rating"] * len(rows),
            "weight": [5.0 if row[3] else 1.0 for row in rows],
        },
        schema=EVENT_SCHEMA,
    )
    titles = [f"The {SUBJECTS[topic[item]]} {item}" for item in range(ITEMS)]
    items = pl.DataFrame(
        {
            "item_id": [f"i{item:02d}" for item in range(ITEMS)],
            "title": titles,
            "creator": [None] * ITEMS,
            "description": [None] * ITEMS,
            "language": ["en"] * ITEMS,
            "categories": [[f"kind{topic[item]}"] for item in range(ITEMS)],
            "price": [None] * ITEMS,
            "text": titles,
        },
        schema=ITEM_SCHEMA,
    )
    users = pl.DataFrame({"user_id": [f"u{user:02d}" for user in range(USERS)]})
    return Tables(items, events, users)


@pytest.fixture(scope="session")
def timed_shop(tmp_path_factory):
    """The folder of a partner `shop` whose events have times and weights."""
    folder = tmp_path_factory.mktemp("partners") / "shop"
    Vault.create(folder, PartnerConfig.model_validate({"name": "shop", "catalogue": "public"}), shop_tables())
    return folder


@pytest.fixture(scope="session")
def untimed_shop(tmp_path_factory):
    """The same without times: the folder of a partner `corner`."""
    tables = shop_tables()
    plain = tables.events.with_columns(pl.lit(None, dtype=pl.Datetime("ms", "UTC")).alias("timestamp"))
    folder = tmp_path_factory.mktemp("partners") / "corner"
    config = PartnerConfig.model_validate({"name": "corner", "catalogue": "public"})
    Vault.create(folder, config, Tables(tables.items, plain, tables.users))
    return folder
