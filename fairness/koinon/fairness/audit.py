"""The audit itself: open, look, unite, divide, compare, judge. Everything that was planned, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

from koinon.fairness.adjusting import adjusted
from koinon.fairness.cells import Grouping, activity, cross, divide
from koinon.fairness.comparing import Comparer
from koinon.fairness.frames import label_differences, require_fairlearn
from koinon.fairness.gains import federation_gains, read_arms
from koinon.fairness.lists import Given, is_listed, look
from koinon.fairness.mitigation.weighing import weigh
from koinon.fairness.plan import AuditPlan, GroupPlan
from koinon.fairness.probes.running import run_probes
from koinon.fairness.providing import catalogue_of, compare_providers
from koinon.fairness.results import (
    AuditResults,
    Comparison,
    Federation,
    Judged,
    Labels,
    Recorded,
    SourceFacts,
)
from koinon.fairness.subject import attribute_table, fingerprint, open_sources
from koinon.fairness.units import Units, unite
from koinon.fairness.verdicts import worst_of

__all__ = ["run_audit"]

Say = Callable[[str], None]

_LIBRARIES = ("fairlearn", "numpy", "scipy", "polars")


def run_audit(
    plan: AuditPlan, plan_sha256: str, recorded: Recorded, root: Path, *, say: Say = lambda _: None
) -> AuditResults:
    """Run a planned audit.

    Deterministic in the plan and the data, but for the time stamp and the seconds.

    Parameters
    ----------
    plan, plan_sha256
        As :meth:`AuditPlan.read` gives them.
    recorded
        Where the plan was entered (:func:`koinon.fairness.record.enter_plan`).
    root
        What the plan's folders are relative to.
    say
        Told each step in one line.

    Raises
    ------
    EvaluationError
        K512, K522-K526, K530, K531, K535, K536: see docs/errors.md. There is no audit with parts left out.
    ResourceError
        K806 fairlearn is not installed.
    """
    require_fairlearn()
    began = time.monotonic()
    say("opening the data and the recommender")
    sources = open_sources(plan, root)
    say("asking it for everybody")
    given = [
        look(
            source,
            plan.metrics,
            k=plan.k,
            patience=plan.patience,
            like_from=plan.data.like_from,
            seed=plan.seed,
            window=plan.data.window,
        )
        for source in sources
    ]
    units = _units(plan, given)
    groupings = _groupings(plan, units, given)
    say(f"comparing {len(units):,} people")
    comparer = Comparer(plan, units, groupings)
    comparisons = _judged(plan, comparer, groupings)
    providers = compare_providers(plan, given)
    comparisons, providers = adjusted(comparisons, providers, lambda one: _everybody(one, groupings[one.group]))
    judged: list[Judged] = [*comparisons, *providers]
    primary = [one.verdict for one in judged if one.verdict is not None]
    return AuditResults(
        koinon_version=version("koinon"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        name=plan.name,
        question=plan.question,
        verdict=worst_of(primary),
        plan_sha256=plan_sha256,
        plan=plan.model_dump(mode="json"),
        record=recorded,
        sources=[_facts(plan, one) for one in given],
        people=len(units),
        at_several_sources=int(units.table["stratum"].str.contains(" + ", literal=True).sum()),
        excluded=dict(units.excluded),
        comparisons=comparisons,
        providers=providers,
        groups=comparer.groups(given),
        overall=comparer.overall(),
        catalogues=[catalogue_of(one, plan) for one in given],
        labels=_labels(plan, units, given, groupings),
        federation=None if plan.federation is None else _federation(root / plan.federation, plan.seed),
        mitigation=weigh(plan, sources, [*comparisons, *providers], _divided, say=say),
        probes=run_probes(plan, sources),
        seconds=round(time.monotonic() - began, 2),
        versions=_versions(),
    )


def _divided(plan: AuditPlan, given: list[Given]) -> tuple[Units, dict[str, Grouping]]:
    units = _units(plan, given)
    return units, _groupings(plan, units, given)


def _units(plan: AuditPlan, given: list[Given]) -> Units:
    attributes = {_column(group): group.column or group.name for group in plan.groups if group.by == "attribute"}
    seen = [group for group in plan.groups if group.by in ("activity", "language")]
    observed = {}
    few = unasked = outside = 0
    for one in given:
        people = one.people.select("user_id", *(_seen(group, one.people).alias(_column(group)) for group in seen))
        table = attribute_table(one.source, attributes)
        observed[one.source.name] = people.join(table, on="user_id", how="left", maintain_order="left").hstack(
            one.people.select(plan.metrics)
        )
        test = one.source.split.test
        few += len(test) - int(test.main.sum())
        outside += int(test.main.sum()) - one.people.height
        unasked += one.source.split.train.n_users - len(test)
    columns = [_column(group) for group in seen]
    if len(given) > 1 and columns:
        observed = _agreed(observed, columns)
    excluded = {"too few events": few, "no event to ask for in the test": unasked}
    if plan.data.window is not None:
        excluded["asked outside the window"] = outside
    return unite(observed, (*columns, *attributes), excluded)


def _column(group: GroupPlan) -> str:
    """A column's name that no metric has."""
    return f"group:{group.name}"


def _seen(group: GroupPlan, people: pl.DataFrame) -> pl.Series:
    """What a source saw of each person."""
    return people["language"] if group.by == "language" else activity(people["activity"].to_numpy(), group.bands)


def _agreed(observed: Mapping[str, pl.DataFrame], columns: list[str]) -> dict[str, pl.DataFrame]:
    """Where sources see a person differently, what the first of them (in the plan's order) sees counts."""
    every = pl.concat([frame.select("user_id", *columns) for frame in observed.values()], how="vertical_relaxed")
    first = every.unique("user_id", keep="first", maintain_order=True)
    return {
        source: frame.drop(columns).join(first, on="user_id", how="left", maintain_order="left").select(frame.columns)
        for source, frame in observed.items()
    }


def _groupings(plan: AuditPlan, units: Units, given: list[Given]) -> dict[str, Grouping]:
    found: dict[str, Grouping] = {}
    for group in plan.groups:
        column = "stratum" if group.by == "partner" else _column(group)
        found[group.name] = divide(group, units.table[column], _declared(group, given), plan.minimum_cell)
    for parts in plan.intersections:
        crossed = cross([found[name] for name in parts], plan.minimum_cell)
        found[crossed.name] = crossed
    return found


def _declared(group: GroupPlan, given: list[Given]) -> pl.Series | None:
    """One value for everybody in the users tables, in the order of their ids."""
    if group.by != "attribute":
        return None
    column = group.column or group.name
    tables = [attribute_table(one.source, {group.name: column}) for one in given]
    return pl.concat(tables).unique("user_id", keep="first", maintain_order=True).sort("user_id")[group.name]


def _judged(plan: AuditPlan, comparer: Comparer, groupings: Mapping[str, Grouping]) -> list[Comparison]:
    asked = {(one.metric, one.group): one.tolerance for one in plan.primary}
    found = [comparer.compare(metric, group, tolerance=tolerance) for (metric, group), tolerance in asked.items()]
    for metric, group in asked:
        for control in plan.control:
            if control not in group.split("*"):
                found.append(comparer.compare(metric, group, at_equal=control))
    for group in groupings:
        found.extend(comparer.compare(metric, group) for metric in plan.metrics if (metric, group) not in asked)
    return found


def _everybody(one: Comparison, grouping: Grouping) -> bool:
    """Whether every group was compared: all are shown, and in all enough people have a value of the metric."""
    return grouping.complete and one.cells == len(grouping.labels)


def _labels(plan: AuditPlan, units: Units, given: list[Given], groupings: Mapping[str, Grouping]) -> list[Labels]:
    if plan.data.like_from is None:
        return []
    row = {user: place for place, user in enumerate(units.table["user_id"])}
    liked = np.concatenate([one.liked for one in given if one.liked is not None])
    listed = np.concatenate([is_listed(one.lists, one.targets, one.target_user) for one in given])
    owner = np.concatenate([np.array([row[user] for user in one.people["user_id"]])[one.target_user] for one in given])
    found = []
    for name, grouping in groupings.items():
        cell = grouping.cell[owner]
        use = (cell >= 0) & ~grouping.hidden[cell]
        labels = np.asarray(grouping.labels)[cell[use]]
        if len(np.unique(labels)) > 1 and all(liked[use][labels == label].any() for label in np.unique(labels)):
            found.append(Labels(group=name, **label_differences(liked[use], listed[use], labels)))
    return found


def _federation(folder: Path, seed: int) -> Federation:
    arms, languages = read_arms(folder)
    return federation_gains(arms, languages, seed=seed)


def _facts(plan: AuditPlan, given: Given) -> SourceFacts:
    source = given.source
    return SourceFacts(
        name=source.name,
        people=source.split.train.n_users,
        asked=given.people.height,
        items=source.known.n_items,
        events=len(source.split.events),
        release=plan.system.release.get(source.name),
        data_sha256=fingerprint(source, {g.name: g.column or g.name for g in plan.groups if g.by == "attribute"}),
    )


def _versions() -> dict[str, str]:
    return {library: version(library) for library in _LIBRARIES}
