"""AUC, AUC within people, log loss; intervals that know that a person's rows hang together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from koinon.errors import EvaluationError
from koinon.evaluation.clicks import auc, click_gains, click_intervals, gauc, log_loss

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(ROWS)
@settings(deadline=None)
def test_auc_is_scikit_learns_with_ties(rows):
    label, score = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assert auc(label, score) == pytest.approx(roc_auc_score(label, score))


def test_log_loss_is_scikit_learns():
    rng = np.random.default_rng(0)
    label, chance = rng.integers(2, size=50), rng.random(50)
    assert log_loss(label, chance) == pytest.approx(sklearn_log_loss(label, chance))


def test_certainty_that_is_wrong_costs_much_but_not_all():
    assert log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-np.log(1e-7))


def test_gauc_counts_each_person_by_rows_and_leaves_out_who_cannot_be_told():
    person = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    label = np.array([1, 0, 1, 0, 0, 0, 1, 1])
    score = np.array([0.9, 0.1, 0.5, 0.6, 0.4, 0.3, 0.2, 0.1])
    assert gauc(label, score, person) == pytest.approx((2 * 1.0 + 4 * 2 / 3) / 6)


def test_a_level_that_differs_between_people_helps_auc_but_not_gauc():
    person = np.repeat(np.arange(40), 10)
    easy = person % 2
    rng = np.random.default_rng(1)
    label = (rng.random(400) < np.where(easy, 0.9, 0.1)).astype(float)
    assert auc(label, easy.astype(float)) > 0.8
    assert gauc(label, easy.astype(float), person) == 0.5


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1]])
def test_one_label_alone_is_refused(label):
    with pytest.raises(EvaluationError) as raised:
        auc(np.array(label), np.array([0.1, 0.2, 0.3]))
    assert raised.value.code == "K560"


def test_nobody_with_both_labels_is_refused():
    with pytest.raises(EvaluationError) as raised:
        gauc(np.array([0, 1]), np.array([0.1, 0.2]), np.array([0, 1]))
    assert raised.value.code == "K560"


@pytest.mark.parametrize("score", [[0.1, np.nan], [0.1, 0.2, 0.3], []])
def test_scores_that_are_no_numbers_or_too_many_are_refused(score):
    with pytest.raises(EvaluationError) as raised:
        log_loss(np.array([0, 1]), np.array(score))
    assert raised.value.code == "K561"


def clustered(people: int, rows: int, seed: int):
    """Each person's rows share a push, so that rows alone promise too much."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), rows)
    push = rng.normal(size=people)[person]
    label = (rng.random(people * rows) < 1 / (1 + np.exp(-2 * push))).astype(float)
    return person, label, push + rng.normal(size=people)[person]


def test_intervals_hold_the_figure_and_are_wider_than_rows_apart_would_say():
    person, label, score = clustered(60, 20, 2)
    chance = 1 / (1 + np.exp(-score))
    found = click_intervals(label, chance, person, samples=300)["auc"]
    assert found.lo < found.mean < found.hi
    assert found.n == 60
    apart = click_intervals(label, chance, np.arange(len(person)) // 2, samples=300)["auc"]
    assert found.hi - found.lo > 2 * (apart.hi - apart.lo)


def test_the_same_seed_gives_the_same_interval():
    person, label, score = clustered(20, 8, 3)
    chance = 1 / (1 + np.exp(-score))
    assert click_intervals(label, chance, person, samples=50) == click_intervals(label, chance, person, samples=50)


def test_an_arm_gains_nothing_over_itself():
    person, label, score = clustered(20, 8, 4)
    gain = click_gains(label, score, score, person, samples=50)["auc"]
    assert (gain.gain, gain.lo, gain.hi, gain.p) == (0, 0, 0, 1)


def test_a_better_arm_gains_and_a_worse_one_loses_as_much():
    person, label, score = clustered(80, 10, 5)
    better = score + 2 * (label - 0.5)
    up = click_gains(label, better, score, person, samples=200)["auc"]
    down = click_gains(label, score, better, person, samples=200)["auc"]
    assert up.gain == pytest.approx(-down.gain)
    assert up.lo > 0
    assert up.p < 0.02
