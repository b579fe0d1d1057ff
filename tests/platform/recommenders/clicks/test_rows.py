"""Click data: what is a label, what is a field, and what must not be one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.data import Tables
from koinon.errors import RecommenderError
from koinon.recommenders.clicks import click_data


def test_a_rating_above_the_bar_is_a_like_and_the_bar_itself_is_neither(cinema, clicks):
    decided = cinema.events.filter(pl.col("weight") != 3)
    parts = (clicks.train, clicks.validation, clicks.test)
    assert sum(map(len, parts)) == decided.height
    assert sum(part.label.sum() for part in parts) == (decided["weight"] > 3).sum()


def test_rows_are_cut_once_in_time_for_everybody(clicks):
    assert clicks.train.time.max() <= clicks.validation.time.min()
    assert clicks.validation.time.max() <= clicks.test.time.min()
    total = sum(map(len, (clicks.train, clicks.validation, clicks.test)))
    assert len(clicks.train) == pytest.approx(0.8 * total, abs=1)
    assert len(clicks.test) == pytest.approx(0.1 * total, abs=1)


def test_fields_are_ids_attributes_and_categories_and_nothing_that_happened(clicks):
    assert list(clicks.people.codes) == ["user", "age", "gender"]
    assert list(clicks.items.codes) == ["item", "categories"]  # one language, no creators: they tell nothing apart


def test_no_field_changes_with_ratings_times_or_rows_outside_training(cinema, clicks):
    late = pl.col("timestamp") > pl.lit(int(clicks.train.time.max())).cast(pl.Datetime("ms", "UTC"))
    flipped = cinema.events.with_columns(weight=pl.when(late).then(6 - pl.col("weight")).otherwise("weight"))
    other = click_data("cinema", Tables(cinema.items, flipped.cast({"weight": pl.Float32}), cinema.users))
    assert other.fingerprint == clicks.fingerprint
    assert (other.test.label != clicks.test.label).all()


def test_who_is_not_in_training_rows_is_unknown(clicks):
    known = np.unique(clicks.train.person)
    code = clicks.people.codes["user"][:, 0]
    assert (code[known] > 0).all()
    later = np.setdiff1d(np.unique(np.r_[clicks.test.person, clicks.validation.person]), known)
    assert len(later) > 0
    assert (code[later] == 0).all()
    assert (clicks.people.codes["age"][:, 0] > 0).all()


def test_a_value_that_training_rows_do_not_hold_is_unknown(cinema, clicks):
    stranger = clicks.people.ids[np.setdiff1d(clicks.test.person, clicks.train.person)[0]]
    aged = pl.when(pl.col("user_id") == stranger).then(pl.lit("immortal")).otherwise("age")
    other = click_data("cinema", Tables(cinema.items, cinema.events, cinema.users.with_columns(age=aged)))
    assert "immortal" not in other.people.values["age"]
    assert other.people.codes["age"][other.people.ids.index(stranger), 0] == 0


def test_several_categories_stand_side_by_side(clicks):
    codes, values = clicks.items.codes["categories"], clicks.items.values["categories"]
    assert codes.shape[1] == 2
    assert {values[code - 1] for code in codes[0]} == {"comedy", "shelf 0"}


def test_the_prompt_names_fields_in_words_but_no_ids(clicks):
    assert clicks.people.sentences[0] == "age is child, gender is male"
    assert clicks.items.sentences[1] == "title is drama film 1, categories are drama, shelf 1"


def test_a_column_can_be_left_out(cinema):
    without = click_data("cinema", cinema, without=["gender"])
    assert "gender" not in without.people.codes
    assert "gender" not in without.people.sentences[0]


def test_people_of_whom_no_table_tells_are_rows_of_unknown_attributes(cinema):
    nobody = Tables(cinema.items, cinema.events, cinema.users.head(30))
    assert (click_data("cinema", nobody).people.codes["age"][50:, 0] == 0).all()


def test_one_label_alone_is_refused(cinema):
    with pytest.raises(RecommenderError, match="label 0") as raised:
        click_data("cinema", cinema, liked_above=5)
    assert raised.value.code == "K421"


def test_events_without_times_are_refused(cinema):
    timeless = cinema.events.with_columns(timestamp=pl.lit(None, dtype=pl.Datetime("ms", "UTC")))
    with pytest.raises(RecommenderError) as raised:
        click_data("cinema", Tables(cinema.items, timeless, cinema.users))
    assert raised.value.code == "K420"


def test_too_few_events_are_refused(cinema):
    with pytest.raises(RecommenderError) as raised:
        click_data("cinema", Tables(cinema.items, cinema.events.head(3), cinema.users))
    assert raised.value.code in ("K420", "K421")
