"""Laws that hold for every division of every partner's events."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.data import EvaluationSet, PartnerConfig, Split, SplitConfig, Tables, global_clock, make_split
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.data.vault import Vault
from koinon.errors import ConfigError, DataError

DAY = 86_400_000
CLOCK = {"validation_from": 60 * DAY, "test_from": 80 * DAY}
PROTOCOLS = ("time", "holdout", "leave-last-out")

pairs = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 14), st.integers(0, 100)), min_size=1, max_size=120)


def tables_of(rows: list[tuple[int, int, int]], *, timed: bool = True) -> Tables:
    """Tables of (user, item, day) rows."""
    events = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user, _, _ in rows],
            "item_id": [f"i{item}" for _, item, _ in rows],
            "timestamp": [day * DAY if timed else None for _, _, day in rows],
            "kind": ["rating"] * len(rows),
            "weight": [1.0] * len(rows),
        },
        schema=EVENT_SCHEMA | {"timestamp": pl.Int64()},
    )
    events = events.with_columns(pl.from_epoch("timestamp", "ms").dt.replace_time_zone("UTC")).cast(EVENT_SCHEMA)
    ids = sorted(set(events["item_id"].to_list()))
    items = pl.DataFrame(
        {"item_id": ids, "title": ids, "text": ids, "language": ["en"] * len(ids), "categories": [[]] * len(ids)}
    )
    missing = [pl.lit(None, kind).alias(name) for name, kind in ITEM_SCHEMA.items() if name not in items.columns]
    items = items.with_columns(missing).select(list(ITEM_SCHEMA)).cast(ITEM_SCHEMA)
    return Tables(items=items, events=events, users=events.select("user_id").unique().sort("user_id"))


def config_of(protocol: str, **changes: float) -> SplitConfig:
    return SplitConfig.from_dict(
        {"protocol": protocol, "minimum_item_events": 1, "cold_items": 0.2, **CLOCK, **changes}
    )


def split_or_none(rows: list[tuple[int, int, int]], config: SplitConfig, *, timed: bool = True) -> Split | None:
    try:
        return make_split("shop", tables_of(rows, timed=timed), config)
    except DataError as error:
        if error.code != "K252":
            raise
        return None


def digest(split: Split) -> str:
    """Everything a split says, as one hash."""
    parts: list[object] = [split.train.user_ids, tuple(split.train.items["item_id"]), split.cold_item.tolist()]
    parts += [split.train.events.user.tolist(), split.train.events.item.tolist()]
    for part in (split.validation, split.test):
        parts += [getattr(part, name).tolist() for name in ("user", "history_items", "target_items", "main")]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def train_pairs(split: Split) -> set[tuple[int, int]]:
    return set(zip(split.train.events.user.tolist(), split.train.events.item.tolist(), strict=True))


def target_pairs(part: EvaluationSet) -> set[tuple[int, int]]:
    return {(int(part.user[row]), int(item)) for row in range(len(part)) for item in part.targets(row)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_no_target_is_ever_seen_in_training(protocol: str, rows: list[tuple[int, int, int]]) -> None:
    split = split_or_none(rows, config_of(protocol))
    if split is not None:
        assert not train_pairs(split) & target_pairs(split.validation)
        assert not train_pairs(split) & target_pairs(split.test)
        assert not target_pairs(split.validation) & target_pairs(split.test)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_no_target_stands_in_its_own_history(protocol: str, rows: list[tuple[int, int, int]]) -> None:
    split = split_or_none(rows, config_of(protocol))
    if split is None:
        return
    for part in (split.validation, split.test):
        for row in range(len(part)):
            assert not set(part.history(row).tolist()) & set(part.targets(row).tolist())
            assert len(part.targets(row)) >= 1
            assert len(set(part.history(row).tolist())) == len(part.history(row))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_history_is_training_and_for_the_test_validation_too(protocol: str, rows: list[tuple[int, int, int]]) -> None:
    split = split_or_none(rows, config_of(protocol))
    if split is None:
        return
    validation = {
        int(user): set(split.validation.targets(row).tolist()) for row, user in enumerate(split.validation.user)
    }
    for row, user in enumerate(split.validation.user):
        np.testing.assert_array_equal(split.validation.history(row), split.train.history(int(user)))
    for row, user in enumerate(split.test.user):
        known = set(split.train.history(int(user)).tolist()) | validation.get(int(user), set())
        assert set(split.test.history(row).tolist()) == known


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_cold_items_have_no_training_event_and_the_others_have_one(
    protocol: str, rows: list[tuple[int, int, int]]
) -> None:
    split = split_or_none(rows, config_of(protocol))
    if split is not None:
        np.testing.assert_array_equal(split.train.item_counts == 0, split.cold_item)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(rows=pairs, order=st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_does_not_matter_beyond_time(
    protocol: str, rows: list[tuple[int, int, int]], order: object
) -> None:
    distinct = list({(user, day): (user, item, day) for user, item, day in rows}.values())
    distinct = list({(user, item): (user, item, day) for user, item, day in distinct}.values())
    shuffled = list(distinct)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (split_or_none(some, config_of(protocol)) for some in (distinct, shuffled))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert digest(first) == digest(second)


@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_time_keeps_one_clock_for_all(rows: list[tuple[int, int, int]]) -> None:
    split = split_or_none(rows, config_of("time"))
    if split is None:
        return
    assert split.train.events.time is not None
    assert split.validation.time is not None
    assert split.test.time is not None
    assert (split.train.events.time < CLOCK["validation_from"]).all()
    assert ((split.validation.time >= CLOCK["validation_from"]) & (split.validation.time < CLOCK["test_from"])).all()
    assert (split.test.time >= CLOCK["test_from"]).all()


@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_holdout_takes_one_event_of_each_kind_from_main_users(rows: list[tuple[int, int, int]]) -> None:
    split = split_or_none(rows, config_of("holdout", cold_items=0.0), timed=False)
    if split is None:
        return
    counts = np.bincount(split.events.user, minlength=split.train.n_users)
    main, two = np.flatnonzero(counts >= 3), np.flatnonzero(counts == 2)
    np.testing.assert_array_equal(split.validation.user, main)
    np.testing.assert_array_equal(split.test.user, np.flatnonzero(counts >= 2))
    np.testing.assert_array_equal(split.test.user[split.test.main], main)
    np.testing.assert_array_equal(np.diff(split.test.target_indptr), 1)
    lengths = dict(zip(split.test.user.tolist(), np.diff(split.test.history_indptr).tolist(), strict=True))
    assert all(lengths[user] == 1 for user in two.tolist())
    assert split.test.cold_user.tolist() == [lengths[user] <= 2 for user in split.test.user.tolist()]


@given(rows=pairs)
@settings(max_examples=40, deadline=None)
def test_leave_last_out_asks_for_the_last_event(rows: list[tuple[int, int, int]]) -> None:
    split = split_or_none(rows, config_of("leave-last-out"))
    if split is None:
        return
    assert split.events.time is not None
    assert split.test.time is not None
    times = {
        (user, item): time
        for user, item, time in zip(
            split.events.user.tolist(), split.events.item.tolist(), split.events.time.tolist(), strict=True
        )
    }
    for row, user in enumerate(split.test.user.tolist()):
        history = [times[user, item] for item in split.test.history(row).tolist()]
        target = times[user, int(split.test.targets(row)[0])]
        assert len(history) >= 2
        assert history == sorted(history)
        assert history[-1] <= target
        assert split.test.time[row] == history[-1]


def test_an_items_coldness_does_not_depend_on_the_other_items() -> None:
    few = tables_of([(user, item, user) for user in range(4) for item in range(20)])
    many = tables_of([(user, item, user) for user in range(4) for item in range(200)])
    config = config_of("holdout")
    cold = [
        {item for item, is_cold in zip(split.train.items["item_id"], split.cold_item, strict=True) if is_cold}
        for split in (make_split("shop", few, config), make_split("shop", many, config))
    ]
    shown = {f"i{item}" for item in range(20)}
    assert cold[0] == cold[1] & shown
    assert 20 <= len(cold[1]) <= 60


def test_the_partner_and_the_seed_change_the_division() -> None:
    tables = tables_of([(user, item, 0) for user in range(12) for item in range(15)], timed=False)
    base = digest(make_split("shop", tables, config_of("holdout")))
    assert base != digest(make_split("other", tables, config_of("holdout")))
    assert base != digest(make_split("shop", tables, config_of("holdout", seed=8)))


def test_repeated_events_count_once_at_their_first_time() -> None:
    rows = [(0, 0, 1), (0, 0, 70), (0, 0, 90), (0, 1, 2), (0, 2, 90), (1, 0, 3)]
    split = make_split("shop", tables_of(rows), config_of("time", cold_items=0.0))
    assert len(split.events) == 4
    assert len(split.validation) == 0
    assert split.test.targets(0).tolist() == [2]


def test_items_below_the_minimum_leave_the_catalogue() -> None:
    rows = [(0, 0, 1), (0, 0, 5), (1, 1, 2), (2, 1, 3)]
    split = make_split("shop", tables_of(rows), config_of("holdout", minimum_item_events=2))
    assert split.train.items["item_id"].to_list() == ["i1"]
    assert split.train.user_ids == ("u1", "u2")


def test_two_processes_derive_the_same_split() -> None:
    program = (
        "from test_split_laws import *\n"
        "rows = [(u, i, u + i) for u in range(12) for i in range(15) if (u * i) % 4]\n"
        "print([digest(make_split('shop', tables_of(rows), config_of(p))) for p in PROTOCOLS])"
    )
    answers = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.path.dirname(__file__)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        answers.add(done.stdout)
    assert len(answers) == 1


class TestGlobalClock:
    def test_takes_the_quantiles_of_all_partners_events(self) -> None:
        early = tables_of([(0, day, day) for day in range(10)]).events
        late = tables_of([(0, day, day) for day in range(10, 100)]).events
        untimed = tables_of([(0, 0, 0)], timed=False).events
        assert global_clock([early, late, untimed]) == (80 * DAY, 90 * DAY)

    def test_without_times_there_is_none(self) -> None:
        with pytest.raises(DataError, match="K250"):
            global_clock([tables_of([(0, 0, 0)], timed=False).events])

    def test_events_at_one_moment_set_none(self) -> None:
        with pytest.raises(DataError, match="K253"):
            global_clock([tables_of([(0, item, 5) for item in range(9)]).events])

    def test_refuses_quantiles_out_of_order(self) -> None:
        with pytest.raises(DataError, match="K253"):
            global_clock([], validation=0.9, test=0.8)


class TestRefusals:
    def test_auto_goes_by_the_times(self) -> None:
        rows = [(user, item, item) for user in range(3) for item in range(100)]
        timed = make_split("shop", tables_of(rows), config_of("auto"))
        untimed = make_split("shop", tables_of(rows, timed=False), config_of("auto"))
        assert timed.test.time is not None
        assert untimed.test.time is None

    def test_time_needs_a_clock(self) -> None:
        with pytest.raises(DataError, match=r"K250.*clock"):
            make_split("shop", tables_of([(0, 0, 0)]), SplitConfig(minimum_item_events=1))

    def test_time_needs_times(self) -> None:
        with pytest.raises(DataError, match="K250"):
            make_split("shop", tables_of([(0, 0, 0)], timed=False), config_of("time"))

    def test_some_times_missing_is_refused(self) -> None:
        tables = tables_of([(0, 0, 0), (0, 1, 1)])
        timestamp = pl.when(pl.col("item_id") == "i0").then("timestamp").alias("timestamp")
        with pytest.raises(DataError, match=r"K251.*1 of 2"):
            make_split(
                "shop", Tables(tables.items, tables.events.with_columns(timestamp), tables.users), config_of("auto")
            )

    def test_an_empty_catalogue_is_refused(self) -> None:
        with pytest.raises(DataError, match="K252"):
            make_split("shop", tables_of([(0, 0, 0)]), config_of("holdout", minimum_item_events=2))


def test_a_vault_gives_the_same_split_as_the_tables_it_was_made_from(tmp_path: Path) -> None:
    tables = tables_of([(user, item, (user + item) % 9) for user in range(9) for item in range(9)])
    vault = Vault.create(tmp_path, PartnerConfig(name="shop"), tables)
    for protocol in PROTOCOLS:
        config = config_of(protocol, validation_from=4 * DAY, test_from=6 * DAY)
        assert digest(make_split("shop", tables, config)) == digest(make_split("shop", vault.tables(), config))


def test_a_clock_out_of_order_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"K103.*before test_from"):
        config_of("time", validation_from=5, test_from=5)
    with pytest.raises(ConfigError, match=r"K103.*together"):
        SplitConfig.from_dict({"validation_from": 5})
