"""Data sets of a study: how they are named, divided, and made to hold cold items."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.errors import ConfigError
from koinon.studies.paradigms import StudyConfig
from koinon.studies.paradigms.data import open_data, parse_spec, rows_of, sample_rows


def opened(text, **settings):
    return open_data(parse_spec(str(text)), StudyConfig(data=(str(text),), **settings))


def test_a_name_may_state_the_division():
    assert parse_spec("ml-100k").protocol is None
    spec = parse_spec("ml-100k@last")
    assert (spec.name, spec.base, spec.protocol) == ("ml-100k-last", "ml-100k", "leave-last-out")
    assert parse_spec("books-de").source == "books-de"


@pytest.mark.parametrize("text", ["no-such-set", "ml-100k@never", "books-xx", "/nowhere"])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError) as caught:
        parse_spec(text)
    assert caught.value.code == "K126"


def test_the_division_follows_from_times_and_order(timed_shop, untimed_shop):
    timed, untimed = opened(timed_shop), opened(untimed_shop)
    assert (timed.protocol, timed.ordered) == ("time", True)
    assert (untimed.protocol, untimed.ordered) == ("holdout", False)
    assert timed.clicks is not None
    assert untimed.clicks is None


@pytest.mark.parametrize("division", ["time", "holdout", "last"])
def test_every_division_withholds_the_same_items(timed_shop, division):
    prepared = opened(f"{timed_shop}@{division}", cold_items=0.2)
    split = prepared.split
    cold = np.flatnonzero(split.train.item_counts == 0)
    assert len(cold) >= 3
    withheld = np.setdiff1d(np.arange(split.train.n_items), np.unique(split.train.events.item))
    np.testing.assert_array_equal(cold, withheld)
    histories = split.test.history_items[: split.test.history_indptr[-1]]
    only_withheld = np.setdiff1d(cold, split.validation.target_items)
    assert not np.isin(only_withheld, histories).any()
    assert split.test.history_indptr[-1] == len(split.test.history_items)
    assert len(split.test.history_times) == len(split.test.history_items)


def test_the_draw_does_not_hang_on_where_a_folder_lies(timed_shop, tmp_path, monkeypatch):
    monkeypatch.chdir(timed_shop.parent)
    assert opened("shop@last").fingerprint == opened(f"{timed_shop}@last").fingerprint


def test_rows_keep_what_belongs_to_them(timed_shop):
    test = opened(timed_shop).split.test
    rows = np.array([5, 0, 3])
    some = rows_of(test, rows)
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(some.history(place), test.history(row))
        np.testing.assert_array_equal(some.targets(place), test.targets(row))
        assert some.user[place] == test.user[row]
    span = slice(test.history_indptr[5], test.history_indptr[6])
    np.testing.assert_array_equal(some.history_times[: len(test.history(5))], test.history_times[span])
    np.testing.assert_array_equal(some.history_marks.weight[: len(test.history(5))], test.history_marks.weight[span])


def test_a_sample_is_seeded_and_of_main_users_with_enough_history(timed_shop):
    test = opened(timed_shop).split.test
    rows = sample_rows(test, 6, seed=1, least=2)
    np.testing.assert_array_equal(rows, sample_rows(test, 6, seed=1, least=2))
    assert (np.diff(rows) > 0).all()
    assert all(test.main[row] and len(test.history(row)) >= 2 for row in rows)
    assert not np.array_equal(rows, sample_rows(test, 6, seed=2, least=2))


def test_caps_keep_what_is_taken_most(timed_shop):
    few = opened(timed_shop, max_items=20)
    assert few.split.train.n_items <= 20
