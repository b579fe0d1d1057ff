"""Embedding association tests: by hand, against chance, and on a space that was made with an association."""

import itertools

import numpy as np
import pytest

from koinon.errors import ConfigError
from koinon.fairness.probes.association import associate, association_test
from koinon.fairness.probes.plan import AssociationPlan
from koinon.fairness.probes.terms import TESTS


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_effect_and_p_by_hand():
    one, other = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    angles = np.deg2rad([[10, 20, 30], [40, 60, 80]])
    first, second = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in angles)
    lean = np.cos(angles) - np.sin(angles)
    expected = (lean[0].mean() - lean[1].mean()) / lean.ravel().std(ddof=1)
    effect, p = association_test(first, second, one, other)
    assert effect == pytest.approx(expected)
    every = lean.ravel()
    seen = abs(lean[0].mean() - lean[1].mean())
    divisions = list(itertools.combinations(range(6), 3))
    as_far = [abs(every[list(d)].mean() - np.delete(every, d).mean()) >= seen - 1e-12 for d in divisions]
    assert p == np.mean(as_far) == 2 / 20


def test_kinds_that_are_the_same_do_not_differ():
    rng = np.random.default_rng(0)
    words, one, other = (unit(rng.normal(size=(4, 8))) for _ in range(3))
    assert association_test(words, words, one, other) == (0.0, 1.0)


def test_the_opposite_kinds_give_the_opposite_effect():
    rng = np.random.default_rng(1)
    first, second, one, other = (unit(rng.normal(size=(5, 8))) for _ in range(4))
    effect, p = association_test(first, second, one, other)
    assert association_test(second, first, one, other) == (pytest.approx(-effect), pytest.approx(p))
    assert association_test(first, second, other, one) == (pytest.approx(-effect), pytest.approx(p))


def test_p_values_are_even_where_nothing_is_associated():
    rng = np.random.default_rng(2)
    found = [association_test(*(unit(rng.normal(size=(5, 16))) for _ in range(4)))[1] for _ in range(400)]
    assert abs(np.mean(np.array(found) < 0.1) - 0.1) < 0.05


def test_many_words_are_divided_at_random_and_p_is_never_zero():
    rng = np.random.default_rng(3)
    axis = np.eye(8)[:1]
    first, second = unit(rng.normal(size=(12, 8)) + 5 * axis), unit(rng.normal(size=(12, 8)) - 5 * axis)
    effect, p = association_test(first, second, axis, -axis, draws=500)
    assert effect > 1.5
    assert p == 1 / 501


class Leaning:
    """A space in which the first kind of people lies near the one kind of things, in English alone."""

    dimension, fingerprint = 24, "leaning"

    def encode(self, texts):
        rng = np.random.default_rng(4)
        noise = rng.normal(size=(len(texts), self.dimension)) * 0.3
        for row, text in zip(noise, texts, strict=True):
            words = TESTS["career and family"].words
            word = text.removeprefix("This is ").removesuffix(".")
            row[0] += 3 * (word in words[0]["en"] + words[2]["en"]) - 3 * (word in words[1]["en"] + words[3]["en"])
            row[1] += 1
        return unit(noise).astype(np.float32)


def test_an_association_that_was_put_there_is_found_and_no_other():
    plan = AssociationPlan(languages=("en", "de", "fr", "es"), tests=("career and family",))
    found = {(one.language, one.form): one for one in associate(Leaning(), plan)}
    assert len(found) == 8
    for (language, _), one in found.items():
        assert one.p <= one.p_adjusted
        assert (one.effect > 1.5 and one.p_adjusted < 0.01) if language == "en" else one.p_adjusted > 0.05


def test_every_kind_has_as_many_different_words_in_every_language():
    for test in TESTS.values():
        for kind in test.words:
            assert set(kind) == {"en", "de", "fr", "es"}
            assert all(len(set(words)) == len(words) == 8 for words in kind.values())
        for language in ("en", "de", "fr", "es"):
            words = [word for kind in test.words for word in kind[language]]
            assert len(set(words)) == len(words)


def test_an_unknown_test_is_refused():
    with pytest.raises(ConfigError, match="career and family"):
        AssociationPlan.from_dict({"tests": ["astrology"]})
