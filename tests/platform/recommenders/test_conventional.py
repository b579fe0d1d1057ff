"""Popularity, neighbours, EASE and EASE with the space, as recommenders."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.data import Interactions
from koinon.errors import RecommenderError
from koinon.evaluation import Chance, evaluate
from koinon.recommenders import Recommender, Request
from koinon.recommenders.conventional import (
    EASE,
    EaseConfig,
    ItemKNN,
    ItemKNNConfig,
    LinearConfig,
    Popularity,
    PopularityConfig,
    SemanticEASE,
    SemanticEaseConfig,
    gram_matrix,
    popularity_prior,
    semantic_prior,
    solve_ease,
)

EVERY = [Popularity, ItemKNN, EASE, SemanticEASE]


def fitted(kind, shop, space, *config):
    return kind(*config).fit(shop.train, space, rng=np.random.default_rng(0))


def ask(*items, **more):
    return Request(history=np.array(items, dtype=np.int32), **more)


@pytest.mark.parametrize("kind", EVERY)
def test_every_one_ranks_better_than_chance(kind, shop, word_space):
    found = evaluate(fitted(kind, shop, word_space), shop.train, shop.test)
    chance = evaluate(Chance().fit(shop.train, None, rng=np.random.default_rng(0)), shop.train, shop.test)
    assert found.mean() > 1.3 * chance.mean()


@pytest.mark.parametrize("kind", EVERY)
def test_every_one_keeps_the_protocol(kind, shop, word_space):
    recommender = fitted(kind, shop, word_space)
    assert isinstance(recommender, Recommender)
    requests = [ask(0, 6), ask(), ask(5, 5, 11)]
    scores = recommender.score(requests)
    assert scores.shape == (3, shop.train.n_items)
    assert scores.dtype == np.float32
    candidates = np.array([7, 3, 60], dtype=np.int32)
    np.testing.assert_allclose(recommender.score(requests, candidates), scores[:, candidates], rtol=1e-5, atol=1e-7)
    assert recommender.score([]).shape == (0, shop.train.n_items)


@pytest.mark.parametrize("kind", EVERY)
def test_lists_are_the_best_unseen_items_in_order(kind, shop, word_space):
    recommender = fitted(kind, shop, word_space)
    requests = [ask(0, 6), ask()]
    for request, row, best in zip(
        requests, recommender.score(requests), recommender.recommend(requests, 5), strict=True
    ):
        assert len(best) == 5
        assert not {one.item for one in best} & set(request.history.tolist())
        unseen = np.delete(row, request.history)
        np.testing.assert_allclose([one.score for one in best], np.sort(unseen)[::-1][:5])


@pytest.mark.parametrize("kind", EVERY)
def test_without_any_evidence_popularity_speaks(kind, shop, word_space):
    np.testing.assert_allclose(
        fitted(kind, shop, word_space).score([ask()])[0], popularity_prior(shop.train), rtol=1e-6
    )


@pytest.mark.parametrize("kind", EVERY)
def test_asking_before_fitting_is_refused(kind):
    with pytest.raises(RecommenderError, match="K400"):
        kind().score([ask()])


def test_a_history_outside_the_catalogue_is_refused(shop):
    with pytest.raises(RecommenderError, match="K405"):
        fitted(EASE, shop, None).score([ask(10_000)])


def test_item_neighbours_are_shrunk_cosines(shop):
    model = fitted(ItemKNN, shop, None, ItemKNNConfig(neighbours=4, shrink=2.0))
    dense = shop.train.matrix.toarray()
    item = int(np.argmax(shop.train.item_counts))
    overlap = dense.T @ dense[:, item]
    cosine = overlap / (np.sqrt(shop.train.item_counts * float(shop.train.item_counts[item])) + 2.0)
    cosine[item] = 0.0
    expected = np.where(cosine >= np.sort(cosine)[-4], cosine, 0.0)
    found = model.weights.toarray()[:, item]
    assert np.count_nonzero(found) == 4
    np.testing.assert_allclose(np.sort(found)[-4:], np.sort(expected)[-4:], rtol=1e-5)


def test_ease_is_the_closed_form(shop):
    model = fitted(EASE, shop, None, EaseConfig(lambda_=40.0))
    np.testing.assert_allclose(model.weights, solve_ease(gram_matrix(shop.train.matrix), 40.0), atol=1e-6)


def test_divided_by_events_and_multiplied_again(shop):
    model = fitted(EASE, shop, None, EaseConfig(lambda_=40.0, item_power=0.5, output_power=0.25))
    gram = gram_matrix(shop.train.matrix)
    events = np.diag(gram)
    scale = np.where(events > 0, events / np.exp(np.log(events[events > 0]).mean()), 1.0)
    divided = gram / np.sqrt(np.outer(scale, scale))
    expected = scale[:, None] ** -0.5 * solve_ease(divided, 40.0) * scale[None, :] ** 0.25
    np.testing.assert_allclose(model.weights, expected, atol=1e-6)


def test_semantic_ease_without_a_prior_is_ease_on_warm_items(shop, word_space):
    plain = fitted(EASE, shop, None, EaseConfig(lambda_=40.0))
    model = fitted(SemanticEASE, shop, word_space, SemanticEaseConfig(lambda_=40.0, beta=0.0))
    np.testing.assert_allclose(model.weights, plain.weights, atol=1e-6)


def test_semantic_ease_is_the_designs_formula_with_the_prior_alone_on_cold_items(shop, word_space):
    config = SemanticEaseConfig(lambda_=40.0, beta=0.3, neighbours=20)
    model = fitted(SemanticEASE, shop, word_space, config)
    prior = semantic_prior(word_space.encode(shop.train.texts), 20)
    expected = solve_ease(gram_matrix(shop.train.matrix), 40.0, prior, 0.3)
    expected[:, shop.cold_item] = 0.3 * prior.toarray()[:, shop.cold_item]
    assert shop.cold_item.any()
    np.testing.assert_allclose(model.weights, expected, atol=1e-6)


def test_weights_lie_in_rows_so_that_one_request_copies_no_matrix(shop, word_space):
    for kind in (EASE, SemanticEASE):
        assert fitted(kind, shop, word_space).weights.flags.c_contiguous


def test_the_space_ranks_items_nobody_has_taken(shop, word_space):
    kwargs = {"slices": ("cold_among_cold",)}
    semantic = evaluate(fitted(SemanticEASE, shop, word_space), shop.train, shop.test, **kwargs)
    id_only = evaluate(fitted(EASE, shop, None), shop.train, shop.test, **kwargs)
    assert semantic.mean(None, "cold_among_cold") > 1.3 * id_only.mean(None, "cold_among_cold")


def test_texts_need_a_space(shop):
    with pytest.raises(RecommenderError, match="K404"):
        fitted(SemanticEASE, shop, None)


def test_liked_texts_from_elsewhere_bring_their_topic(shop, word_space):
    model = fitted(SemanticEASE, shop, word_space)
    best = model.recommend([Request(liked=("topic4 subject4 unheard", "topic4 subject4 other"))], 8)[0]
    assert sum(one.item % 6 == 4 for one in best) >= 6


def test_a_wish_in_words_brings_what_it_names_whatever_the_history(shop, word_space):
    model = fitted(SemanticEASE, shop, word_space)
    for request in (Request(query="subject2 topic2"), ask(0, 6, 12, query="subject2 topic2")):
        best = model.recommend([request], 6)[0]
        assert sum(one.item % 6 == 2 for one in best) >= 3


def test_liked_texts_and_history_are_heard_together(shop, word_space):
    model = fitted(SemanticEASE, shop, word_space)
    topics = {one.item % 6 for one in model.recommend([ask(1, 7, 13, liked=("topic4 subject4 unheard",))], 12)[0]}
    assert {1, 4} <= topics


def test_recent_history_may_count_more(shop):
    model = fitted(EASE, shop, None, EaseConfig(recency=0.5))
    weights = model.weights
    expected = weights[9] + 0.5 * weights[3] + 0.25 * weights[0]
    np.testing.assert_allclose(model.score([ask(0, 3, 9)])[0], expected, rtol=1e-5)


def test_popularity_may_forget(shop):
    events = shop.train.events
    day = 86_400_000
    old, new = int(events.item[0]), int(events.item[-1])
    timed = Interactions(
        np.array([0, 1, 2, 3], dtype=np.int32),
        np.array([old, old, old, new], dtype=np.int32),
        np.array([0, 0, 0, 100 * day]),
    )
    domain = shop.train.with_events(timed)
    forgetful = Popularity(PopularityConfig(half_life_days=10)).fit(domain, None, rng=np.random.default_rng(0))
    faithful = Popularity().fit(domain, None, rng=np.random.default_rng(0))
    assert forgetful.recommend([ask()], 1)[0][0].item == new
    assert faithful.recommend([ask()], 1)[0][0].item == old


def test_popularity_may_look_at_a_window_alone(shop):
    day = 86_400_000
    timed = Interactions(
        np.array([0, 1, 2, 0, 3], dtype=np.int32),
        np.array([5, 5, 5, 7, 9], dtype=np.int32),
        np.array([0, 0, 0, 95 * day, 100 * day]),
    )
    domain = shop.train.with_events(timed)
    windowed = Popularity(PopularityConfig(window_days=10)).fit(domain, None, rng=np.random.default_rng(0))
    assert np.flatnonzero(windowed.popularity).tolist() == [7, 9]
    timeless = popularity_prior(shop.train, window_days=10)
    np.testing.assert_array_equal(timeless, popularity_prior(shop.train))


def test_a_model_from_a_summed_gram_is_the_model_from_the_events(shop):
    half = shop.train.matrix.shape[0] // 2
    total = gram_matrix(shop.train.matrix[:half]) + gram_matrix(shop.train.matrix[half:])
    summed = EASE(EaseConfig(lambda_=40.0)).fit_gram(shop.train, None, total)
    np.testing.assert_allclose(summed.weights, fitted(EASE, shop, None, EaseConfig(lambda_=40.0)).weights, atol=1e-6)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="recency"):
        LinearConfig(recency=0.0)
