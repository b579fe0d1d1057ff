"""What may be learned from before the test, and the published protocol's clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from koinon.data import SplitConfig, Tables, make_split
from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA
from koinon.evaluation import evaluate, requests_of
from koinon.recommenders import Recommender
from koinon.recommenders.sequential import HSTUConfig
from koinon.recommenders.training import TRAINABLE, at_target_times, build, config_type, known_before_test, train

CONFIGS = sorted((Path(__file__).parents[3] / "bench" / "configs").glob("*.toml"))


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(1)
    names = [f"i{n:02d}" for n in range(15)]
    events = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in range(9) for _ in range(5)],
            "item_id": [names[item] for _ in range(9) for item in rng.permutation(15)[:5]],
            "timestamp": rng.permutation(45) * 1_000_000,
            "kind": ["visit"] * 45,
            "weight": [1.0] * 45,
        }
    ).cast(dict(EVENT_SCHEMA))
    people = pl.DataFrame({"user_id": [f"u{user}" for user in range(9)]})
    config = SplitConfig(protocol="leave-last-out", minimum_item_events=1)
    return make_split("nine", Tables(item_table(names, names, names), events, people), config)


def pairs(user, items):
    return set(zip(user.tolist(), items.tolist(), strict=True))


def test_before_the_test_everything_but_the_test_is_known(split):
    known = known_before_test(split).events
    tested = pairs(np.repeat(split.test.user, np.diff(split.test.target_indptr)), split.test.target_items)
    assert pairs(known.user, known.item) == pairs(split.events.user, split.events.item) - tested
    assert len(known) == len(split.events) - len(tested)
    same_user = np.diff(known.user) == 0
    assert (np.diff(known.time)[same_user] >= 0).all()


def test_the_published_clock_is_the_targets_own_time_and_later_than_the_honest_one(split):
    published = at_target_times(split, split.test)
    for row in range(len(published)):
        own = split.events.user == published.user[row]
        assert published.time[row] == split.events.time[own].max()
        assert published.time[row] > split.test.time[row]


@pytest.mark.parametrize("published", [True, False])
def test_training_stops_early_by_the_clock_it_is_told(split, published):
    config = HSTUConfig(epochs=2, width=8, length=10)
    trained = train("hstu", config, split, None, again=False, published=published)
    asked = at_target_times(split, split.validation) if published else split.validation
    value = evaluate(trained.recommender, split.train, asked, slices=("all",)).mean()
    assert trained.report["validation"]["ndcg@10"] == pytest.approx(value)


def test_requests_say_when_each_event_of_their_history_happened(split):
    for request in requests_of(split.test):
        own = split.events.user == request.user
        when = dict(zip(split.events.item[own].tolist(), split.events.time[own].tolist(), strict=True))
        assert request.times.tolist() == [when[item] for item in request.history.tolist()]
        assert request.time == request.times.max()


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_trainable_recommender_is_built_from_its_settings(name):
    model = build(name, config_type(name)())
    assert isinstance(model, Recommender)
    assert model.name == name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_kept_configurations_are_valid(path):
    name = next(name for name in TRAINABLE if f"--recommender {name} " in path.read_text())
    config_type(name).from_toml(path)
