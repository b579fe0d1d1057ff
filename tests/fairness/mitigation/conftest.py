"""A tiny domain and a recommender whose scores are written down."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.data import Domain, Interactions
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked


class Told(Ranked):
    """Scores every user as a table ``[users, items]`` says."""

    name = "told"

    def __init__(self, table):
        self.table = np.asarray(table, dtype=np.float32)

    def fit(self, domain, space, *, rng):
        return self

    def score(self, requests, candidates=None):
        rows = self.table[[request.user for request in requests]]
        return rows if candidates is None else rows[:, candidates]


def domain_of(histories, items):
    """People ``p0 ...`` with these histories, over ``items`` items."""
    user = np.repeat(np.arange(len(histories)), [len(one) for one in histories]).astype(np.int32)
    item = np.array([i for one in histories for i in one], dtype=np.int32)
    catalogue = pl.DataFrame({"item_id": [f"i{i}" for i in range(items)], "text": [f"t{i}" for i in range(items)]})
    return Domain("tiny", catalogue, tuple(f"p{u}" for u in range(len(histories))), Interactions(user, item))


def asking(domain, users=None):
    return [Request(domain.history(u), u) for u in (range(domain.n_users) if users is None else users)]


@pytest.fixture
def tiny():
    return domain_of([[0], [1], [0, 1], [2]], 6)
