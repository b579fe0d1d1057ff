"""Item-to-item recall."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from koinon.data import SplitConfig, Tables, make_split
from koinon.data.tables import EVENT_SCHEMA
from koinon.recommenders.serial.notellm import ItemPairs, co_occurrences, held_out_pairs, item_recall
from koinon.recommenders.serial.notellm.recall import by_user

from .conftest import coloured_shop, domain_of

NOTHING = csr_matrix((4, 4), dtype=np.bool_)
LINE = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]], dtype=np.float32)


def pairs_of(*pairs):
    users, queries, targets = zip(*pairs, strict=True)
    return ItemPairs(*(np.array(side, dtype=np.int32) for side in (users, queries, targets)))


def test_the_nearest_but_itself_count():
    hits = item_recall(LINE, pairs_of((0, 0, 1), (0, 0, 2), (1, 0, 3)), NOTHING, k=(1, 2))
    assert hits[1].tolist() == [1, 0, 0]
    assert hits[2].tolist() == [1, 1, 0]


def test_what_goes_together_in_training_is_no_candidate():
    together = csr_matrix(([True, True], ([0, 1], [1, 0])), shape=(4, 4))
    assert item_recall(LINE, pairs_of((0, 0, 2)), together, k=(1,))[1].tolist() == [1]


def test_ties_count_by_expectation():
    same = np.ones((4, 1), dtype=np.float32)
    assert item_recall(same, pairs_of((0, 0, 2)), NOTHING, k=(1, 2))[1][0] == 1 / 3
    assert item_recall(same, pairs_of((0, 0, 2)), NOTHING, k=(2,), candidates=np.array([1, 2]))[2][0] == 1


def test_people_count_alike():
    pairs = pairs_of((3, 0, 1), (3, 0, 2), (5, 0, 3))
    assert by_user(np.array([1.0, 0.0, 1.0]), pairs).tolist() == [0.5, 1.0]


def test_held_out_pairs_are_new_and_capped():
    import polars as pl

    texts, taken = coloured_shop()
    domain = domain_of(texts, taken)
    events = pl.DataFrame(
        {
            "user_id": [f"u{n:03}" for n, some in enumerate(taken) for _ in some],
            "item_id": [f"i{one:03}" for some in taken for one in some],
            "timestamp": None,
            "kind": "event",
            "weight": 1.0,
        }
    ).cast(dict(EVENT_SCHEMA))
    people = events.select("user_id").unique()
    split = make_split("shop", Tables(domain.items, events, people), SplitConfig(protocol="holdout", cold_items=0.1))
    pairs = co_occurrences(split.train)
    found = held_out_pairs(split.train, split.test, pairs.together, per_user=2, seed=1)
    assert len(found) > 0
    assert np.bincount(found.user).max() <= 2
    assert not np.asarray(pairs.together[found.query, found.target]).any()
    assert not (found.query == found.target).any()
    few = held_out_pairs(split.train, split.test, pairs.together, users=5, seed=1)
    assert len(np.unique(few.user)) <= 5
