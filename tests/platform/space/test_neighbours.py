"""Nearest neighbours equal a plain sort, exclude the row itself, and come in a fixed order."""

import numpy as np
import pytest

from koinon.errors import SpaceError
from koinon.space import nearest, neighbours


def unit_rows(n, d, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 1000, 10**6])
def test_exact_neighbours_equal_a_plain_sort(monkeypatch, block):
    monkeypatch.setattr(neighbours, "_BLOCK_PAIRS", block)
    vectors = unit_rows(200, 8)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    expected = np.argsort(-cosines, axis=1)[:, :7]
    indices, similarities = nearest(vectors, 7)
    assert indices.dtype == np.int32
    assert similarities.dtype == np.float32
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(similarities, np.take_along_axis(cosines, expected, 1), atol=1e-5)


def test_among_others_nothing_is_excluded():
    vectors, others = unit_rows(20, 8), unit_rows(50, 8, 1)
    indices, _ = nearest(vectors, 1, others)
    np.testing.assert_array_equal(indices[:, 0], np.argmax(vectors @ others.T, axis=1))


def test_equal_similarities_come_by_index_and_a_double_is_not_the_row_itself():
    vectors = np.repeat(unit_rows(2, 4), 3, axis=0)
    indices, _ = nearest(vectors, 2)
    np.testing.assert_array_equal(indices, [[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]])


def test_fewer_candidates_give_fewer_columns():
    assert nearest(unit_rows(4, 8), 50)[0].shape == (4, 3)
    assert nearest(unit_rows(1, 8), 5)[0].shape == (1, 0)
    assert nearest(np.empty((0, 8), np.float32), 5)[0].shape == (0, 0)
    assert nearest(np.empty((0, 8), np.float32), 5, unit_rows(9, 8))[0].shape == (0, 5)


def test_faiss_finds_nearly_the_same_and_never_the_row_itself():
    vectors = unit_rows(3000, 16)
    exact, _ = nearest(vectors, 10)
    found, similarities = nearest(vectors, 10, index="faiss")
    assert not np.any(found == np.arange(3000)[:, None])
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]) > 0.9
    np.testing.assert_allclose(similarities, np.sum(vectors[:, None] * vectors[found], axis=2), atol=1e-4)


def test_beyond_a_size_faiss_is_used(monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(neighbours, "_EXACT_PAIRS", 0)
    monkeypatch.setattr(neighbours, "_exact", None)
    assert nearest(unit_rows(100, 8), 3)[0].shape == (100, 3)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(SpaceError, match="K340"):
        nearest(unit_rows(4, 8), 2, unit_rows(4, 9))
    with pytest.raises(SpaceError, match="K340"):
        nearest(unit_rows(4, 8), 0)
