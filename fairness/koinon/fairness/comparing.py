"""Comparing the cells of every group, one drawing of users behind all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from koinon.fairness.cells import Grouping
from koinon.fairness.entropy import generalised_entropy
from koinon.fairness.exposure import rarefied_coverage
from koinon.fairness.frames import metric_frame
from koinon.fairness.gaps import gap_of, limit_p, permutation_p
from koinon.fairness.lists import Given
from koinon.fairness.metrics import METRICS
from koinon.fairness.moments import Moments, moments_of
from koinon.fairness.plan import AuditPlan
from koinon.fairness.resampling import bootstrap_means, permuted_moments
from koinon.fairness.results import Cell, Comparison, Estimate, Group
from koinon.fairness.units import Units

__all__ = ["Comparer", "how_divided"]

Doubles = NDArray[np.float64]

_RELABELLED = 200_000
"""Beyond so many users the permutation test has reached its limit, which costs nothing."""


@dataclass(frozen=True)
class _Means:
    """Means of cells, of one metric or several: estimates, errors, their freedom, and resampled deviations.

    ``float64[cells]`` each, and ``float64[draws, cells]``.
    """

    mean: Doubles
    error: Doubles
    freedom: Doubles
    scatter: Doubles


class Comparer:
    """Everything that is compared in one audit.

    Parameters
    ----------
    plan
        As it was entered.
    units
        People.
    groupings
        By name, intersections included.
    """

    def __init__(self, plan: AuditPlan, units: Units, groupings: Mapping[str, Grouping]) -> None:
        self.plan, self.units, self.groupings = plan, units, groupings
        self._permuted: dict[tuple[str, str | None, int | None], Moments] = {}
        pairs = {(one.group, control) for one in plan.primary for control in plan.control}
        self._levels = {pair: _levels(groupings[pair[0]], groupings[pair[1]], plan.minimum_cell) for pair in pairs}
        cells: dict[tuple[str, str | None], tuple[NDArray[np.int64], int]] = {
            (name, None): (grouping.cell, len(grouping.labels)) for name, grouping in groupings.items()
        }
        cells |= {pair: (found.joint, found.groups * found.levels) for pair, found in self._levels.items()}
        everybody = (np.zeros(len(units), dtype=np.int64), 1)
        given = [everybody, *cells.values()]
        drawn = bootstrap_means(
            units.values, [cell for cell, _ in given], [size for _, size in given], units.stratum,
            draws=plan.draws, seed=plan.seed,
        )  # fmt: skip
        self._everybody = drawn[0]
        self._drawn = dict(zip(cells, drawn[1:], strict=True))
        self._moments = {key: moments_of(units.values, *found) for key, found in cells.items()}

    def compare(
        self, metric: str, group: str, *, tolerance: float | None = None, at_equal: str | None = None
    ) -> Comparison:
        """Compare one metric over a group's shown cells; a tolerance makes it a primary question, not yet judged."""
        grouping = self.groupings[group]
        place = self.units.metrics.index(metric)
        usable, means = self._means(group, at_equal, place)
        facts = {
            "family": "primary" if tolerance is not None else "exploratory",
            "metric": metric,
            "group": group,
            "at_equal": at_equal,
            "cells": len(usable),
            "tolerance": tolerance,
        }
        if means is None or len(usable) < 2:
            nothing = dict.fromkeys(
                ("best", "worst", "gap", "gap_by_chance", "lo", "hi", "ratio", "entropy", "entropy_between", "p")
            )
            why = "at equal levels " if at_equal else ""
            said = f"Not compared: {why}fewer than two groups have enough people with a value."
            return Comparison.model_validate({**facts, **nothing, "p_adjusted": None, "verdict": None, "reason": said})
        gap = gap_of(means.mean, means.error, means.freedom, means.scatter, level=self.plan.level, seed=self.plan.seed)
        p, by_chance = self._test(group, at_equal, place, usable, means)
        ends = (gap.worst, gap.best) if METRICS[metric].better == "less" else (gap.best, gap.worst)
        total, between = (None, None) if at_equal else self._entropy(grouping, place)
        low, high = float(means.mean.min()), float(means.mean.max())
        return Comparison.model_validate(
            {
                **facts,
                "best": grouping.labels[usable[ends[0]]],
                "worst": grouping.labels[usable[ends[1]]],
                "gap": gap.plain,
                "gap_by_chance": by_chance,
                "lo": gap.lo,
                "hi": gap.hi,
                "ratio": low / high if low >= 0 and high > 0 else None,
                "entropy": total,
                "entropy_between": between,
                "p": p,
                "p_adjusted": None,
                "verdict": None,
                "reason": "",
            }
        )

    def groups(self, given: Sequence[Given]) -> list[Group]:
        """Every group with its cells' figures."""
        shown_items = _joined_lists(self.units, given)
        return [self._group(name, grouping, *shown_items) for name, grouping in self.groupings.items()]

    def overall(self) -> dict[str, Estimate]:
        """Means over everybody."""
        moments = moments_of(self.units.values, np.zeros(len(self.units), dtype=np.int64), 1)
        return {
            metric: _estimate(moments.means[0, place], self._everybody[:, 0, place], moments.n[0, place], self._ends)
            for place, metric in enumerate(self.units.metrics)
        }

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return (1 - self.plan.level) / 2, (1 + self.plan.level) / 2

    def _means(self, group: str, at_equal: str | None, place: int) -> tuple[NDArray[np.int64], _Means | None]:
        """Shown cells in which enough people have a value, and their means; at equal levels, averaged over these."""
        moments, drawn = self._moments[group, at_equal], self._drawn[group, at_equal][:, :, place]
        if at_equal is None:
            usable = np.flatnonzero(~self.groupings[group].hidden & (moments.n[:, place] >= self.plan.minimum_cell))
            mean = moments.means[usable, place]
            return usable, _Means(
                mean, moments.errors[usable, place], moments.freedom[usable, place], drawn[:, usable] - mean
            )
        levels = self._levels[group, at_equal]
        weight, table = levels.weight, (levels.groups, levels.levels)
        used = moments.n[:, place].reshape(table)[levels.shown][:, weight > 0]
        if used.size == 0 or used.min() < self.plan.minimum_cell:
            return np.empty(0, dtype=np.int64), None
        mean, error = _standardised(moments.means[:, place], moments.errors[:, place], table, weight)
        usable = levels.shown
        freedom = np.where(weight > 0, moments.freedom[:, place].reshape(table), 0.0).sum(axis=1)
        resampled = np.nan_to_num(drawn.reshape(len(drawn), *table)) @ weight
        return usable, _Means(mean[usable], error[usable], freedom[usable], resampled[:, usable] - mean[usable])

    def _test(
        self, group: str, at_equal: str | None, place: int, usable: NDArray[np.int64], means: _Means
    ) -> tuple[float, float]:
        if len(self.units) > _RELABELLED:
            return limit_p(means.mean, means.error, means.freedom, draws=self.plan.draws, seed=self.plan.seed)
        if at_equal is None:
            permuted = self._relabelled(group)
            return permutation_p(
                means.mean, means.error, permuted.means[:, usable, place], permuted.errors[:, usable, place]
            )
        permuted, levels = self._relabelled(group, at_equal, place), self._levels[group, at_equal]
        mean, error = _standardised(
            permuted.means[..., 0], permuted.errors[..., 0], (levels.groups, levels.levels), levels.weight
        )
        return permutation_p(means.mean, means.error, mean[:, usable], error[:, usable])

    def _relabelled(self, group: str, at_equal: str | None = None, place: int | None = None) -> Moments:
        """Moments under labels dealt out anew among everybody compared; at equal levels within each, of one metric."""
        key = (group, at_equal, place)
        if key not in self._permuted:
            grouping, block = self.groupings[group], np.zeros(len(self.units), dtype=np.int64)
            values = self.units.values if place is None else self.units.values[:, [place]]
            if at_equal is None:
                rows = np.flatnonzero((grouping.cell >= 0) & ~grouping.hidden[grouping.cell])
                cell, size = grouping.cell, len(grouping.labels)
            else:
                levels = self._levels[group, at_equal]
                rows, cell = np.flatnonzero(levels.joint >= 0), levels.joint
                size = levels.groups * levels.levels
                block = np.maximum(levels.joint, 0) % levels.levels
            compact = np.unique(block[rows], return_inverse=True)[1]
            self._permuted[key] = permuted_moments(
                values[rows], cell[rows], size, compact, draws=self.plan.draws, seed=self.plan.seed
            )
        return self._permuted[key]

    def _widened(self, found: Estimate, column: int, half: float) -> dict[str, float]:
        """Ends at least as wide as Student's: a small group that nothing hit does not vary when resampled."""
        if found.mean is None or found.lo is None or found.hi is None:
            return {}
        values = self.units.values[:, column]
        least, most = float(np.nanmin(values)), float(np.nanmax(values))
        lo, hi = max(found.mean - half, least), min(found.mean + half, most)
        return {"lo": min(found.lo, lo), "hi": max(found.hi, hi)}

    def _entropy(self, grouping: Grouping, place: int) -> tuple[float | None, float | None]:
        rows = (grouping.cell >= 0) & ~grouping.hidden[grouping.cell]
        values = self.units.values[rows, place]
        known = np.isfinite(values)
        if not known.any() or values[known].min() < 0 or values[known].mean() <= 0:
            return None, None
        moments = moments_of(values[:, None], grouping.cell[rows], len(grouping.labels))
        return generalised_entropy(moments.n[:, 0], moments.total[:, 0], moments.squares[:, 0])

    def _group(self, name: str, grouping: Grouping, lists: NDArray[np.int32], items: int) -> Group:
        moments, drawn = self._moments[name, None], self._drawn[name, None]
        shown = grouping.shown
        shrunken = np.full_like(moments.means, np.nan)
        shrunken[shown] = moments.take(shown).shrunken
        frame = metric_frame(self.units, grouping).by_group if len(shown) else None
        people = int(grouping.sizes[shown].min()) if len(shown) else None
        cells = []
        for place, label in enumerate(grouping.labels):
            if grouping.hidden[place]:
                cells.append(Cell(label=label, n=None, hidden=True, figures={}))
                continue
            assert frame is not None
            assert people is not None
            figures = {}
            for column, metric in enumerate(self.units.metrics):
                n = int(moments.n[place, column])
                told = n >= self.plan.minimum_cell
                mean = float(frame.loc[label, metric]) if told else np.nan
                found = _estimate(mean, drawn[:, place, column], n if told else None, self._ends)
                half = t.ppf(self._ends[1], moments.freedom[place, column]) * moments.errors[place, column]
                update = self._widened(found, column, float(half))
                figures[metric] = found.model_copy(update=update | {"shrunken": _number(shrunken[place, column], told)})
            cells.append(
                Cell(
                    label=label,
                    n=int(grouping.sizes[place]),
                    hidden=False,
                    figures=figures,
                    coverage=rarefied_coverage(lists[grouping.cell == place], items, people),
                )
            )
        return Group(
            name=name,
            how=how_divided(self.plan, name),
            unknown=grouping.unknown,
            vanished=list(grouping.vanished),
            pooled=list(grouping.pooled),
            coverage_users=people,
            cells=cells,
        )


@dataclass(frozen=True)
class _Levels:
    """A group crossed with a control: ``joint`` is ``group * levels + level``, -1 where either is not shown.

    ``weight`` ``float64[levels]``: each level's share of people, 0 for levels at which some shown group has too few.
    """

    joint: NDArray[np.int64]
    groups: int
    levels: int
    weight: Doubles
    shown: NDArray[np.int64]


def _levels(group: Grouping, control: Grouping, minimum: int) -> _Levels:
    groups, levels = len(group.labels), len(control.labels)
    told = (group.cell >= 0) & (control.cell >= 0)
    told &= ~group.hidden[group.cell] & ~control.hidden[control.cell]
    joint = np.where(told, group.cell * levels + control.cell, -1)
    counts = np.bincount(joint[told], minlength=groups * levels).reshape(groups, levels)
    enough = (counts[group.shown] >= minimum).all(axis=0) & (len(group.shown) > 1)
    people = np.where(enough, counts.sum(axis=0), 0).astype(np.float64)
    weight = people / people.sum() if people.sum() else people
    used = np.zeros(levels, dtype=np.bool_)
    used[weight > 0] = True
    joint = np.where(told & used[np.maximum(control.cell, 0)], joint, -1)
    return _Levels(joint, groups, levels, weight, group.shown)


def _standardised(means: Doubles, errors: Doubles, table: tuple[int, int], weight: Doubles) -> tuple[Doubles, Doubles]:
    """Means over levels by the same weights for every group, ``float64[..., groups]``, and their errors."""
    shape = (*means.shape[:-1], *table)
    mean: Doubles = np.where(weight > 0, np.nan_to_num(means.reshape(shape)), 0.0) @ weight
    error: Doubles = np.sqrt(np.where(weight > 0, np.nan_to_num(errors.reshape(shape)) ** 2, 0.0) @ weight**2)
    return mean, error


def _joined_lists(units: Units, given: Sequence[Given]) -> tuple[NDArray[np.int32], int]:
    """Every person's lists at all sources side by side, ``int32[users, sources * k]``, items numbered through."""
    row = {user: place for place, user in enumerate(units.table["user_id"])}
    blocks, offset = [], 0
    for one in given:
        block = np.full((len(units), one.lists.shape[1]), -1, dtype=np.int32)
        where = np.array([row[user] for user in one.people["user_id"]], dtype=np.int64)
        block[where] = np.where(one.lists >= 0, one.lists + offset, -1)
        blocks.append(block)
        offset += one.source.known.n_items
    return np.hstack(blocks), offset


def _estimate(mean: float, drawn: Doubles, n: float | None, ends: tuple[float, float]) -> Estimate:
    if n is None or not np.isfinite(mean):
        return Estimate(mean=None, lo=None, hi=None, n=None if n is None else int(n))
    lo, hi = np.quantile(drawn[np.isfinite(drawn)], ends)
    return Estimate(mean=float(mean), lo=float(lo), hi=float(hi), n=int(n))


def _number(value: float, told: bool) -> float | None:
    return float(value) if told and np.isfinite(value) else None


def how_divided(plan: AuditPlan, name: str) -> str:
    """Say in words how a group of a plan divides people."""
    if "*" in name:
        return f"{' × '.join(name.split('*'))}, every combination"
    group = next(one for one in plan.groups if one.name == name)
    words = {
        "attribute": f"declared attribute {group.column or group.name}",
        "activity": "events in history",
        "language": "language of most items in history",
        "partner": "sources the person is at",
    }[group.by]
    words += f"; merged: {', '.join(group.merge)}" if group.merge else ""
    return words + (f"; asked at {', '.join(group.at)}" if group.at else "")
