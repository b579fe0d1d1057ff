"""Verdicts: what each says, and that nothing unseen reads as fair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.fairness.verdicts import VERDICTS, adjust, judge, worst_of


@pytest.mark.parametrize(
    ("lo", "hi", "p", "complete", "verdict"),
    [
        (0.0, 0.04, 0.5, True, "pass"),
        (0.01, 0.04, 0.001, True, "pass"),  # a difference, but within what is tolerated
        (0.06, 0.12, 0.001, True, "fail"),
        (0.06, 0.12, 0.2, True, "fail"),
        (0.02, 0.12, 0.01, True, "concern"),
        (0.0, 0.12, 0.2, True, "insufficient evidence"),
        (0.0, 0.04, 0.5, False, "insufficient evidence"),
        (0.01, 0.04, 0.01, False, "concern"),
        (0.06, 0.12, 0.01, False, "fail"),
        (np.nan, np.nan, np.nan, True, "insufficient evidence"),
    ],
)
def test_the_verdict_follows_from_interval_and_tolerance(lo, hi, p, complete, verdict):
    found, reason = judge(0.05, lo, hi, p, complete=complete)
    assert found == verdict
    assert reason.endswith(".")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_could_not_be_judged_never_passes(lo, width, p):
    assert judge(0.05, lo, lo + width, p, complete=False)[0] != "pass"


def test_the_whole_is_as_good_as_its_worst_part():
    assert worst_of(["pass", "concern", "insufficient evidence"]) == "concern"
    assert worst_of(["pass", "pass"]) == "pass"
    assert worst_of([]) == "insufficient evidence"
    assert VERDICTS[0] == "fail"


def test_primary_questions_are_adjusted_by_holm_and_the_others_by_benjamini_and_hochberg():
    p = [0.01, 0.04, 0.03, np.nan]
    np.testing.assert_allclose(adjust(p, primary=True), [0.03, 0.06, 0.06, np.nan])
    np.testing.assert_allclose(adjust(p, primary=False), [0.03, 0.04, 0.04, np.nan])
    assert adjust([], primary=False) == []
