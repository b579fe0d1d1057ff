"""Remedies that learn anew: weights of groups, shares of recommenders, erased concepts, equal rates."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import equalized_odds_difference
from fairlearn.preprocessing import CorrelationRemover
from sklearn.linear_model import LogisticRegression

from koinon.fairness.mitigation.adversarial import AdversarialConfig, adversarial_map
from koinon.fairness.mitigation.choosing import ByGroup, shares_of
from koinon.fairness.mitigation.clicks import group_thresholds
from koinon.fairness.mitigation.decorrelated import Decorrelated
from koinon.fairness.mitigation.erasing import ErasedSpace, eraser_of, mean_vectors
from koinon.fairness.mitigation.weighting import balancing_weights, weighted_domain
from koinon.recommenders.conventional import EASE, EaseConfig
from koinon.recommenders.protocol import Request
from tests.fairness.mitigation.conftest import Told, asking, domain_of


def random_domain(people=40, items=12, seed=0):
    rng = np.random.default_rng(seed)
    return domain_of([rng.choice(items, 4, replace=False).tolist() for _ in range(people)], items)


def test_balancing_weights_by_hand():
    group = np.array([0, 0, 0, 0, 1, -1])
    assert balancing_weights(group, 0.0).tolist() == [1] * 6
    assert balancing_weights(group, 1.0).tolist() == [1, 1, 1, 1, 4, 1]
    assert balancing_weights(group, 0.5).tolist() == [1, 1, 1, 1, 2, 1]


def test_a_recommender_fitted_on_weighted_people_is_the_weighted_closed_form():
    domain = random_domain()
    weights = np.array([1.0, 2.0, 3.0, 1.0] * 10)
    told = weighted_domain(domain, weights, rng=np.random.default_rng(0))
    fitted = EASE(EaseConfig(lambda_=5.0)).fit(told, None, rng=np.random.default_rng(0))
    x = domain.matrix.toarray().astype(float)
    inverse = np.linalg.inv(x.T @ np.diag(weights) @ x + 5.0 * np.eye(12))
    expected = np.eye(12) - inverse / np.diag(inverse)
    np.testing.assert_allclose(fitted.weights, expected, atol=1e-5)
    assert told.user_ids[:40] == domain.user_ids
    assert len(set(told.user_ids)) == told.n_users == weights.sum()


def test_parts_of_weights_are_right_on_average():
    domain = random_domain(1000)
    told = weighted_domain(domain, np.full(1000, 1.3), rng=np.random.default_rng(0))
    assert told.n_users == pytest.approx(1300, abs=60)


def test_shares_by_hand():
    """Group 0 is served .5 or .3, group 1 .2 or .25; a gap of .1 costs the first group three quarters of its lead."""
    quality, sizes = np.array([[0.5, 0.3], [0.2, 0.25]]), np.array([3.0, 1.0])
    np.testing.assert_allclose(shares_of(quality, sizes, gap=1.0), [[1, 0], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(shares_of(quality, sizes, gap=0.1), [[0.25, 0.75], [0, 1]], atol=1e-9)
    nearest = shares_of(quality, sizes, gap=0.0)
    np.testing.assert_allclose((nearest * quality).sum(axis=1), [0.3, 0.25], atol=1e-9)  # nearer they cannot come


def test_people_are_dealt_out_by_their_groups_shares_and_always_alike():
    domain = random_domain(600)
    group = np.repeat([0, 1, -1], 200)
    told = [Told(np.full((600, 12), float(number))) for number in (1, 2)]
    served = ByGroup(told, group, np.array([[0.25, 0.75], [1.0, 0.0]])).learn(domain)
    by_second = served.score(asking(domain))[:, 0] == 2.0
    assert by_second[:200].mean() == pytest.approx(0.75, abs=0.08)
    assert not by_second[200:].any()
    again = ByGroup(told, group, np.array([[0.25, 0.75], [1.0, 0.0]])).learn(domain)
    assert (again.score(asking(domain))[:, 0] == 2.0).tolist() == by_second.tolist()


def test_decorrelated_scores_are_fairlearns():
    domain = random_domain(200)
    rng = np.random.default_rng(1)
    group = rng.integers(0, 3, 200)
    table = rng.normal(size=(200, 12)) + group[:, None] * rng.normal(size=12)
    changed = Decorrelated(Told(table), group, dial=1.0).learn(domain).score(asking(domain))
    columns = np.hstack([np.eye(3)[group][:, 1:], table])
    expected = CorrelationRemover(sensitive_feature_ids=[0, 1], alpha=1.0).fit_transform(columns)
    np.testing.assert_allclose(changed - changed.mean(axis=0), expected - expected.mean(axis=0), atol=1e-4)
    means = [changed[group == one].mean(axis=0) for one in range(3)]
    np.testing.assert_allclose(means, [means[0]] * 3, atol=1e-4)
    stranger = Decorrelated(Told(table), np.where(group == 0, -1, group), dial=1.0).learn(domain)
    np.testing.assert_array_equal(stranger.score(asking(domain))[group == 0], table.astype(np.float32)[group == 0])


def test_the_dial_takes_out_its_part():
    domain = random_domain(100)
    group = np.arange(100) % 2
    table = np.random.default_rng(0).normal(size=(100, 12)) + group[:, None]
    apart = [
        np.ptp([Decorrelated(Told(table), group, dial=d).learn(domain).score(asking(domain))[group == g].mean()
                for g in (0, 1)])
        for d in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    np.testing.assert_allclose(apart, [apart[0], apart[0] / 2, 0.0], atol=1e-4)


class Vectors:
    """A space with the vectors it is given."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.dimension, self.fingerprint = vectors.shape[1], "v"

    def encode(self, texts):
        return self.vectors[[int(one[1:]) for one in texts]]


def coded(people=600, items=60, dimension=8, seed=0):
    """People of two groups take items from two overlapping halves of a space."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items, dimension)) + np.outer(np.arange(items) / items, rng.normal(size=dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = rng.integers(0, 2, people)
    histories = [
        rng.choice(items, 5, replace=False, p=(w := np.exp((2 * g - 1) * np.arange(items) / items)) / w.sum()).tolist()
        for g in group
    ]
    return domain_of(histories, items), vectors.astype(np.float32), group


def linear_accuracy(people, group):
    return LogisticRegression(C=1e6, max_iter=5000).fit(people, group).score(people, group)


def test_after_erasure_no_linear_classifier_tells_the_groups_apart():
    domain, vectors, group = coded()
    people = mean_vectors(domain, vectors)
    eraser = eraser_of(people, group)
    erased = mean_vectors(domain, eraser(vectors.astype(float)))
    np.testing.assert_allclose(erased, eraser(people), atol=1e-9)  # changing items changes people by the same map
    centred = group - group.mean()
    np.testing.assert_allclose(centred @ erased, 0.0, atol=1e-8)
    majority = max(group.mean(), 1 - group.mean())
    assert linear_accuracy(people, group) > majority + 0.1
    assert linear_accuracy(erased, group) < majority + 0.01
    assert np.linalg.matrix_rank(eraser.removed, tol=1e-8) == 1


def test_no_map_that_erases_changes_people_less():
    """Least squares onto the group is another map that leaves no correlation; LEACE moves people no farther."""
    domain, vectors, group = coded()
    people = mean_vectors(domain, vectors)
    direction = people[group == 1].mean(axis=0) - people[group == 0].mean(axis=0)
    direction /= np.linalg.norm(direction)
    projected = people - np.outer((people - people.mean(axis=0)) @ direction, direction)
    erased = eraser_of(people, group)(people)
    np.testing.assert_allclose((group - group.mean()) @ projected, 0.0, atol=1e-8)
    assert ((erased - people) ** 2).sum() <= ((projected - people) ** 2).sum() + 1e-9


def test_an_erased_space_is_a_space_from_which_the_group_can_hardly_be_read():
    domain, vectors, group = coded(dimension=32)
    space, eraser = Vectors(vectors), eraser_of(mean_vectors(domain, vectors), group)
    half, whole, none = (ErasedSpace(space, eraser, dial) for dial in (0.5, 1.0, 0.0))
    np.testing.assert_allclose(np.linalg.norm(whole.encode(domain.texts), axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(none.encode(domain.texts), vectors, atol=1e-6)
    assert len({half.fingerprint, whole.fingerprint, none.fingerprint, space.fingerprint}) == 4
    before, between, after = (
        np.abs(np.corrcoef(mean_vectors(domain, one.encode(domain.texts)).T, group)[-1, :-1]).max()
        for one in (space, half, whole)
    )
    assert after < between < before
    assert after < before / 3


def test_thresholds_give_groups_equal_rates():
    rng = np.random.default_rng(0)
    group = np.where(rng.random(4000) < 0.4, "a", "b")
    clicked = rng.random(4000) < 0.5
    score = clicked + rng.normal(size=4000) * np.where(group == "a", 1.5, 0.5) + (group == "b")
    plain = score > np.median(score)
    fitted = group_thresholds(score, clicked, group)
    decided = fitted.predict(score[:, None], sensitive_features=group, random_state=0)
    before = equalized_odds_difference(clicked, plain, sensitive_features=group)
    after = equalized_odds_difference(clicked, decided, sensitive_features=group)
    assert before > 0.2
    assert after < 0.06


def test_an_unknown_person_is_served_by_the_first():
    told = [Told(np.full((1, 3), float(number))) for number in (1, 2)]
    served = ByGroup(told, np.array([1]), np.array([[1.0, 0.0], [0.0, 1.0]])).learn(domain_of([[0]], 3))
    assert served.score([Request(np.array([0], dtype=np.int32), 0)])[0, 0] == 2.0


def test_an_adversarial_map_hides_a_group_and_without_an_adversary_stays_where_it_is():
    rng = np.random.default_rng(0)
    group = np.arange(400) % 2
    vectors = rng.normal(size=(40, 6))
    vectors[:20, 0] += 2.0  # what group 1 takes more of
    taken = [rng.choice(40, 6, replace=False, p=np.repeat([1.0 + 2 * one, 3.0 - 2 * one], 20) / 80) for one in group]
    domain = domain_of([row.tolist() for row in taken], 40)

    def read(changed):
        people = mean_vectors(domain, changed)
        scores = LogisticRegression().fit(people[:200], group[:200]).predict_proba(people[200:])[:, 1]
        return float(np.mean([a > b for a in scores[group[200:] == 1] for b in scores[group[200:] == 0]]))

    seen = np.where(np.arange(400) < 200, group, -1)
    strong = adversarial_map(domain, vectors, seen, AdversarialConfig(strength=10.0, width=16, steps=200))
    assert read(vectors) > 0.8
    assert read(strong(vectors)) < read(vectors) - 0.15
    still = adversarial_map(domain, vectors, seen, AdversarialConfig(strength=0.0, width=16, steps=50))
    assert np.abs(still(vectors) - vectors).max() < 0.05
    again = adversarial_map(domain, vectors, seen, AdversarialConfig(strength=10.0, width=16, steps=200))
    assert again.fingerprint() == strong.fingerprint() != still.fingerprint()
