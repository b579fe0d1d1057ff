"""Explanations are the score's own parts, and hold nothing that the request does not."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from koinon.errors import RecommenderError
from koinon.evaluation import Chance
from koinon.explain import explain
from koinon.recommenders import Request
from koinon.recommenders.conventional import (
    EASE,
    EaseConfig,
    ItemKNN,
    Popularity,
    SemanticEASE,
    SemanticEaseConfig,
)


@pytest.fixture(scope="module")
def models(shop, word_space):
    kinds = [
        ItemKNN(),
        EASE(EaseConfig(popularity_weight=0.1, recency=0.8)),
        SemanticEASE(SemanticEaseConfig(popularity_weight=0.1, cold_blend=2.0)),
    ]
    return [kind.fit(shop.train, word_space, rng=np.random.default_rng(0)) for kind in kinds]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(st.integers(0, 89), max_size=6),
    liked=st.lists(st.sampled_from(["topic1 subject1 far", "topic5 title9", "nothing known"]), max_size=2),
    query=st.sampled_from([None, "topic3"]),
    item=st.integers(0, 89),
)
def test_the_parts_sum_to_the_score(models, history, liked, query, item):
    for model in models:
        words = {"liked": tuple(liked), "query": query} if isinstance(model, SemanticEASE) else {}
        request = Request(history=np.array(history, dtype=np.int32), **words)
        parts = model.attribute(request, item)
        total = sum(float(values.sum()) for values in parts.values())
        assert total == pytest.approx(float(model.score([request])[0, item]), rel=1e-3, abs=1e-4)


def test_reasons_are_history_items_that_speak_for_the_item_strongest_first(models, shop):
    request = Request(history=np.array([0, 6, 1], dtype=np.int32))
    for model in models:
        item = model.recommend([request], 1)[0][0].item
        reasons = explain(model, request, item, domain=shop.train)
        assert reasons
        assert all(reason.value > 0 for reason in reasons)
        assert [reason.value for reason in reasons] == sorted((reason.value for reason in reasons), reverse=True)
        assert {reason.item for reason in reasons if reason.kind == "history"} <= {0, 6, 1}
        assert sum(reason.share for reason in explain(model, request, item, limit=99)) == pytest.approx(1.0)
        named = next(reason for reason in reasons if reason.kind == "history")
        assert named.text == shop.train.items["title"][named.item]


def test_liked_texts_and_wishes_are_named_as_typed(models):
    request = Request(liked=("topic4 subject4 unheard",), query="topic2")
    best = models[-1].recommend([request], 1)[0][0].item
    reasons = explain(models[-1], request, best)
    assert {(reason.kind, reason.text) for reason in reasons} <= {
        ("liked", "topic4 subject4 unheard"),
        ("query", "topic2"),
        ("popularity", ""),
    }
    assert reasons


def test_a_stranger_is_told_that_it_is_popular(models):
    item = models[0].recommend([Request()], 1)[0][0].item
    assert [(reason.kind, reason.share) for reason in explain(models[0], Request(), item)] == [("popularity", 1.0)]


def test_a_recommender_with_vectors_alone_names_what_is_near_and_claims_no_share(shop, word_space):
    class Adapter:
        vectors = word_space.encode(shop.train.texts)

    reasons = explain(Adapter(), Request(history=np.array([2, 8, 3], dtype=np.int32)), 14, domain=shop.train)
    assert [reason.kind for reason in reasons[:2]] == ["near", "near"]
    assert {reason.item for reason in reasons[:2]} == {2, 8}
    assert all(reason.share == 0 for reason in reasons)


def test_where_nothing_is_known_nothing_is_said(shop):
    request = Request(history=np.array([2], dtype=np.int32))
    assert explain(Chance().fit(shop.train, None, rng=np.random.default_rng(0)), request, 3) == []
    popular = Popularity().fit(shop.train, None, rng=np.random.default_rng(0))
    assert {reason.kind for reason in explain(popular, request, 3)} <= {"popularity"}


def test_an_item_outside_the_catalogue_is_refused(models, shop):
    with pytest.raises(RecommenderError, match="K409"):
        explain(models[0], Request(), 900, domain=shop.train)
