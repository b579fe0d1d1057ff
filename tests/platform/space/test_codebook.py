"""The residual codebook: the same from parts as from the whole, ever less error, and rules for little or odd data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2

from koinon.errors import SpaceError
from koinon.space.codebook import LONGEST, Codebook, CodebookConfig, Draft, fit_codebook

SMALL = CodebookConfig(levels=3, codes=16)


def unit_vectors(n, d=24, groups=12, seed=0):
    """Groups of directions, as texts of a few subjects have them."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(groups, d))
    vectors = centre[rng.integers(groups, size=n)] + 0.6 * rng.normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def error(codebook, vectors, levels=None):
    told = codebook.encode(vectors)[:, :levels]
    return float(((vectors - codebook.decode(told)) ** 2).sum(1).mean())


def test_parts_that_add_up_their_moments_fit_what_the_whole_fits():
    vectors = unit_vectors(900)
    parts = np.split(vectors, [500, 640])
    draft = Draft.begin(24, SMALL)
    for _ in range(SMALL.rounds):
        draft = draft.step(sum(draft.moments(part) for part in parts), SMALL, seed=7)
    whole = fit_codebook(vectors, SMALL, seed=7)
    np.testing.assert_allclose(draft.done.centroids, whole.centroids, atol=1e-5)
    np.testing.assert_array_equal(draft.done.encode(vectors), whole.encode(vectors))


def test_every_level_tells_vectors_more_exactly():
    vectors = unit_vectors(900)
    codebook = fit_codebook(vectors, SMALL)
    errors = [error(codebook, vectors, levels) for levels in (0, 1, 2, 3)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.7 * errors[1] < 0.7 * 0.7 * errors[0]
    np.testing.assert_allclose(
        vectors, codebook.decode(codebook.encode(vectors)) + codebook.residuals(vectors), atol=1e-5
    )


def test_one_level_is_as_good_as_an_independent_k_means():
    vectors = unit_vectors(900, groups=100)
    best = np.inf
    for seed in range(4):
        centres, told = kmeans2(vectors.astype(np.float64), 16, iter=30, minit="++", rng=np.random.default_rng(seed))
        best = min(best, float(((vectors - centres[told]) ** 2).sum(1).mean()))
    assert error(fit_codebook(vectors, CodebookConfig(levels=1, codes=16, refine=8)), vectors) < 1.06 * best


def test_no_code_is_left_without_vectors_where_there_are_enough():
    vectors = unit_vectors(900)
    codes = fit_codebook(vectors, SMALL).encode(vectors)
    assert [len(np.unique(words)) for words in codes.T] == [16, 16, 16]


def test_an_empty_code_is_placed_beside_the_one_that_errs_most():
    vectors = unit_vectors(300)
    centroids = np.concatenate((vectors[:15], np.full((1, 24), 9.0, dtype=np.float32)))
    draft = Draft(Codebook(np.zeros((0, 16, 24), dtype=np.float32)), centroids, taken=4)
    moments = draft.moments(vectors)
    assert moments[15, 0] == 0
    after = draft.step(moments, SMALL, seed=0)
    means = moments[:15, 2:] / moments[:15, :1]
    moved = np.flatnonzero(np.abs(after.centroids[:15] - means).max(1) > 1e-5)
    errors = moments[:15, 1] - moments[:15, 0] * (means**2).sum(1)
    assert moved.tolist() == [int(errors.argmax())]
    np.testing.assert_allclose((after.centroids[moved[0]] + after.centroids[15]) / 2, means[moved[0]], atol=1e-5)
    assert after.moments(vectors)[15, 0] > 0


@pytest.mark.parametrize("different", [1, 3])
def test_fewer_different_vectors_than_codes_are_told_exactly(different):
    vectors = np.repeat(unit_vectors(different), 20, axis=0)
    codebook = fit_codebook(vectors, SMALL)
    assert codebook.centroids.shape == (3, 16, 24)
    assert np.isfinite(codebook.centroids).all()
    np.testing.assert_allclose(codebook.decode(codebook.encode(vectors)), vectors, atol=1e-5)
    assert len(np.unique(codebook.encode(vectors), axis=0)) == different


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), taken=st.integers(0, 8), stretch=st.sampled_from([0.1, 1.0, 50.0]))
def test_one_item_adds_no_more_than_its_bound(seed, taken, stretch):
    """Whatever codebook a server sends."""
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(9, seed=seed)
    done = Codebook((stretch * rng.normal(size=(2, 5, 24))).astype(np.float32))
    draft = Draft(done, (stretch * rng.normal(size=(4, 24))).astype(np.float32), taken)
    with_it, without = draft.moments(vectors), draft.moments(vectors[1:])
    assert np.linalg.norm(with_it - without) <= np.sqrt(1 + LONGEST**2 + LONGEST**4) * (1 + 1e-5)


def test_the_same_seed_gives_the_same_codebook():
    vectors = unit_vectors(400)
    one, same, other = (fit_codebook(vectors, SMALL, seed=seed).centroids for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_vectors_of_another_space_and_no_vectors_are_refused():
    codebook = fit_codebook(unit_vectors(60), SMALL)
    with pytest.raises(SpaceError, match="K341"):
        codebook.encode(unit_vectors(5, d=25))
    with pytest.raises(SpaceError, match="K341"):
        fit_codebook(unit_vectors(60)[:0], SMALL)
    assert codebook.encode(unit_vectors(60)[:0]).shape == (0, 3)


def test_relative_words_tell_how_an_item_differs_from_its_catalogue():
    """Two catalogues of which one is the other moved have the same words, and words tell where each stands."""
    vectors = unit_vectors(400)
    moved = vectors + np.float32(0.5)
    words = replace(fit_codebook(vectors - vectors.mean(0), SMALL), relative=True)
    here, there = words.around(vectors), words.around(moved)
    np.testing.assert_array_equal(here.encode(vectors), there.encode(moved))
    np.testing.assert_allclose(there.decode(there.encode(moved)), here.decode(here.encode(vectors)) + 0.5, atol=1e-5)
    np.testing.assert_allclose(vectors, here.decode(here.encode(vectors)) + here.residuals(vectors), atol=1e-5)
    assert here.around(moved) is here
    np.testing.assert_array_equal(here.encode(vectors[:3]), here.encode(vectors)[:3])


def test_relative_words_without_a_catalogue_are_refused():
    vectors = unit_vectors(40)
    with pytest.raises(SpaceError, match="K341"):
        replace(fit_codebook(vectors, SMALL), relative=True).encode(vectors)


def test_other_words_need_no_catalogue():
    codebook = fit_codebook(unit_vectors(40), SMALL)
    assert codebook.around(unit_vectors(30, seed=1)) is codebook
