"""The closed form: the design's formula to 1e-6, zero diagonal, optimal, additive over partners."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse import csc_matrix, csr_matrix, random_array

from koinon.errors import RecommenderError
from koinon.recommenders.conventional import cold_columns, ease_parts, gram_matrix, semantic_prior, solve_ease


def events(users, items, seed, density=0.15):
    matrix = csr_matrix(random_array((users, items), density=density, rng=np.random.default_rng(seed)))
    matrix.data[:] = 1.0
    return matrix.astype(np.float32)


def prior(items, seed):
    vectors = np.random.default_rng(seed).normal(size=(items, 8)).astype(np.float32)
    return semantic_prior(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 10)


def by_the_book(gram, lambda_, s, beta):
    """DESIGN: B = P(G + λβS), each column corrected by its Lagrange multiplier so that the diagonal is zero."""
    p = np.linalg.inv(gram + lambda_ * np.eye(len(gram)))
    b = p @ (gram + lambda_ * beta * s)
    return b - p @ np.diag(np.diag(b) / np.diag(p))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("lambda_", "beta"), [(30.0, 0.3), (300.0, 0.0), (5.0, 2.0)])
def test_weights_equal_the_formula_in_double_precision(lambda_, beta, dtype):
    matrix, s = events(300, 80, 1), prior(80, 2)
    reference = by_the_book((matrix.T @ matrix).toarray().astype(np.float64), lambda_, s.toarray(), beta)
    found = solve_ease(gram_matrix(matrix), lambda_, s, beta, dtype=dtype)
    np.testing.assert_allclose(found, reference, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), lambda_=st.floats(0.5, 500), beta=st.floats(0, 2))
def test_the_diagonal_is_zero_and_no_other_weights_do_better(seed, lambda_, beta):
    matrix, s = events(40, 12, seed).toarray().astype(np.float64), prior(12, seed).toarray()
    weights = solve_ease(matrix.T @ matrix, lambda_, csc_matrix(s), beta)
    assert np.abs(np.diag(weights)).max() == 0.0

    def loss(b):
        return ((matrix - matrix @ b) ** 2).sum() + lambda_ * ((b - beta * s) ** 2).sum()

    moved = np.random.default_rng(seed).normal(scale=1e-3, size=weights.shape)
    np.fill_diagonal(moved, 0.0)
    assert loss(weights) <= loss(weights + moved) + 1e-9


def test_summed_gram_matrices_of_partners_give_exactly_the_centralised_model():
    matrix = events(300, 40, 3)
    parts = gram_matrix(matrix[:100]) + gram_matrix(matrix[100:220]) + gram_matrix(matrix[220:])
    np.testing.assert_allclose(solve_ease(parts, 20.0), solve_ease(gram_matrix(matrix), 20.0), atol=1e-12)


def test_beta_varies_at_the_cost_of_an_addition():
    matrix, s = events(200, 50, 5), prior(50, 6)
    parts = ease_parts(gram_matrix(matrix), 25.0, s)
    for beta in (0.0, 0.1, 0.7):
        np.testing.assert_allclose(parts.weights(beta), solve_ease(gram_matrix(matrix), 25.0, s, beta), atol=1e-12)


def test_the_gram_matrix_may_weigh_people_by_their_length():
    matrix = events(60, 20, 7)
    lengths = np.diff(matrix.indptr)
    weights = np.where(lengths > 0, np.maximum(lengths, 1) ** -0.5, 0.0)
    dense = matrix.toarray()
    np.testing.assert_allclose(gram_matrix(matrix, user_power=0.5), dense.T @ (weights[:, None] * dense), atol=1e-6)


def test_prior_columns_are_scaled_by_the_root_of_their_sum_and_leave_out_the_item_itself():
    vectors = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    s = semantic_prior(vectors, 5).toarray()
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, 0.0)
    for item in range(30):
        nearest = np.argsort(-cosines[:, item])[:5]
        column = np.zeros(30)
        column[nearest] = np.maximum(cosines[nearest, item], 0.0)
        np.testing.assert_allclose(s[:, item], column / np.sqrt(column.sum()), atol=1e-5)


def test_columns_with_few_events_are_the_prior_alone():
    matrix, s = events(100, 30, 8), prior(30, 9)
    weights = solve_ease(gram_matrix(matrix), 10.0, s, 0.5)
    counts = np.asarray(matrix.sum(axis=0)).ravel().astype(np.int64)
    counts[4] = 0
    changed = cold_columns(weights.copy(), s, 0.5, counts, 1)
    np.testing.assert_allclose(changed[:, 4], 0.5 * s.toarray()[:, 4])
    np.testing.assert_array_equal(np.delete(changed, 4, axis=1), np.delete(weights, 4, axis=1))


def test_a_blend_moves_from_texts_to_events_as_an_item_becomes_known():
    s = prior(30, 9)
    weights = solve_ease(gram_matrix(events(100, 30, 8)), 10.0, s, 0.5)
    counts = np.arange(30)
    share = (counts / (counts + 4.0))[None, :]
    expected = share * weights + (1 - share) * 0.5 * s.toarray()
    np.testing.assert_allclose(cold_columns(weights.copy(), s, 0.5, counts, 1, blend=4.0), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("code", "gram", "lambda_"),
    [("K401", np.eye(3), 0.0), ("K402", np.ones((3, 2)), 1.0), ("K403", np.full((3, 3), np.nan), 1.0)],
)
def test_what_cannot_be_solved_is_refused(code, gram, lambda_):
    with pytest.raises(RecommenderError, match=code):
        solve_ease(gram, lambda_)


def test_a_matrix_that_is_no_sum_of_events_is_refused():
    with pytest.raises(RecommenderError, match="K403"):
        solve_ease(np.array([[1.0, 5.0], [5.0, 1.0]]), 1.0)
