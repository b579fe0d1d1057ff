"""A small shop with topics, a space that knows words, and the shop's split: enough to learn from, and quick."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest

from koinon.data import SplitConfig, Tables, make_split
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA

TOPICS, ITEMS, USERS = 6, 90, 240


class WordSpace:
    """A text's vector is the sum of its words' fixed random vectors: texts that share words are near."""

    dimension = 32
    fingerprint = "words-32"

    def encode(self, texts):
        vectors = np.stack([sum(self._word(word) for word in text.lower().split()) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def _word(self, word):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).normal(size=self.dimension)


@pytest.fixture(scope="session")
def word_space():
    return WordSpace()


@pytest.fixture(scope="session")
def shop_tables():
    """Readers keep mostly to one topic; popular items come first within each."""
    rng = np.random.default_rng(11)
    topic = np.arange(ITEMS) % TOPICS
    rows = []
    for user in range(USERS):
        liking = np.where(topic == user % TOPICS, 12.0, 1.0) / (1 + np.arange(ITEMS) // TOPICS)
        taken = rng.choice(ITEMS, size=int(rng.integers(2, 12)), replace=False, p=liking / liking.sum())
        rows += [(f"u{user:03d}", f"i{item:02d}") for item in taken]
    events = pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_id": [item for _, item in rows],
            "timestamp": [None] * len(rows),
            "kind": ["rating"] * len(rows),
            "weight": [1.0] * len(rows),
        },
        schema=EVENT_SCHEMA,
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{item:02d}" for item in range(ITEMS)],
            "title": [f"Title {item}" for item in range(ITEMS)],
            "creator": [None] * ITEMS,
            "description": [None] * ITEMS,
            "language": ["en"] * ITEMS,
            "categories": [[] for _ in range(ITEMS)],
            "price": [None] * ITEMS,
            "text": [f"topic{topic[item]} subject{topic[item]} title{item}" for item in range(ITEMS)],
        },
        schema=ITEM_SCHEMA,
    )
    users = pl.DataFrame({"user_id": [f"u{user:03d}" for user in range(USERS)]})
    return Tables(items, events, users)


@pytest.fixture(scope="session")
def shop(shop_tables):
    """The shop's split: one validation and one test item per reader, a tenth of the catalogue cold."""
    return make_split("shop", shop_tables, SplitConfig(protocol="holdout", cold_items=0.1, minimum_item_events=1))
