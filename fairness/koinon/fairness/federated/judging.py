"""From totals to an audit's results, by the same verdicts as where rows are at hand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from koinon.fairness.adjusting import adjusted
from koinon.fairness.comparing import how_divided
from koinon.fairness.entropy import generalised_entropy
from koinon.fairness.federated.layout import joint_name
from koinon.fairness.federated.noisy import NoisyMeans, means_of
from koinon.fairness.federated.totals import DivisionSums, Totals
from koinon.fairness.gaps import gap_of, limit_p
from koinon.fairness.metrics import METRICS
from koinon.fairness.plan import AuditPlan
from koinon.fairness.results import (
    AuditResults,
    Cell,
    Comparison,
    Estimate,
    Federated,
    Federation,
    Group,
    PartnerGain,
    Recorded,
)
from koinon.fairness.verdicts import worst_of

__all__ = ["judge_totals"]

Doubles = NDArray[np.float64]

_LIBRARIES = ("numpy", "scipy", "polars")


def judge_totals(plan: AuditPlan, recorded: Recorded, totals: Totals, *, seconds: float = 0.0) -> AuditResults:
    """Judge an audit of a federation.

    Deterministic in plan and totals, but for ``seconds`` and the versions: whoever has the two can repeat it.

    Parameters
    ----------
    plan
        As it was entered; its hash is the one that ``totals`` names.
    recorded
        Where it was entered.
    totals
        What came of the round.
    seconds
        That it took.
    """
    asked = {(one.metric, one.group): one.tolerance for one in plan.primary}
    divisions = {division.name: division for division in totals.divisions}
    found = [
        _compare(plan, totals, divisions[group], metric, tolerance) for (metric, group), tolerance in asked.items()
    ]
    for name in _told(plan):
        found += [
            _compare(plan, totals, divisions[name], metric, None)
            for metric in plan.metrics
            if (metric, name) not in asked
        ]
    found += [
        _at_equal(plan, totals, divisions, one.metric, one.group, control)
        for one in plan.primary
        for control in plan.control
        if control not in one.group.split("*")
    ]
    comparisons, _ = adjusted(found, (), lambda one: not totals.missing and _everybody(one, divisions[one.group]))
    return AuditResults(
        koinon_version=version("koinon"),
        created=totals.created,
        name=plan.name,
        question=plan.question,
        verdict=worst_of([one.verdict for one in comparisons if one.verdict is not None]),
        plan_sha256=totals.plan_sha256,
        plan=plan.model_dump(mode="json"),
        record=recorded,
        sources=[],
        people=max(0, round(max(people for people, _, _ in totals.everybody.values()))),
        at_several_sources=None,
        excluded={},
        comparisons=comparisons,
        providers=[],
        groups=[_group(plan, totals, divisions[name]) for name in _told(plan)],
        overall=_overall(plan, totals),
        catalogues=[],
        labels=[],
        federation=_gains(plan, totals),
        federated=Federated(
            federation=totals.federation,
            policy_sha256=totals.policy_sha256,
            secure=totals.secure,
            partners=totals.partners,
            privacy=totals.privacy,
            totals_sha256=totals.sha256(),
        ),
        seconds=round(seconds, 2),
        versions={library: version(library) for library in _LIBRARIES},
    )


def _told(plan: AuditPlan) -> list[str]:
    """Divisions that are reported on; others serve a control alone."""
    return [*(group.name for group in plan.groups), *("*".join(names) for names in plan.intersections)]


def _everybody(one: Comparison, division: DivisionSums) -> bool:
    return not division.vanished and one.cells == len(division.cells)


def _means(
    plan: AuditPlan, totals: Totals, division: DivisionSums, metric: str
) -> tuple[list[str], Doubles, NoisyMeans | None]:
    """Cells that have the metric, their sums ``float64[3, cells]``, and their means in the metric's units."""
    told = {cell.label: cell.figures[metric] for cell in division.cells if metric in cell.figures}
    if not told:
        return [], np.empty((3, 0)), None
    sums = np.array(list(told.values())).T
    return list(told), sums, _in_units(means_of(sums[0], sums[1], sums[2], totals.noise), metric)


def _in_units(means: NoisyMeans, metric: str) -> NoisyMeans:
    low, high = METRICS[metric].span
    width = high - low
    return NoisyMeans(
        low + width * (means.mean + 0.5), width * means.error, means.freedom, low + width * (means.shrunken + 0.5)
    )


def _compare(
    plan: AuditPlan, totals: Totals, division: DivisionSums, metric: str, tolerance: float | None
) -> Comparison:
    labels, sums, means = _means(plan, totals, division, metric)
    entropy = _entropy(metric, sums) if totals.privacy is None and len(labels) > 1 else (None, None)
    return _comparison(plan, metric, division.name, labels, means, tolerance=tolerance, entropy=entropy)


def _at_equal(
    plan: AuditPlan, totals: Totals, divisions: Mapping[str, DivisionSums], metric: str, group: str, control: str
) -> Comparison:
    """The same groups at equal levels of a control: each level weighs the same in every group.

    Only levels at which every group that is shown has enough people, as where rows are at hand.
    """
    labels = [cell.label for cell in divisions[group].cells if cell.people is not None]
    joint = {cell.label: cell for cell in divisions[joint_name(group, control)].cells}
    table = [
        [joint.get(f"{label} × {level.label}") for label in labels]
        for level in divisions[control].cells
        if level.people is not None
    ]
    used = [row for row in table if len(row) > 1 and all(cell is not None and metric in cell.figures for cell in row)]
    if not used:
        return _comparison(plan, metric, group, [], None, at_equal=control)
    people = np.array([[cell.people for cell in row if cell is not None] for row in used], dtype=np.float64)
    weight = people.sum(axis=1) / people.sum()
    sums = np.array([cell.figures[metric] for row in used for cell in row if cell is not None]).T
    cells = _in_units(means_of(sums[0], sums[1], sums[2], totals.noise), metric)
    shape = (len(used), len(labels))
    means = NoisyMeans(
        weight @ cells.mean.reshape(shape),
        np.sqrt(weight**2 @ cells.error.reshape(shape) ** 2),
        cells.freedom.reshape(shape).sum(axis=0),
        np.full(len(labels), np.nan),
    )
    return _comparison(plan, metric, group, labels, means, at_equal=control)


def _comparison(
    plan: AuditPlan,
    metric: str,
    group: str,
    labels: list[str],
    means: NoisyMeans | None,
    *,
    tolerance: float | None = None,
    at_equal: str | None = None,
    entropy: tuple[float | None, float | None] = (None, None),
) -> Comparison:
    facts: dict[str, object] = {
        "family": "primary" if tolerance is not None else "exploratory",
        "metric": metric,
        "group": group,
        "at_equal": at_equal,
        "cells": len(labels),
        "tolerance": tolerance,
        "p_adjusted": None,
        "verdict": None,
    }
    if means is None or len(labels) < 2:
        nothing = ("best", "worst", "gap", "gap_by_chance", "lo", "hi", "ratio", "entropy", "entropy_between", "p")
        why = "at equal levels " if at_equal else ""
        said = f"Not compared: {why}fewer than two groups have enough people with a value."
        return Comparison.model_validate({**facts, **dict.fromkeys(nothing), "reason": said})
    gap = gap_of(means.mean, means.error, means.freedom, level=plan.level, seed=plan.seed)
    p, by_chance = limit_p(means.mean, means.error, means.freedom, draws=plan.draws, seed=plan.seed)
    ends = (gap.worst, gap.best) if METRICS[metric].better == "less" else (gap.best, gap.worst)
    low, high = float(means.mean.min()), float(means.mean.max())
    width = METRICS[metric].span[1] - METRICS[metric].span[0]  # noise may say more, the truth cannot
    return Comparison.model_validate(
        {
            **facts,
            "best": labels[ends[0]],
            "worst": labels[ends[1]],
            "gap": min(gap.plain, width),
            "gap_by_chance": by_chance,
            "lo": min(gap.lo, width),
            "hi": min(gap.hi, width),
            "ratio": low / high if low >= 0 and high > 0 else None,
            "entropy": entropy[0],
            "entropy_between": entropy[1],
            "p": p,
            "reason": "",
        }
    )


def _entropy(metric: str, sums: Doubles) -> tuple[float | None, float | None]:
    """Where no figure of the metric may be negative, from sums without noise."""
    low, high = METRICS[metric].span
    people, total, squares = sums
    width, middle = high - low, (high + low) / 2
    figures = middle * people + width * total
    if low < 0 or figures.sum() <= 0:
        return None, None
    return generalised_entropy(people, figures, middle**2 * people + 2 * middle * width * total + width**2 * squares)


def _group(plan: AuditPlan, totals: Totals, division: DivisionSums) -> Group:
    figures: dict[str, dict[str, Estimate]] = {cell.label: {} for cell in division.cells}
    for metric in plan.metrics:
        labels, sums, means = _means(plan, totals, division, metric)
        for label in figures:
            figures[label][metric] = Estimate(mean=None, lo=None, hi=None, n=None)
        if means is not None:
            for place, label in enumerate(labels):
                figures[label][metric] = _estimate(plan, metric, sums[0], means, place)
    noise = totals.noise.people or None
    return Group(
        name=division.name,
        how=how_divided(plan, division.name),
        unknown=round(division.unknown),
        vanished=division.vanished,
        pooled=[],
        coverage_users=None,
        cells=[
            Cell(
                label=cell.label,
                n=None if cell.people is None else round(cell.people),
                hidden=cell.people is None,
                figures={} if cell.people is None else figures[cell.label],
                n_noise=None if cell.people is None else noise,
            )
            for cell in division.cells
        ],
    )


def _estimate(plan: AuditPlan, metric: str, people: Doubles, means: NoisyMeans, place: int) -> Estimate:
    """A mean with Student's interval, within the metric's span."""
    low, high = METRICS[metric].span
    said = float(means.mean[place])
    half = float(t.ppf((1 + plan.level) / 2, means.freedom[place]) * means.error[place])
    lo, mean, hi, shrunken = np.clip([said - half, said, said + half, means.shrunken[place]], low, high).tolist()
    return Estimate(
        mean=mean, lo=lo, hi=hi, n=round(people[place]), shrunken=shrunken if np.isfinite(shrunken) else None
    )


def _overall(plan: AuditPlan, totals: Totals) -> dict[str, Estimate]:
    found = {}
    for metric, sums in totals.everybody.items():
        if sums[0] < max(2, plan.minimum_cell):
            found[metric] = Estimate(mean=None, lo=None, hi=None, n=None)
            continue
        row = np.array(sums)[:, None]
        found[metric] = _estimate(
            plan, metric, row[0], _in_units(means_of(row[0], row[1], row[2], totals.noise), metric), 0
        )
    return found


def _gains(plan: AuditPlan, totals: Totals) -> Federation | None:
    """What federating has brought each partner, as far as it is told."""
    if not totals.gains:
        return None
    told = [_gain(plan, partner, np.array(row), totals.gains_noise) for partner, row in totals.gains.items()]
    gains = [one.gain for one in told]
    return Federation(
        metric=f"ndcg@{plan.k}",
        partners=told,
        minimum=min(gains),
        median=float(np.median(gains)),
        share_harmed=float(np.mean([one.harmed for one in told])),
        worst_language=None,
        worst_language_gain=None,
    )


def _gain(plan: AuditPlan, partner: str, row: Doubles, noise: float) -> PartnerGain:
    people, local, deployed, squares, worse = row
    gain = (deployed - local) / people
    spread = max((squares - ((deployed - local) ** 2 - 2 * noise**2) / people) / (people - 1), 0.0)
    error = np.sqrt(spread / people + (2 + gain**2) * noise**2 / people**2)
    half = float(t.ppf((1 + plan.level) / 2, people - 1) * error)
    return PartnerGain(
        partner=partner,
        language=None,
        users=round(people),
        local=float(np.clip(local / people, 0.0, 1.0)),
        federated=float(np.clip(deployed / people, 0.0, 1.0)),
        gain=float(gain),
        lo=float(gain - half),
        hi=float(gain + half),
        harmed=bool(gain + half < 0),
        users_worse=float(np.clip(worse / people, 0.0, 1.0)),
    )
