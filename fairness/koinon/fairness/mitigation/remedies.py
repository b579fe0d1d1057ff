"""From a plan's names to recommenders: each remedy, ready to be built around what is audited, at any dial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import EvaluationError
from koinon.evaluation.protocol import evaluate
from koinon.fairness.cells import Grouping, activity, merged
from koinon.fairness.lists import kinds_of_items
from koinon.fairness.mitigation.calibrated import Calibrated
from koinon.fairness.mitigation.choosing import ByGroup, shares_of
from koinon.fairness.mitigation.decorrelated import Decorrelated
from koinon.fairness.mitigation.plan import Remedy
from koinon.fairness.mitigation.priced import Aim, ClassShare, KeptRelevance, Popularity, Priced
from koinon.fairness.mitigation.reranking import Remembered
from koinon.fairness.mitigation.weighting import balancing_weights, weighted_domain
from koinon.fairness.plan import AuditPlan
from koinon.fairness.providing import classes_of
from koinon.fairness.subject import Source, attribute_table
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.training import build, config_type
from koinon.space import Space

__all__ = ["Stage", "Treatment", "fit_planned", "popularity_bands", "treatments"]

Doubles = NDArray[np.float64]

BANDS = 5
"""Classes of items by popularity, each with as many of all events."""


@dataclass(frozen=True)
class Stage:
    """Whom a remedy is built for: a source before validation, or before the test.

    Attributes
    ----------
    plan
        Of the audit.
    source
        Its recommender is fitted on ``known``; ``split.test`` is who is asked.
    inner
        The recommender, with its shortlists kept.
    groupings
        How people who are asked are divided.
    """

    plan: AuditPlan
    source: Source
    inner: Remembered
    groupings: Mapping[str, Grouping]

    def group(self, name: str) -> NDArray[np.int64]:
        """The cell of every user of the domain in a group of the plan, ``int64[users]``; -1: unknown, or not shown."""
        plan = next(one for one in self.plan.groups if one.name == name)
        grouping, domain = self.groupings[name], self.source.known
        if plan.by == "activity":
            counts = np.bincount(domain.events.user, minlength=domain.n_users)
            values = activity(counts, plan.bands)
        else:
            table = attribute_table(self.source, {plan.name: plan.column or plan.name})
            people = pl.DataFrame({"user_id": list(domain.user_ids)})
            values = merged(people.join(table, on="user_id", how="left", maintain_order="left")[plan.name], plan)
        number = {label: place for place, label in enumerate(grouping.labels)}
        pooled = set(grouping.labels) - set(values.drop_nulls().unique())
        together = number[next(iter(pooled))] if grouping.pooled and pooled else -1
        number |= dict.fromkeys(grouping.pooled, together)
        cell = np.array([number.get(value, -1) for value in values], dtype=np.int64)
        return np.where((cell >= 0) & ~np.append(grouping.hidden, True)[cell], cell, -1)

    @cached_property
    def kinds(self) -> Doubles:
        """``float64[items, kinds]``."""
        return kinds_of_items(self.source)


class Treatment(Protocol):
    """A remedy about something, e.g. weights for gender."""

    remedy: Remedy
    of: str
    asks_group: bool

    def build(self, stage: Stage, dial: float) -> Recommender:
        """Return the recommender with the remedy, fitted."""
        ...


@dataclass
class Simple:
    """A remedy that is a function of stage and dial."""

    remedy: Remedy
    of: str
    asks_group: bool
    how: Callable[[Stage, float], Recommender]

    def build(self, stage: Stage, dial: float) -> Recommender:
        """Return the recommender with the remedy, fitted."""
        return self.how(stage, dial)


class Chosen:
    """Shares of recommenders by group: found where it is built first, on validation, and kept for the test."""

    remedy: Remedy = "by_group"
    asks_group = True
    _ALTERNATIVES = ("itemknn", "popularity")

    def __init__(self, of: str) -> None:
        self.of = of
        self._quality: dict[str, tuple[tuple[str, ...], Doubles, Doubles]] = {}
        self._fitted: dict[int, list[Recommender]] = {}

    def build(self, stage: Stage, dial: float) -> Recommender:
        """Return the recommender with the remedy, fitted."""
        source, group = stage.source, stage.group(self.of)
        models = self._fitted.get(id(stage))
        if models is None:
            domain = source.known
            models = [stage.inner]
            for name in self._ALTERNATIVES:
                fitted = build(name).fit(domain, None, rng=np.random.default_rng(stage.plan.seed))
                models.append(Remembered(fitted, domain.n_items, depth=stage.inner.depth))
            self._fitted[id(stage)] = models
        if source.name not in self._quality:
            self._quality[source.name] = self._measured(stage, models, group)
        labels, quality, sizes = self._quality[source.name]
        present = float(np.ptp(quality[:, 0]))
        found = dict(zip(labels, shares_of(quality, sizes, gap=(1 - dial) * present), strict=True))
        own = np.zeros(len(models))
        own[0] = 1.0
        shares = np.array([found.get(label, own) for label in stage.groupings[self.of].labels])
        return ByGroup(models, group, shares, seed=stage.plan.seed).learn(source.known)

    def _measured(
        self, stage: Stage, models: Sequence[Recommender], group: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], Doubles, Doubles]:
        test, k = stage.source.split.test, stage.plan.k
        tables = [evaluate(one, stage.source.known, test, k=k, slices=("all",)).per_user for one in models]
        cell = np.where(test.main[tables[0]["row"].to_numpy()], group[tables[0]["user"].to_numpy()], -1)
        there = np.unique(cell[cell >= 0])
        values = np.column_stack([table[f"ndcg@{k}"].to_numpy() for table in tables])
        quality = np.array([values[cell == one].mean(axis=0) for one in there])
        sizes = np.array([(cell == one).sum() for one in there], dtype=np.float64)
        return tuple(stage.groupings[self.of].labels[one] for one in there), quality, sizes


def treatments(
    plan: AuditPlan, stages: Sequence[Stage], groups: Sequence[str], divisions: Sequence[str]
) -> list[Treatment]:
    """Every treatment that a plan's remedies come to.

    Parameters
    ----------
    plan
        Of the audit, with ``mitigation``.
    stages
        Of validation, to see what the data can bear.
    groups, divisions
        What the open questions are about: groups of people, divisions of items.
    """
    assert plan.mitigation is not None
    k, depth = plan.k, plan.mitigation.depth
    served = [name for name in groups if _by(plan, name) in ("attribute", "activity")]
    found: list[Treatment] = []
    for remedy in plan.mitigation.remedies:
        if remedy in ("calibrated", "balanced"):
            if all(_has_kinds(stage) for stage in stages):
                found.append(Simple(remedy, "", False, _calibration(remedy, k, depth)))
        elif remedy == "calibrated_popularity":
            found.append(Simple(remedy, "", False, _popularity(k, depth)))
        elif remedy == "exposure":
            found += [Simple(remedy, by, False, _exposure(by, None, k, depth)) for by in divisions]
        elif remedy == "exposure_shared":
            pairs = [(by, name) for by in divisions for name in served]
            found += [Simple(remedy, f"{by}, {name}", True, _exposure(by, name, k, depth)) for by, name in pairs]
        elif remedy == "by_group":
            found += [Chosen(name) for name in served]
        else:
            how = {"alike": _alike, "weighted": _weighted, "decorrelated": _decorrelated}[remedy]
            found += [Simple(remedy, name, remedy != "weighted", how(name, k, depth)) for name in served]
    return found


def fit_planned(plan: AuditPlan, domain: Domain, space: Space | None) -> Recommender:
    """Fit the audited recommender on other events than the audit's."""
    name = plan.system.recommender
    assert name is not None
    settings = config_type(name).from_dict(dict(plan.system.settings), source="system.settings")
    return build(name, settings).fit(domain, space, rng=np.random.default_rng(plan.seed))


def popularity_bands(domain: Domain) -> Doubles:
    """``float64[items, bands]``: one 1 in each row; every band has about as many of all events, most popular first."""
    order = np.argsort(-domain.item_counts, kind="stable")
    counts = domain.item_counts[order]
    before = (np.cumsum(counts) - counts) / max(int(counts.sum()), 1)
    band = np.empty(domain.n_items, dtype=np.int64)
    band[order] = np.minimum((before * BANDS).astype(np.int64), BANDS - 1)
    return np.eye(BANDS)[band]


def _by(plan: AuditPlan, name: str) -> str | None:
    return next((one.by for one in plan.groups if one.name == name), None)


def _has_kinds(stage: Stage) -> bool:
    try:
        return stage.kinds.size > 0
    except EvaluationError:
        return False


def _calibration(remedy: Remedy, k: int, depth: int) -> Callable[[Stage, float], Recommender]:
    def how(stage: Stage, dial: float) -> Recommender:
        towards = "own" if remedy == "calibrated" else "everybody"
        made = Calibrated(stage.inner, stage.kinds, dial=dial, towards=towards, k=k, depth=depth)  # type: ignore[arg-type]
        return made.learn(stage.source.known)

    return how


def _popularity(k: int, depth: int) -> Callable[[Stage, float], Recommender]:
    def how(stage: Stage, dial: float) -> Recommender:
        domain = stage.source.known
        return Calibrated(stage.inner, popularity_bands(domain), dial=dial, k=k, depth=depth).learn(domain)

    return how


def _exposure(by: str, name: str | None, k: int, depth: int) -> Callable[[Stage, float], Recommender]:
    def how(stage: Stage, dial: float) -> Recommender:
        labels, class_ = classes_of(stage.source, by)
        domain = stage.source.known
        taken = np.bincount(class_, domain.item_counts, minlength=len(labels)) / max(int(domain.item_counts.sum()), 1)
        aims = [Aim(ClassShare(class_ == one), due=float(taken[one])) for one in range(len(labels) - 1)]
        if name is not None:
            aims.append(Aim(KeptRelevance(), stage.group(name)))
        return _priced(stage, aims, dial, k, depth)

    return how


def _priced(stage: Stage, aims: Sequence[Aim], dial: float, k: int, depth: int) -> Recommender:
    assert stage.plan.mitigation is not None
    people, seed = stage.plan.mitigation.people, stage.plan.seed
    made = Priced(stage.inner, aims, dial=dial, k=k, depth=depth, people=people, seed=seed)
    return made.learn(stage.source.known)


def _alike(name: str, k: int, depth: int) -> Callable[[Stage, float], Recommender]:
    def how(stage: Stage, dial: float) -> Recommender:
        aim = Aim(Popularity(), stage.group(name))
        return _priced(stage, [aim], dial, k, depth)

    return how


def _weighted(name: str, k: int, depth: int) -> Callable[[Stage, float], Recommender]:
    def how(stage: Stage, dial: float) -> Recommender:
        domain = stage.source.known
        weights = balancing_weights(stage.group(name), dial)
        more = weighted_domain(domain, weights, rng=np.random.default_rng(stage.plan.seed))
        return fit_planned(stage.plan, more, stage.source.space)

    return how


def _decorrelated(name: str, k: int, depth: int) -> Callable[[Stage, float], Recommender]:
    def how(stage: Stage, dial: float) -> Recommender:
        inner, group = stage.source.recommender, stage.group(name)
        return Decorrelated(inner, group, dial=dial, seed=stage.plan.seed).learn(stage.source.known)

    return how
