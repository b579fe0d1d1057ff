"""Kinds, weights and contexts of events as inputs: learned from, kept, served, and left out where not asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from koinon.data import Context, Interactions, Marks
from koinon.evaluation import evaluate
from koinon.evaluation.protocol import requests_of
from koinon.recommenders import Request
from koinon.recommenders.sequential import HSTU, HSTUConfig, SASRec, SASRecConfig, side
from koinon.recommenders.sequential.side import LEVELS, MarkWords
from koinon.recommenders.store import load, save

ITEMS = 40
QUICK = {"epochs": 20, "batch_users": 32, "length": 12, "width": 16, "learning_rate": 0.01, "negatives": 32}
KINDS = {"hstu": (HSTU, HSTUConfig), "sasrec": (SASRec, SASRecConfig)}


def model_of(kind, **settings):
    recommender, config = KINDS[kind]
    return recommender(config(**QUICK | settings))


@pytest.fixture(scope="module")
def told(make_domain):
    """An item leads to its successor where it was liked (weight 5), to its other one where it was not (weight 1)."""
    rng = np.random.default_rng(3)
    liked, disliked = rng.permutation(ITEMS), rng.permutation(ITEMS)
    histories, weights = [], []
    for _ in range(300):
        taken, given = [int(rng.integers(ITEMS))], []
        for _ in range(9):
            given.append(int(rng.choice([1, 5])))
            taken.append(int((liked if given[-1] == 5 else disliked)[taken[-1]]))
        histories.append((taken, np.arange(10) * 60_000))
        weights += [*given, 5]
    domain = make_domain(histories, ITEMS)
    weight = np.array(weights, dtype=np.float32)
    kind = (weight > 3).astype(np.int16)
    marks = Marks(kind, weight, ("skip", "play"), {"mood": Context(kind.astype(np.int32), ("sad", "glad"))})
    return domain.with_events(replace(domain.events, marks=marks)), liked, disliked


def ask(items, marks):
    return Request(history=np.array(items, dtype=np.int32), marks=marks, times=np.arange(len(items)) * 60_000)


@pytest.mark.parametrize(
    ("kind", "marks"), [("hstu", "weight"), ("hstu", "kind"), ("sasrec", "kind+weight"), ("hstu", "context")]
)
def test_what_comes_next_is_learned_from_how_the_last_thing_was_liked(told, kind, marks):
    domain, liked, disliked = told
    model = model_of(kind, marks=marks).fit(domain, None, rng=np.random.default_rng(0))
    well, badly = (
        model.score([ask([item], Marks.of([kind], [weight], {"mood": [mood]})) for item in range(ITEMS)])
        for kind, weight, mood in (("play", 5.0, "glad"), ("skip", 1.0, "sad"))
    )
    row = np.arange(ITEMS)
    apart = liked != disliked
    right = (well[row, liked] > well[row, disliked]) & (badly[row, disliked] > badly[row, liked])
    assert right[apart].mean() > 0.7


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_kept_and_brought_back_it_reads_marks_the_same(told, tmp_path, kind):
    domain = told[0]
    model = model_of(kind, epochs=1, marks="kind+weight+context").fit(domain, None, rng=np.random.default_rng(0))
    save(model, tmp_path, domain)
    requests = [ask([3, 4], Marks.of(["play", None], [1.0, None], {"mood": ["sad", None]})), ask([3, 4], None)]
    np.testing.assert_array_equal(load(tmp_path, domain).score(requests), model.score(requests))


def test_unknown_kinds_and_weights_say_nothing_and_others_count_as_the_nearest(told):
    words = MarkWords.of(told[0].events, "kind+weight")
    assert words.kinds == ("skip", "play")
    assert words.levels.tolist() == [1.0, 5.0]
    read = words.read(Marks.of(["play", "bought", None, "skip"], [9.0, -3.0, None, 2.9]), 4)
    assert read.tolist() == [[2, 4], [0, 3], [0, 0], [1, 3]]
    assert words.read(None, 2).tolist() == [[0, 0], [0, 0]]


def test_contexts_have_words_by_their_names_and_what_training_did_not_know_says_nothing(told):
    events = told[0].events
    code = np.zeros(len(events), dtype=np.int32)
    code[:3] = (1, 1, -1)
    context = {"place": Context(code, ("home", "train", "moon")), **events.marks.context}
    words = MarkWords.of(replace(events, marks=replace(events.marks, context=context)), "kind+context")
    assert {name: set(values) for name, values in words.context.items()} == {
        "mood": {"sad", "glad"}, "place": {"home", "train"},
    }  # fmt: skip
    asked = {"place": ["train", "moon", None, "home"], "weather": ["dry"] * 4}
    read = words.read(Marks.of(["play", None, None, None], [None] * 4, asked), 4)
    assert read.tolist() == [[2, 0, 0, 6], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 5]]
    assert MarkWords.of_state(words.state()).context == words.context
    older = {name: array for name, array in words.state().items() if name != "mark_context"}
    assert MarkWords.of_state(older).context == {}
    assert MarkWords.of(events, "weight").context == {}


def test_of_a_context_with_many_values_the_frequent_ones_have_words(told, monkeypatch):
    monkeypatch.setattr(side, "VALUES", 2)
    events = told[0].events
    code = np.repeat([0, 1, 2], [10, len(events) - 30, 20]).astype(np.int32)
    marks = replace(events.marks, context={"place": Context(code, ("a", "b", "c"))})
    assert MarkWords.of(replace(events, marks=marks), "context").context == {"place": ("b", "c")}


def test_a_request_without_marks_scores_as_one_of_which_nothing_is_known(told):
    model = model_of("hstu", epochs=1, marks="kind+weight").fit(told[0], None, rng=np.random.default_rng(0))
    nothing = Marks.of(["bought", None], [float("nan"), None])
    np.testing.assert_array_equal(model.score([ask([1, 2], nothing)]), model.score([ask([1, 2], None)]))


def test_many_different_weights_are_told_by_quantiles(told):
    weight = np.random.default_rng(0).lognormal(size=len(told[0].events)).astype(np.float32)
    events = replace(told[0].events, marks=replace(told[0].events.marks, weight=weight))
    words = MarkWords.of(events, "weight")
    counts = np.bincount(words.read(events.marks, len(events))[:, 1])[1:]
    assert len(words.levels) == LEVELS
    assert counts.min() > 0.4 * counts.mean()


def test_marks_follow_their_events_when_a_history_is_put_in_order(told):
    model = model_of("hstu", epochs=1, marks="weight", length=3).fit(told[0], None, rng=np.random.default_rng(0))
    right = Request(np.array([1, 2, 3]), times=np.array([1, 2, 3]) * 9000, marks=Marks.of([None] * 3, [1, 5, 1]))
    wrong = Request(
        np.array([3, 9, 99, 1, 2]), times=np.array([3, 0, 1, 1, 2]) * 9000, marks=Marks.of([None] * 5, [1, 1, 5, 1, 5])
    )
    np.testing.assert_array_equal(model.score([wrong]), model.score([right]))


@pytest.mark.parametrize("length", [1, 2, 6, 15])
def test_a_kept_history_with_marks_scores_as_a_full_pass(told, length):
    model = model_of("hstu", epochs=1, marks="kind+weight+context", ranking_negatives=4).fit(
        told[0], None, rng=np.random.default_rng(0)
    )
    with torch.no_grad():
        model.network.marks.normal_()
    rng = np.random.default_rng(length)
    items, weights = rng.integers(ITEMS, size=length), rng.choice([1.0, 5.0], size=length)
    kinds = rng.choice(["skip", "play"], size=length)
    moods = rng.choice(["sad", "glad"], size=length).tolist()
    whole = ask(items, Marks.of(kinds.tolist(), weights.tolist(), {"mood": moods}))
    read, grown = model.remember(whole), model.remember(ask([], None))
    for place in range(length):
        told_of = {"kind": str(kinds[place]), "weight": float(weights[place]), "context": {"mood": moods[place]}}
        grown.append(int(items[place]), 60_000 * place, **told_of)
    for cache in (read, grown):
        np.testing.assert_allclose(model.score_state(cache), model.score([whole])[0], atol=1e-5)
    np.testing.assert_allclose(grown.rank(np.arange(ITEMS)), read.rank(np.arange(ITEMS)), atol=1e-5)


def test_events_without_marks_train_a_model_that_knows_none(make_domain, tmp_path):
    domain = make_domain([([0, 1, 2], None), ([2, 1, 0], None)])
    model = model_of("sasrec", epochs=1, marks="kind+weight").fit(domain, None, rng=np.random.default_rng(0))
    save(model, tmp_path, domain)
    assert "marks" not in model.state()
    np.testing.assert_array_equal(load(tmp_path, domain).score([ask([1], None)]), model.score([ask([1], None)]))


def test_where_marks_are_not_asked_for_nothing_changes_by_them(told):
    """Weights, settings as they are written, and the checkpoint's fingerprint are those of before."""
    domain = told[0]
    bare = domain.with_events(Interactions(domain.events.user, domain.events.item, domain.events.time))
    models = [model_of("hstu", epochs=1).fit(data, None, rng=np.random.default_rng(0)) for data in (domain, bare)]
    states = [model.state() for model in models]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])
    assert "marks" not in models[0].config.model_dump_json()
    assert len({model._fingerprint(data, None, 0) for model, data in zip(models, (domain, bare), strict=True)}) == 1
    other = model_of("hstu", epochs=1, marks="weight").fit(domain, None, rng=np.random.default_rng(0))
    assert other._fingerprint(domain, None, 0) != models[0]._fingerprint(domain, None, 0)


def test_a_split_hands_marks_on_to_requests(chains):
    request = requests_of(chains.test, [3])[0]
    assert len(request.marks) == len(request.history)
    assert [request.marks.kinds[kind] for kind in request.marks.kind] == ["visit"] * len(request.history)
    assert evaluate(
        model_of("sasrec", epochs=1, marks="weight").fit(chains.train, None, rng=np.random.default_rng(0)),
        chains.train, chains.test, slices=("all",),
    ).mean() >= 0  # fmt: skip
