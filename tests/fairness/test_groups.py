"""The group table: means, gaps with intervals, small groups suppressed, unknowns counted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.errors import EvaluationError
from koinon.fairness import UNKNOWN, group_table


def population(**groups):
    """Users of groups ``name=(number, mean)``; values scatter around the mean."""
    rng = np.random.default_rng(4)
    rows, value = [], []
    for name, (number, mean) in groups.items():
        rows += [None if name == UNKNOWN else name] * number
        value += list(mean + rng.normal(0, 0.05, number))
    ids = [f"u{i}" for i in range(len(rows))]
    per_user = pl.DataFrame({"slice": ["all"] * len(ids), "user": np.arange(len(ids)), "ndcg@10": value})
    users = pl.DataFrame(
        {"user_id": ids[::-1], "gender": rows[::-1]}, schema={"user_id": pl.String, "gender": pl.String}
    )
    return per_user, users, ids


def table_of(minimum=20, **groups):
    per_user, users, ids = population(**groups)
    return group_table(per_user, users, ["gender"], user_ids=ids, minimum=minimum).rows_by_key(
        "group", named=True, unique=True
    )


def test_a_group_that_is_served_worse_has_a_gap_clear_of_zero():
    table = table_of(m=(300, 0.5), f=(100, 0.4))
    assert table["f"]["n"] == 100
    assert table["f"]["mean"] == pytest.approx(0.4, abs=0.02)
    assert table["f"]["gap"] == pytest.approx(-0.1, abs=0.02)
    assert table["f"]["gap_hi"] < 0 < table["m"]["gap_lo"]
    assert table["f"]["lo"] < table["f"]["mean"] < table["f"]["hi"]


def test_groups_served_alike_have_a_gap_whose_interval_holds_zero():
    per_user, users, ids = population(m=(300, 0.5), f=(300, 0.5))
    alike = per_user.with_columns(pl.Series("ndcg@10", np.tile(per_user["ndcg@10"].head(300), 2)))
    table = group_table(alike, users, ["gender"], user_ids=ids)
    assert table["gap"].abs().max() < 1e-12
    assert table["gap_lo"].max() < 0 < table["gap_hi"].min()


def test_unknowns_are_counted_and_are_in_no_gap():
    table = table_of(m=(50, 0.5), f=(50, 0.5), unknown=(40, 0.9))
    assert table[UNKNOWN]["n"] == 40
    assert table[UNKNOWN]["gap"] is None
    assert abs(table["m"]["gap"]) < 0.05


def test_a_small_group_is_not_told_nor_can_it_be_worked_out():
    table = table_of(minimum=20, a=(300, 0.5), b=(60, 0.4), c=(5, 0.0))
    for name in ("b", "c"):
        assert table[name]["suppressed"]
        assert table[name]["n"] is None
        assert table[name]["mean"] is None
        assert "fewer than 20" in table[name]["note"]
    assert table["a"]["n"] == 300
    assert table["a"]["gap"] is None


def test_two_small_groups_hide_each_other():
    table = table_of(a=(300, 0.5), b=(60, 0.4), c=(5, 0.0), d=(3, 0.0))
    assert not table["b"]["suppressed"]
    without = table_of(a=(300, 0.5), b=(60, 0.4))
    assert table["a"]["gap"] == pytest.approx(without["a"]["gap"], abs=0.01)


def test_only_the_slice_asked_for_is_read_and_the_seed_decides_the_interval():
    per_user, users, ids = population(m=(60, 0.5), f=(60, 0.5))
    other = per_user.with_columns(pl.lit("cold_items").alias("slice"), pl.lit(9.0).alias("ndcg@10"))
    both = pl.concat([per_user, other])
    first = group_table(both, users, ["gender"], user_ids=ids, seed=1)
    assert first["mean"].max() < 1
    assert first.equals(group_table(per_user, users, ["gender"], user_ids=ids, seed=1))


def test_a_column_that_is_not_there_is_named():
    per_user, users, ids = population(m=(60, 0.5))
    with pytest.raises(EvaluationError, match=r"K512.*'age'"):
        group_table(per_user, users, ["age"], user_ids=ids)
    with pytest.raises(EvaluationError, match="K513"):
        group_table(per_user, users, ["gender"], user_ids=ids, minimum=0)


def test_nobody_gives_an_empty_table():
    per_user, users, ids = population(m=(60, 0.5))
    assert group_table(per_user.head(0), users, ["gender"], user_ids=ids).height == 0
