"""From intervals and p-values to verdicts: what was shown, what was not, and how many questions were asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control

from koinon.evaluation import holm

__all__ = ["VERDICTS", "Verdict", "adjust", "judge", "worst_of"]

Verdict = Literal["pass", "fail", "concern", "insufficient evidence"]

VERDICTS: tuple[Verdict, ...] = ("fail", "concern", "insufficient evidence", "pass")
"""Worst first."""

_LEVEL = 0.05


def judge(tolerance: float, lo: float, hi: float, p_adjusted: float, *, complete: bool) -> tuple[Verdict, str]:
    """Say what an interval of a gap means under a tolerance.

    - *fail*: the whole interval lies above the tolerance;
    - *pass*: the whole interval lies within it, and every group was judged;
    - *concern*: the adjusted p-value shows that there is a difference, but not whether it exceeds the tolerance;
    - *insufficient evidence*: anything else. No difference found is not the same as none there, and a group that has
      vanished or is too small to be shown was not found to be treated alike.

    Parameters
    ----------
    tolerance
        Above 0, in the metric's units.
    lo, hi
        Interval of the largest gap.
    p_adjusted
        Of no difference at all, adjusted for the number of primary questions.
    complete
        Whether every group that ought to be there was judged.

    Returns
    -------
    The verdict and its reason in a sentence.
    """
    if not (np.isfinite(lo) and np.isfinite(hi)):
        return "insufficient evidence", "There are no two groups large enough to compare."
    if lo > tolerance:
        return "fail", "The whole interval of the gap lies above the tolerance."
    if hi <= tolerance and complete:
        return "pass", "The whole interval of the gap lies within the tolerance."
    if p_adjusted < _LEVEL:
        inside = "within" if hi <= tolerance else "on both sides of"
        missing = "" if complete else " Some groups could not be judged."
        return "concern", f"There is a difference, and its interval lies {inside} the tolerance.{missing}"
    if hi <= tolerance:
        return "insufficient evidence", "The groups judged are within the tolerance, but some could not be judged."
    return "insufficient evidence", "Neither a difference nor its absence is shown: the interval is too wide."


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of several verdicts; without any, ``insufficient evidence``."""
    return min(verdicts, key=VERDICTS.index, default="insufficient evidence")


def adjust(p_values: Sequence[float], *, primary: bool) -> list[float]:
    """Adjust for the number of questions; nan stays nan and counts for none.

    Primary ones by Holm (the chance of any false alarm is held), exploratory ones by Benjamini and Hochberg (the share
    of false alarms among the alarms is).
    """
    values = np.asarray(p_values, dtype=np.float64)
    if primary:
        return [float(value) for value in holm(values.tolist())]
    adjusted = np.full(len(values), np.nan)
    asked = np.isfinite(values)
    if asked.any():
        adjusted[asked] = false_discovery_control(values[asked], method="bh")
    return [float(value) for value in adjusted]
