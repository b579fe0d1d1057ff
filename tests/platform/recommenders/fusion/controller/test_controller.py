"""The controller: where requests go and why, what happens when a pipeline fails or is late, what is written down."""

import json
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from koinon.errors import RecommenderError
from koinon.recommenders import Recommendation, Request
from koinon.recommenders.conventional import EASE, Popularity, SemanticEASE
from koinon.recommenders.fusion.controller import (
    SEGMENTS,
    Controller,
    ControllerConfig,
    DecisionLog,
    Latency,
    Pipeline,
    Profile,
    measure,
    shape_of,
    tune_routes,
)
from koinon.recommenders.fusion.controller.latency import machine, probes_of
from koinon.recommenders.store import load, save
from koinon.recommenders.training import reads_texts

RNG = np.random.default_rng
COUNTS = np.array([50, 0, 3, 20, 9, 1, 30], dtype=np.int64)
PIPELINES = (
    Pipeline(name="model", recommender="prompted", hears_words=True),
    Pipeline(name="texts", recommender="semantic-ease", hears_words=True),
    Pipeline(name="items", recommender="ease"),
    Pipeline(name="popular", recommender="popularity"),
)
TOOK = {"model": 900_000.0, "texts": 20.0, "items": 5.0, "popular": 0.1}
AMPLE = 600_000.0
"""Milliseconds that no quick pipeline needs, however busy the machine is."""


def history(*items):
    return Request(np.array(items, dtype=np.int32))


class Gives:
    """Puts one item first; does first what it is told to."""

    name = "gives"

    def __init__(self, item, before=None):
        self.item, self.before, self.asked = item, before, 0

    def recommend(self, requests, k):
        self.asked += 1
        if self.before is not None:
            self.before()
        return [[Recommendation(self.item, 1.0)] for _ in requests]

    def score(self, requests, candidates=None):
        if self.before is not None:
            self.before()
        scores = np.zeros((len(requests), len(COUNTS)), dtype=np.float32)
        scores[:, self.item] = 1.0
        return scores if candidates is None else scores[:, candidates]


def profile(took=TOOK):
    return Profile("here", {name: {"plain": Latency(ms / 2, ms, 40)} for name, ms in took.items()})


def controller(shop=None, took=TOOK, before=None, **changes):
    config = ControllerConfig(**{"pipelines": PIPELINES, "budget_ms": 100.0, **changes})
    at_hand = {name: Gives(place, (before or {}).get(name)) for place, name in enumerate(TOOK)}
    made = Controller(config, recommenders=at_hand)
    made._counts, made._profile = COUNTS, profile(took)
    return made


@pytest.mark.parametrize(
    ("request_", "segment"),
    [
        (Request(query="something"), "words"),
        (Request(liked=("a book",)), "words"),
        (Request(np.array([0, 3], dtype=np.int32), query="more"), "words"),
        (Request(), "stranger"),
        (history(1), "cold"),
        (history(1, 0, 2, 3), "cold"),
        (history(0, 3), "short"),
        (history(0, 3, 1, 4, 6), "regular"),
    ],
)
def test_a_requests_shape(request_, segment):
    found, why = shape_of(request_, COUNTS, ControllerConfig())
    assert found == segment
    assert why


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(TOOK)), st.floats(0.01, 5000), min_size=4, max_size=4),
    st.floats(0.01, 5000),
    st.sampled_from([Request(), history(0), history(1), history(0, 3, 4, 6), Request(query="more")]),
    st.dictionaries(st.sampled_from(SEGMENTS), st.sampled_from(list(TOOK))),
    st.dictionaries(st.sampled_from(SEGMENTS), st.permutations(list(TOOK)).map(tuple)),
)
def test_no_request_goes_to_a_pipeline_whose_95th_percentile_is_above_the_budget(took, budget, asked, choices, rules):
    made = controller(took=took, choices=choices, rules=rules, budget_ms=budget)
    if min(took.values()) > budget:
        with pytest.raises(RecommenderError, match="K494"):
            made.route(asked)
        return
    decision = made.route(asked)
    assert took[decision.pipeline] <= budget
    assert decision.expected_ms == took[decision.pipeline]
    assert decision.reasons


def test_rules_come_before_the_list_and_choices_before_rules():
    asked = history(0, 3, 4, 6)
    assert controller().route(asked).pipeline == "texts"
    rules = {"regular": ("items",)}
    assert controller(rules=rules).route(asked).pipeline == "items"
    chosen = controller(rules=rules, choices={"regular": "popular"})
    assert chosen.route(asked).pipeline == "popular"
    assert "validation prefers popular" in chosen.route(asked).reasons[-1]
    assert controller(rules=rules, choices={"regular": "model"}).route(asked).pipeline == "items"


def test_a_larger_budget_lets_a_slower_pipeline_in():
    asked = history(0, 3, 4, 6)
    assert controller().route(asked, budget_ms=1_000_000.0).pipeline == "model"
    decision = controller().route(asked)
    assert any("model is left out" in reason and "900000.0 ms" in reason for reason in decision.reasons)


def test_words_go_where_they_are_heard():
    asked = Request(query="something quiet")
    rules = {"words": ("items", "popular", "texts")}
    assert controller(rules=rules).route(asked).pipeline == "texts"
    deaf = controller(rules=rules).route(asked, budget_ms=10.0)
    assert deaf.pipeline == "items"
    assert "no pipeline that is left hears words" in deaf.reasons


def test_a_pipeline_that_fails_is_replaced_by_the_quickest():
    def fail():
        raise RecommenderError("K481", "secret words")

    answer = controller(before={"texts": fail}, budget_ms=AMPLE).answer(history(0, 3, 4), 5)
    assert answer.answered_by == "popular"
    assert answer.items == [Recommendation(3, 1.0)]
    assert answer.instead_of == (("texts", "K481"),)


def test_a_pipeline_that_is_late_is_replaced_and_not_asked_again_before_it_ends():
    end = Event()
    made = controller(before={"texts": end.wait})
    asked = history(0, 3, 4)
    try:
        first, second = made.answer(asked, 5), made.answer(asked, 5, budget_ms=AMPLE)
    finally:
        end.set()
    assert (first.decision.pipeline, first.answered_by) == ("texts", "popular")
    assert first.instead_of == (("texts", "late"),)
    assert (second.decision.pipeline, second.answered_by) == ("items", "items")
    assert "texts is left out: it is still busy with what it was late for" in second.decision.reasons
    assert made.recommenders["texts"].asked == 1
    for thread in made._runners["texts"]._late:
        thread.join()
    assert made.answer(asked, 5, budget_ms=AMPLE).answered_by == "texts"


def test_where_no_other_is_quick_enough_a_pipeline_that_hangs_is_still_not_waited_for():
    end = Event()
    made = controller(took={**TOOK, "texts": 300.0, "items": 300.0}, before={"popular": end.wait})
    try:
        answer = made.answer(history(0, 3, 4), 5)
    finally:
        end.set()
    assert answer.decision.pipeline == "popular"
    assert answer.answered_by in ("texts", "items")
    assert answer.instead_of == (("popular", "late"),)


def test_without_deadlines_a_slow_pipeline_is_waited_for():
    made = controller(before={"texts": lambda: Event().wait(0.15)}, deadlines=False)
    answer = made.answer(history(0, 3, 4), 5)
    assert answer.answered_by == "texts"
    assert answer.took_ms > 100.0


def test_who_is_asked_while_another_is_answered_is_answered_too():
    """A pipeline at work in time is not a pipeline that is late."""
    made = controller(budget_ms=AMPLE)
    inner = []

    def ask_again():
        made.recommenders["texts"].before = None
        inner.append(made.answer(history(0, 3, 4), 5))

    made.recommenders["texts"].before = ask_again
    made.answer(history(0, 3, 4), 5)
    assert inner[0].answered_by == "texts"


def test_where_all_fail_the_error_tells_codes_and_no_words():
    def fail():
        raise ValueError("secret words")

    made = controller(before=dict.fromkeys(TOOK, fail), budget_ms=AMPLE)
    for ask in (lambda: made.answer(history(0, 3), 5), lambda: made.score([history(0, 3)])):
        with pytest.raises(RecommenderError, match="K495") as caught:
            ask()
        assert "ValueError" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_scores_come_from_each_requests_own_pipeline():
    made = controller(rules={"stranger": ("popular",), "short": ("items",)})
    requests = [history(0, 3, 4), Request(), history(0, 3)]
    assert made.score(requests).argmax(axis=1).tolist() == [1, 3, 2]
    assert made.score(requests, np.array([3, 1], dtype=np.int32)).tolist() == [[0, 1], [1, 0], [0, 0]]


def test_scores_come_from_the_next_where_a_pipeline_fails():
    def fail():
        raise RuntimeError

    made = controller(before={"texts": fail})
    assert made.score([history(0, 3, 4)]).argmax(axis=1).tolist() == [0]


def test_every_answer_is_a_line_of_the_log_that_tells_nothing_of_who_asked(tmp_path):
    def fail():
        raise RecommenderError("K481", "secret words")

    made = controller(before={"texts": fail}, budget_ms=AMPLE, log=str(tmp_path / "sub" / "decisions.jsonl"))
    made.answer(history(0, 3, 4), 5)
    made.recommend([Request(query="a secret wish", user=123456)], 5)
    lines = [json.loads(line) for line in (tmp_path / "sub" / "decisions.jsonl").read_text().splitlines()]
    assert [line["segment"] for line in lines] == ["regular", "words"]
    assert set(lines[0]) == {
        "at", "pipeline", "segment", "reasons", "expected_ms", "budget_ms", "answered_by", "instead_of", "took_ms", "k",
    }  # fmt: skip
    assert lines[0]["instead_of"] == [{"pipeline": "texts", "why": "K481"}]
    assert lines[0]["answered_by"] == "popular"
    assert lines[0]["expected_ms"] <= lines[0]["budget_ms"] == AMPLE
    content = (tmp_path / "sub" / "decisions.jsonl").read_text()
    assert "secret" not in content
    assert "123456" not in content


def test_a_log_that_cannot_be_written_is_refused_at_once_and_later_does_not_stop_an_answer(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecommenderError, match="K496"):
        DecisionLog(tmp_path / "file" / "log")
    made = controller(log=str(tmp_path / "log"))
    made._log.path = tmp_path / "file" / "log"
    assert made.answer(history(0, 3), 5).items
    assert made._log.lost == 1


def test_latency_is_measured_by_the_clock(shop):
    slow = Gives(0, lambda: Event().wait(0.01))
    found = measure(slow, [history(0)] * 12)
    assert found.n == 12
    assert 10.0 <= found.p50_ms <= found.p95_ms
    assert measure(slow, [history(0)] * 50, seconds=0.0).n == 5
    requests = probes_of(shop.train, 8, RNG(0), words=True)
    assert len(requests) == 8
    assert all(len(request.history) and request.query for request in requests)


def test_validation_sends_a_shape_to_the_pipeline_that_serves_it_best(shop, word_space):
    """Popularity is the rule for all; EASE is better for who has a history."""
    pipelines = (Pipeline(name="popular", recommender="popularity"), Pipeline(name="items", recommender="ease"))
    config = ControllerConfig(pipelines=pipelines, budget_ms=10_000.0, probes=2, rare_events=0)
    fitted = Controller(config).fit(shop.train, None, rng=RNG(0))
    assert fitted.route(history(0, 6, 12)).pipeline == "popular"
    tuned = tune_routes(fitted, shop, rng=RNG(0))
    assert tuned.choices["regular"] == "items"
    assert "stranger" not in tuned.choices
    assert fitted.with_choices(tuned.choices).route(history(0, 6, 12)).pipeline == "items"
    chosen = tuned.table.filter(segment="regular", pipeline="items").row(0, named=True)
    assert chosen["gain"] > tuned.caution * chosen["error"]
    assert tuned.table.filter(chosen=True)["segment"].n_unique() == tuned.table["segment"].n_unique()


def test_validation_changes_nothing_where_pipelines_are_alike(shop):
    pipelines = (Pipeline(name="one", recommender="ease"), Pipeline(name="two", recommender="ease"))
    config = ControllerConfig(pipelines=pipelines, budget_ms=10_000.0, probes=2)
    fitted = Controller(config).fit(shop.train, None, rng=RNG(0))
    assert tune_routes(fitted, shop, rng=RNG(0)).choices == {}


def test_validation_does_not_ask_a_pipeline_that_is_too_slow(shop):
    pipelines = (Pipeline(name="popular", recommender="popularity"), Pipeline(name="items", recommender="ease"))
    config = ControllerConfig(pipelines=pipelines, budget_ms=10.0, probes=2)
    fitted = Controller(config).fit(shop.train, None, rng=RNG(0))
    fitted._profile = profile({"popular": 1.0, "items": 11.0})
    assert set(tune_routes(fitted, shop, rng=RNG(0)).table["pipeline"]) == {"popular"}
    fitted._profile = profile({"popular": 12.0, "items": 11.0})
    with pytest.raises(RecommenderError, match="K494"):
        tune_routes(fitted, shop, rng=RNG(0))


@pytest.fixture
def kept(shop, word_space, tmp_path):
    config = ControllerConfig(probes=3, budget_ms=60_000.0, choices={"stranger": "popularity"})
    fitted = Controller(config).fit(shop.train, word_space, rng=RNG(0))
    save(fitted, tmp_path, shop.train, word_space)
    return fitted, tmp_path


def test_what_was_kept_comes_back_with_its_profile(kept, shop, word_space):
    fitted, folder = kept
    back = load(folder, shop.train, word_space)
    assert back.config == fitted.config
    assert back.profile == fitted.profile
    assert [type(one) for one in back.recommenders.values()] == [SemanticEASE, EASE, Popularity]
    requests = [history(1, 7), Request(), Request(query="topic2 subject2")]
    np.testing.assert_array_equal(back.score(requests), fitted.score(requests))
    assert back.recommend(requests, 5) == fitted.recommend(requests, 5)


def test_on_another_machine_latencies_are_measured_again(kept, shop, word_space):
    fitted, _ = kept
    fitted._profile = replace(fitted.profile, machine="elsewhere")
    back = Controller(fitted.config).restore(fitted.state(), shop.train, word_space)
    assert back.profile.machine == machine() != "elsewhere"
    assert back.profile.pipelines != fitted.profile.pipelines


def test_it_says_whether_it_needs_a_space():
    assert reads_texts("controller", ControllerConfig().model_dump())
    alone = ControllerConfig(pipelines=(Pipeline(name="items", recommender="ease"),))
    assert not reads_texts("controller", alone.model_dump())


def test_nothing_is_routed_before_it_is_fitted():
    with pytest.raises(RecommenderError, match="K400"):
        Controller().route(Request())


@pytest.mark.parametrize(
    "changes",
    [
        {"pipelines": ()},
        {"pipelines": (PIPELINES[2], PIPELINES[2])},
        {"pipelines": (Pipeline(name="itself", recommender="controller"),)},
        {"rules": {"words": ("nobody",)}},
        {"choices": {"words": "nobody"}},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValidationError):
        ControllerConfig(**changes)
