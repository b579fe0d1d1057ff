"""The question of chances: click models on the same rows, held against the best conventional one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from koinon.evaluation import holm
from koinon.evaluation.clicks import CLICK_METRICS, click_gains
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.data import open_data, parse_spec
from koinon.studies.paradigms.plan import Plan
from koinon.studies.paradigms.results import Clicks
from koinon.studies.paradigms.setup import Setup
from koinon.studies.report.results import Estimate, Gain

__all__ = ["click_results"]

Facts = Mapping[int, Mapping[str, dict[str, Any]]]


def click_results(
    measured: Mapping[str, tuple[Arm, Facts, Mapping[int, Path]]], plan: Plan, setup: Setup
) -> tuple[dict[str, Clicks], str | None]:
    """Figures of every arm that told chances, and the arm they are held against.

    That is the conventional one with the best AUC on validation, mean over seeds. Gains are of the first seed, over
    people; Holm over the arms for each metric.
    """
    told = {name: one for name, one in measured.items() if any("clicks" in facts for facts in one[1].values())}
    if not told:
        return {}, None
    data = open_data(parse_spec(setup.text), plan.study).clicks
    assert data is not None
    chances, seeds = {}, {}
    for name, (_, facts, folders) in told.items():
        seeds[name] = [seed for seed in facts if "clicks" in facts[seed]]
        chances[name] = {
            seed: np.load(folders[seed] / "clicks" / "test-chances.npy", allow_pickle=False) for seed in seeds[name]
        }
    validation = {
        name: float(np.mean([facts[seed]["clicks"]["validation"]["auc"] for seed in seeds[name]]))
        for name, (arm, facts, _) in told.items()
        if arm.paradigm == "conventional"
    }
    reference = max(validation, key=lambda name: validation[name]) if validation else None
    label, person = data.test.label, data.test.person
    gains = {
        name: click_gains(
            label, chances[name][seeds[name][0]], chances[reference][seeds[reference][0]], person, samples=500
        )
        for name in told
        if reference is not None and name != reference
    }
    adjusted = {
        metric: dict(zip(gains, holm([gain[metric].p for gain in gains.values()]), strict=True))
        for metric in CLICK_METRICS
    }
    people = len(np.unique(person))
    found = {}
    for name, (_, facts, _) in told.items():
        each = [facts[seed]["clicks"]["test"] for seed in seeds[name]]
        found[name] = Clicks(
            figures={metric: Estimate.model_validate(each[0][metric]) for metric in CLICK_METRICS},
            over_seeds={metric: float(np.mean([one[metric]["mean"] for one in each])) for metric in CLICK_METRICS},
            validation=float(np.mean([facts[seed]["clicks"]["validation"]["auc"] for seed in seeds[name]])),
            gains={
                metric: Gain(
                    relative=None, relative_lo=None, relative_hi=None, mean=gain.gain, lo=gain.lo, hi=gain.hi,
                    p=gain.p, p_holm=float(adjusted[metric][name]), n=people,
                )
                for metric, gain in gains.get(name, {}).items()
            },
        )  # fmt: skip
    return found, reference
