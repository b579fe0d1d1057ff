"""Quality of codes: figures that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.space.code_quality import code_agreement, code_quality
from koinon.space.codebook import Codebook, CodebookConfig, fit_codebook


def unit(rows):
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_four_items_in_two_groups():
    vectors = unit([[1, 0.1], [1, -0.1], [-0.1, 1], [-0.1, 1]])
    found = code_quality(vectors, Codebook(np.array([[[1, 0], [0, 1], [-9, -9]]], dtype=np.float32)), k=1)
    assert (found.items, found.collisions, found.same_text) == (4, 1.0, 0.5)
    assert found.perplexity == pytest.approx((2.0,))
    assert found.together == (1.0,)
    assert found.at_random == pytest.approx((1 / 3,))
    assert found.kept == 1.0
    assert found.error == pytest.approx((2 - 2 / np.sqrt(1.01),), abs=1e-5)


def test_words_that_say_nothing_keep_no_neighbours():
    vectors = unit(np.random.default_rng(0).normal(size=(60, 5)))
    found = code_quality(vectors, Codebook(np.zeros((2, 3, 5), dtype=np.float32)), k=5)
    assert found.perplexity == pytest.approx((1.0, 1.0))
    assert found.together == found.at_random == (1.0, 1.0)
    assert found.collisions == 1.0
    assert found.same_text == 0.0
    assert found.kept < 0.3


def test_more_words_tell_more():
    vectors = unit(np.random.default_rng(0).normal(size=(300, 8)))
    found = code_quality(vectors, fit_codebook(vectors, CodebookConfig(levels=3, codes=16)))
    assert list(found.error) == sorted(found.error, reverse=True)
    assert list(found.together) == sorted(found.together, reverse=True)
    assert all(near > chance for near, chance in zip(found.together, found.at_random, strict=True))
    assert found.kept > 0.5
    assert found.collisions < 0.3


def test_two_catalogues_agree_where_the_same_things_have_the_same_words():
    one, other = unit([[1, 0], [0, 1], [1, 0.1]]), unit([[0, 1], [1, 0]])
    words, others = np.array([[0, 1], [1, 1], [0, 2]], np.int32), np.array([[1, 1], [0, 2]], np.int32)
    found = code_agreement(one, words, other, others, np.array([[0, 1], [1, 0]]))
    assert found.works == 2
    assert found.same == (1.0, 0.5)
    assert found.near == pytest.approx((1.0, 2 / 3))
    assert found.at_random == pytest.approx((0.5, 1 / 3))
    assert np.isnan(code_agreement(one, words, other, others, np.empty((0, 2), np.int64)).same).all()
