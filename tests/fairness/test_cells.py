"""Groups: who is in which, who is unknown, what is hidden, and the errors for what cannot be divided."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.errors import EvaluationError
from koinon.fairness.cells import activity, cross, divide
from koinon.fairness.plan import GroupPlan


def series(**sizes):
    values = [None if name == "missing" else name for name, size in sizes.items() for _ in range(size)]
    return pl.Series(values, dtype=pl.String)


def grouping(people, minimum=20, declared=None, **plan):
    return divide(GroupPlan.from_dict({"name": "g", **plan}), people, declared, minimum)


def test_unknown_people_are_counted_and_in_no_cell():
    found = grouping(series(a=30, b=40, missing=10))
    assert found.labels == ("a", "b")
    assert found.unknown == 10
    assert (found.cell[-10:] == -1).all()
    assert found.sizes.tolist() == [30, 40]
    assert found.complete


@pytest.mark.parametrize("word", ["", "  ", "unknown", "Unknown"])
def test_empty_and_unknown_words_are_no_values(word):
    values = pl.concat([series(a=30, b=30), pl.Series([word] * 5)])
    assert grouping(values).unknown == 5


@pytest.mark.parametrize(
    ("values", "code"),
    [(series(a=90), "K522"), (series(a=4, b=5, missing=95), "K523"), (series(a=90, b=5), "K524")],
)
def test_what_cannot_be_divided_is_refused(values, code):
    with pytest.raises(EvaluationError, match=code):
        grouping(values)


def test_small_groups_are_put_together_where_the_plan_says_so():
    found = grouping(series(a=90, b=12, c=13), small="pool")
    assert found.labels == ("a", "small groups together")
    assert found.pooled == ("b", "c")
    assert found.sizes.tolist() == [90, 25]


def test_a_single_small_group_takes_the_next_smallest_with_it():
    found = grouping(series(a=90, b=40, c=13), small="pool")
    assert found.pooled == ("b", "c")
    assert found.sizes.tolist() == [90, 53]
    assert found.complete


def test_a_tiny_group_that_nobody_measured_is_of_is_with_the_small_ones_and_a_large_one_has_vanished():
    declared = series(a=90, b=12, c=13, tiny=3, large=50)
    found = grouping(series(a=90, b=12, c=13), small="pool", declared=declared)
    assert found.pooled == ("b", "c", "tiny")
    assert found.vanished == ("large",)


def test_a_hidden_group_hides_another_so_that_the_total_does_not_tell_it():
    found = grouping(series(a=90, b=30, c=5), small="withhold")
    assert dict(zip(found.labels, found.hidden.tolist(), strict=True)) == {"a": False, "b": True, "c": True}
    assert not found.complete


def test_merging_and_a_natural_order():
    values = pl.Series(["under 18"] * 25 + ["18-24"] * 25 + ["100+"] * 25 + ["25-34"] * 25)
    found = grouping(values, merge={"under 25": ["under 18", "18-24"]})
    assert found.labels == ("under 25", "25-34", "100+")


def test_a_declared_or_demanded_group_without_anybody_has_vanished():
    found = grouping(series(a=30, b=30), declared=series(a=30, b=30, c=4), values=["d"])
    assert found.vanished == ("c", "d")
    assert not found.complete


def test_crossed_small_cells_cannot_be_worked_out_from_the_single_groups():
    rng = np.random.default_rng(0)
    first = grouping(pl.Series(rng.choice(["x", "y"], 600, p=[0.3, 0.7])), name="one")
    second = grouping(pl.Series(rng.choice(["a", "b", "c", "d"], 600, p=[0.05, 0.25, 0.3, 0.4])), name="two")
    found = cross([first, second], 20)
    assert found.name == "one*two"
    table = {label: (size, hidden) for label, size, hidden in zip(found.labels, found.sizes, found.hidden, strict=True)}
    assert table["x × a"][1]
    for part in ("x", "y", "a", "b", "c", "d"):
        mine = [hidden for label, (_, hidden) in table.items() if part in label.split(" × ")]
        assert sum(mine) != 1
    assert all(size >= 20 for size, hidden in table.values() if not hidden)
    assert not found.vanished


def test_a_combination_of_declared_people_that_nobody_measured_is_in_has_vanished():
    one, two = pl.Series(["x", "x", "y", "y"] * 30), pl.Series(["a", "b", "a", "b"] * 30)
    asked = [row for row in range(120) if row % 4]  # nobody who is x and a
    parts = [grouping(column[asked], declared=column, name=name) for name, column in (("one", one), ("two", two))]
    assert cross(parts, 20).vanished == ("x × a",)


def test_activity_is_said_in_words():
    assert activity(np.array([0, 9, 10, 49, 50]), [10, 50]).to_list() == [
        "fewer than 10", "fewer than 10", "10 to 49", "10 to 49", "50 and more",
    ]  # fmt: skip
