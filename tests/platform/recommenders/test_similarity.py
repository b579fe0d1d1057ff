"""Likeness of texts alone."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.errors import RecommenderError
from koinon.recommenders.conventional import TextSimilarity, TextSimilarityConfig
from koinon.recommenders.protocol import Request
from koinon.recommenders.store import load, save

RNG = np.random.default_rng(0)


def request(*items):
    return Request(history=np.array(items, dtype=np.int32))


def test_a_score_is_the_mean_cosine_to_the_history(shop, word_space):
    model = TextSimilarity().fit(shop.train, word_space, rng=RNG)
    vectors = word_space.encode(shop.train.texts)
    expected = (vectors[[3, 8]] @ vectors.T).mean(axis=0)
    np.testing.assert_allclose(model.score([request(3, 8)])[0], expected, rtol=1e-5, atol=1e-6)
    chosen = np.array([5, 1], dtype=np.int32)
    np.testing.assert_allclose(model.score([request(3, 8)], chosen)[0], expected[chosen], rtol=1e-5, atol=1e-6)


def test_what_is_recent_counts_more_if_asked(shop, word_space):
    vectors = word_space.encode(shop.train.texts)
    model = TextSimilarity(TextSimilarityConfig(recency=0.5)).fit(shop.train, word_space, rng=RNG)
    expected = (0.5 * vectors[3] + vectors[8]) @ vectors.T / 1.5
    np.testing.assert_allclose(model.score([request(3, 8)])[0], expected, rtol=1e-5, atol=1e-6)


def test_without_a_history_it_says_what_is_popular(shop, word_space):
    model = TextSimilarity().fit(shop.train, word_space, rng=RNG)
    assert model.score([request()])[0].argmax() == shop.train.item_counts.argmax()


def test_it_comes_back_from_disk_as_it_was(shop, word_space, tmp_path):
    model = TextSimilarity().fit(shop.train, word_space, rng=RNG)
    save(model, tmp_path, shop.train, word_space)
    again = load(tmp_path, shop.train, word_space)
    np.testing.assert_array_equal(again.score([request(4)]), model.score([request(4)]))


def test_it_needs_a_space_and_a_fit(shop):
    with pytest.raises(RecommenderError) as caught:
        TextSimilarity().fit(shop.train, None, rng=RNG)
    assert caught.value.code == "K404"
    with pytest.raises(RecommenderError) as caught:
        TextSimilarity().score([request(1)])
    assert caught.value.code == "K400"
