"""Intervals, paired gains and Holm."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from koinon.errors import EvaluationError
from koinon.evaluation import bootstrap_mean, holm, paired_gain


def test_an_interval_agrees_with_the_normal_one_on_many_users():
    values = np.random.default_rng(1).normal(0.3, 1.0, size=4000)
    interval = bootstrap_mean(values, seed=2)
    half = 1.96 / np.sqrt(4000)
    assert interval.lo == pytest.approx(values.mean() - half, abs=0.003)
    assert interval.hi == pytest.approx(values.mean() + half, abs=0.003)
    assert interval == bootstrap_mean(values, seed=2)


def test_an_empty_slice_has_no_mean_and_says_so_in_json():
    assert bootstrap_mean(np.empty(0)).as_dict() == {"mean": None, "lo": None, "hi": None, "n": 0}


def test_pairing_finds_a_small_gain_that_two_separate_intervals_would_hide():
    rng = np.random.default_rng(3)
    baseline = rng.random(500)
    arm = baseline + 0.01 + rng.normal(0, 0.02, 500)
    gain = paired_gain(arm, baseline, seed=4)
    assert 0 < gain.lo < gain.gain < gain.hi
    assert gain.relative == pytest.approx(gain.gain / baseline.mean())
    assert gain.p < 0.01
    assert bootstrap_mean(arm).lo < bootstrap_mean(baseline).hi


def test_an_arm_equals_itself():
    values = np.random.default_rng(3).random(50)
    gain = paired_gain(values, values)
    assert (gain.gain, gain.lo, gain.hi, gain.p) == (0, 0, 0, 1)


def test_no_difference_is_found_in_noise_at_about_the_nominal_rate():
    rng = np.random.default_rng(9)
    p = [paired_gain(rng.random(80), rng.random(80), seed=i, samples=400).p for i in range(200)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.10


def test_users_that_do_not_match_are_refused():
    with pytest.raises(EvaluationError, match="K503"):
        paired_gain(np.zeros(3), np.zeros(4))


def test_holm_on_a_known_example():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= 1).all()
    assert all(adjusted[i] <= adjusted[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])
