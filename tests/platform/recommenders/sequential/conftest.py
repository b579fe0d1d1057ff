"""Sequences in which order is everything: what comes next depends on the last item alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
import torch

from koinon.data import Domain, Interactions, Split, SplitConfig, Tables, make_split
from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA

ITEMS, USERS, LENGTH = 60, 320, 14


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products on one thread: on a busy machine the second costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def chains() -> Split:
    """Most steps go from an item to its one successor, a third anywhere; the last two events are held out."""
    rng = np.random.default_rng(5)
    successor = rng.permutation(ITEMS)
    rows = []
    for user in range(USERS):
        visited = [int(rng.integers(ITEMS))]
        while len(visited) < LENGTH:
            following = int(successor[visited[-1]])
            if following in visited or rng.random() < 0.3:
                following = int(rng.choice(np.setdiff1d(np.arange(ITEMS), visited)))
            visited.append(following)
        start = 1_600_000_000_000 + user * 60_000
        rows += [(f"u{user:03d}", f"i{item:02d}", start + 3_600_000 * n) for n, item in enumerate(visited)]
    events = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "timestamp": [time for _, _, time in rows],
            "kind": ["visit"] * len(rows),
            "weight": [1.0] * len(rows),
        }
    ).with_columns(pl.col("timestamp").cast(EVENT_SCHEMA["timestamp"]), pl.col("weight").cast(pl.Float32))
    names = [f"i{item:02d}" for item in range(ITEMS)]
    items = item_table(names, names, [f"place {name}" for name in names])
    users = pl.DataFrame({"user_id": [f"u{user:03d}" for user in range(USERS)]})
    config = SplitConfig(protocol="leave-last-out", cold_items=0.0, minimum_item_events=1)
    return make_split("chains", Tables(items, events, users), config)


@pytest.fixture(scope="session")
def make_domain():
    """Return a function that makes a domain of histories ``[(items, times or None), …]``."""

    def make(histories, items: int = 12) -> Domain:
        names = [f"i{item:02d}" for item in range(items)]
        user = np.repeat(np.arange(len(histories)), [len(taken) for taken, _ in histories]).astype(np.int32)
        item = np.concatenate([np.asarray(taken, dtype=np.int32) for taken, _ in histories])
        timed = all(times is not None for _, times in histories)
        time = np.concatenate([np.asarray(times, dtype=np.int64) for _, times in histories]) if timed else None
        people = tuple(f"u{n}" for n in range(len(histories)))
        return Domain("tiny", item_table(names, names, names), people, Interactions(user, item, time))

    return make
