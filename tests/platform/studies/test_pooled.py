"""The pooled ceiling: one person at two shops is one person, and nothing held out is known."""

import numpy as np
import polars as pl
import pytest

from koinon.data import SplitConfig, Tables, make_split
from koinon.data.tables import EVENT_SCHEMA
from koinon.studies.pooled import Joined, Pool, evaluate_pooled, training, tune_pooled, until_test


@pytest.fixture(scope="module")
def two_shops(shop_tables):
    """One shop cut into two by item, so that every reader is at both, and some works are listed by both."""
    splits = {}
    for name, first, last in (("north", 0, 55), ("south", 45, 90)):
        items = shop_tables.items[first:last]
        events = shop_tables.events.filter(pl.col("item_id").is_in(items["item_id"].to_list()))
        tables = Tables(items, events.cast(EVENT_SCHEMA), shop_tables.users)
        config = SplitConfig(protocol="holdout", minimum_item_events=1)
        splits[name] = make_split(name, tables, config)
    return splits


@pytest.fixture(scope="module")
def pool(two_shops, word_space):
    return Pool(two_shops, word_space)


def test_people_are_merged_by_id_and_works_by_identity(pool, two_shops):
    north, south = (two_shops[name].train for name in ("north", "south"))
    shared = sorted(set(north.user_ids) & set(south.user_ids))
    rows = [pool.person[name][[split.train.user_index[user] for user in shared]] for name, split in two_shops.items()]
    assert np.array_equal(*rows)
    both = sorted(set(north.item_index) & set(south.item_index))
    works = [pool.work[name][[split.train.item_index[item] for item in both]] for name, split in two_shops.items()]
    assert np.array_equal(*works)


def test_what_a_person_did_elsewhere_joins_the_history_and_is_never_ranked(pool, two_shops):
    joined = Joined(pool, "north", elsewhere=True)
    own = two_shops["north"]
    assert joined.listed == own.train.n_items
    assert joined.split.train.n_items > joined.listed
    assert len(joined.split.train.events) > len(own.train.events)
    assert (joined.split.test.history_items >= joined.listed).any()
    assert (joined.split.test.target_items < joined.listed).all()
    assert np.array_equal(joined.split.test.target_items, own.test.target_items)


def test_no_held_out_event_of_its_own_is_known(pool, two_shops):
    joined = Joined(pool, "north", elsewhere=True)
    for part in ("validation", "test"):
        asked = getattr(joined.split, part)
        for row in range(len(asked)):
            assert not set(asked.targets(row).tolist()) & set(asked.history(row).tolist())
    split = two_shops["north"]
    known = until_test(split)
    tested = {(int(split.test.user[r]), int(i)) for r in range(len(split.test)) for i in split.test.targets(r)}
    assert not tested & set(zip(known.row.tolist(), known.item.tolist(), strict=True))
    assert len(training(split).row) < len(known.row)


def test_without_it_other_peoples_events_still_count(pool):
    apart = Joined(pool, "north", elsewhere=False)
    assert apart.split.train.n_items == apart.listed
    assert apart.others.gram.diagonal().sum() > 0


def test_it_is_tuned_and_measured_for_every_partner(two_shops, word_space):
    seen = []
    found = evaluate_pooled(two_shops, word_space, seed=3, on_partner=lambda name, _: seen.append(name))
    assert list(found) == seen == ["north", "south"]
    for name, (evaluation, validation) in found.items():
        assert 0 < validation < 1
        assert len(evaluation.values()) == int(two_shops[name].test.main.sum())
        assert 0 < evaluation.mean() < 1


def test_a_stated_start_is_where_tuning_begins(pool, word_space):
    chosen = tune_pooled(pool, "south", word_space, start=None, seed=1)
    assert chosen.model.config.lambda_ > 0
