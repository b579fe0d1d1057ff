"""What is asked of a fitted arm."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.evaluation import evaluate
from koinon.recommenders.conventional import EASE, Popularity
from koinon.recommenders.protocol import Request
from koinon.studies.paradigms import StudyConfig, memory
from koinon.studies.paradigms.data import open_data, parse_spec, rows_of
from koinon.studies.paradigms.measures import Answered, accuracy, latency, lists_of, overlap, strangers


@pytest.fixture(scope="module")
def study(timed_shop):
    return StudyConfig(data=(str(timed_shop),), cold_items=0.1)


@pytest.fixture(scope="module")
def prepared(timed_shop, study):
    return open_data(parse_spec(str(timed_shop)), study)


@pytest.fixture(scope="module")
def ease(prepared):
    return EASE().fit(prepared.known, None, rng=np.random.default_rng(0))


def test_answers_are_handed_out_as_they_were_given(prepared, ease):
    asked = prepared.split.test
    answered = Answered.by(ease, asked, prepared.known.n_items)
    direct, again = (evaluate(model, prepared.known, asked, slices=("all", "long_tail")) for model in (ease, answered))
    assert direct.per_user.equals(again.per_user)
    some = rows_of(asked, [2, 1])
    assert lists_of(answered, prepared.known.n_items, some, 5).shape == (2, 5)


def test_accuracy_is_the_evaluation_s_and_adds_miscalibration(prepared, ease):
    per_user, catalogue, lists = accuracy(ease, prepared, prepared.split.test, None, 10)
    direct = evaluate(ease, prepared.known, prepared.split.test)
    everybody = per_user.filter(pl.col("slice") == "all")
    np.testing.assert_allclose(everybody["ndcg@10"], direct.values())
    values = everybody["miscalibration@10"].to_numpy()
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert (values <= 1).all()
    assert len(lists) == everybody.height
    assert 0 < catalogue["coverage@10"] <= 1
    assert per_user.filter(pl.col("slice") == "cold_among_cold").height > 0


def test_a_list_of_one_s_own_kinds_is_better_calibrated_than_what_is_popular(prepared, ease):
    popular = Popularity().fit(prepared.known, None, rng=np.random.default_rng(0))
    means = []
    for model in (ease, popular):
        per_user, _, _ = accuracy(model, prepared, prepared.split.test, None, 10)
        means.append(float(np.nanmean(per_user["miscalibration@10"].to_numpy())))
    assert means[0] < means[1]


class Watching:
    """Notes what it is asked."""

    name = "watching"

    def __init__(self, items):
        self.items, self.seen = items, []

    def score(self, requests, candidates=None):
        self.seen += requests
        return np.zeros((len(requests), self.items), dtype=np.float32)


def test_a_stranger_has_no_account_and_the_latest_events_alone(prepared, study):
    watching = Watching(prepared.known.n_items)
    found = strangers(watching, prepared, study)
    assert set(found["slice"]) == {"stranger_1", "stranger_3", "stranger_5"}
    assert all(request.user is None for request in watching.seen)
    assert {len(request.history) for request in watching.seen} == {1, 3, 5}
    assert all(len(request.times) == len(request.marks) == len(request.history) for request in watching.seen)
    sizes = found.group_by("slice").len()["len"].unique()
    assert len(sizes) == 1


def test_what_somebody_has_stays_out_of_a_stranger_s_list(prepared, study):
    """Whoever lists what is in the whole history first is placed as if those items were not there."""

    class Having(Watching):
        def score(self, requests, candidates=None):
            scores = super().score(requests)
            test = prepared.split.test
            for row, request in zip(scores, requests, strict=True):
                owner = next(r for r in range(len(test)) if np.array_equal(test.history(r)[-5:], request.history))
                row[test.history(owner)] = 9.0
            return scores

    items = prepared.known.n_items
    told, chance = (
        strangers(model, prepared, study).filter(pl.col("slice") == "stranger_5")["ndcg@10"].to_numpy()
        for model in (_fives(Having(items)), Watching(items))
    )
    np.testing.assert_allclose(told, chance)


def _fives(model):
    """Only asked with five events, it knows whose they are."""

    class Fives(Watching):
        def score(self, requests, candidates=None):
            if len(requests[0].history) < 5:
                return super().score(requests)
            return model.score(requests)

    return Fives(model.items)


def test_overlap_counts_what_stays_in_any_order():
    lists = np.array([[1, 2, 3], [1, 2, -1], [-1, -1, -1]])
    others = np.array([[3, 2, 9], [1, 2, 7], [1, 2, 3]])
    np.testing.assert_allclose(overlap(lists, others), [2 / 3, 1.0, np.nan])


def test_latency_is_of_single_requests(prepared, ease, study):
    found = latency(ease, prepared.split.test, 7, k=study.k)
    assert found["requests"] == 7
    assert 0 < found["p50_ms"] <= found["p95_ms"]


def test_memory_s_peak_begins_anew():
    held = np.ones(40_000_000 // 8)
    del held
    begun = memory.begin()
    first = memory.peak_mb()
    assert first < begun + 30
    more = np.ones(80_000_000 // 8)
    assert memory.peak_mb() > first + 60
    del more


def test_a_request_of_a_stranger_may_be_empty(ease):
    assert np.isfinite(ease.score([Request()])).all()
