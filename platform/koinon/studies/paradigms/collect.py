"""From the files of finished measures to :class:`StudyResults`: means over seeds, paired gains, what did not run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from koinon.errors import EvaluationError
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.clicks import click_results
from koinon.studies.paradigms.findings import find
from koinon.studies.paradigms.plan import Plan
from koinon.studies.paradigms.results import About, ArmResult, Cost, DataResult, Reworded, StudyResults
from koinon.studies.paradigms.setup import Setup
from koinon.studies.paradigms.statistics import compared, estimate, number, paired
from koinon.studies.paradigms.words import CHANGES
from koinon.studies.report.build import library_versions, machine_facts

__all__ = ["collect", "kept_figures"]


@dataclass(frozen=True)
class _Measured:
    """What the seeds of one arm have left on disk.

    Attributes
    ----------
    facts
        Seed, measure to its JSON.
    people
        Slice to ``user`` and each metric's mean over seeds.
    by_seed
        Mean NDCG on all users of each seed.
    """

    arm: Arm
    facts: Mapping[int, Mapping[str, dict[str, Any]]]
    folders: Mapping[int, Path]
    people: Mapping[str, pl.DataFrame]
    by_seed: tuple[float, ...]

    def mean(self, measure: str, name: str) -> float | None:
        """Mean over seeds of one fact."""
        values = [facts[measure][name] for facts in self.facts.values() if measure in facts]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def first(self, measure: str) -> dict[str, Any]:
        """Facts of the first seed that has them."""
        return next((facts[measure] for facts in self.facts.values() if measure in facts), {})


def collect(plan: Plan, *, command: str) -> StudyResults:
    """Sum up what is there. Deterministic but for the time stamp and the machine.

    Raises
    ------
    EvaluationError
        K543 nothing was measured.
    """
    data = {setup.name: _of_data(plan, setup) for setup in plan.setups}
    if not any(one.arms for one in data.values()):
        reasons = "; ".join(f"{name}: {reason}" for one in data.values() for name, reason in one.not_run.items())
        raise EvaluationError("K543", f"No arm could be measured ({reasons[:400]}).", "See the logs under work/.")
    arms = {arm.name: _about(arm) for arm in plan.arms}
    hidden = {"settings", "model"}
    settings = plan.study.model_dump(mode="json", exclude=hidden)
    settings["data"] = [setup.name for setup in plan.setups]
    model = plan.study.model
    settings["model"] = Path(model.partition("?")[0]).name if model else None
    return StudyResults(
        koinon_version=version("koinon"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        machine=machine_facts(),
        settings=settings,
        arms=arms,
        data=data,
        findings=find(arms, data),
        versions=library_versions(),
    )


def _about(arm: Arm) -> About:
    place = arm.place
    return About(
        title=arm.title,
        paradigm=arm.paradigm,
        about=arm.about,
        where=None if place is None else place.where,
        tuned=None if place is None else place.how_tuned == "tuned",
        with_conventional=None if place is None else place.with_conventional,
    )


def _of_data(plan: Plan, setup: Setup) -> DataResult:
    not_run = plan.not_run(setup)
    measured: dict[str, _Measured] = {}
    for arm in plan.arms:
        if arm.name in not_run:
            continue
        seeds = (plan.study.seeds if arm.draws else plan.study.seeds[:1])[: 1 if arm.sampled else None]
        folders = {seed: Path(plan.job(setup, arm, seed).folder) for seed in seeds}
        found = _read(arm, folders, plan.study.k)
        if found.facts:
            measured[arm.name] = found
        else:
            not_run[arm.name] = _why(folders)
    ranked = {name: one for name, one in measured.items() if one.people}
    reference = _reference(ranked)
    people = {name: one.people for name, one in ranked.items()}
    figures, gains = compared(people, reference, plan.study.k)
    clicks, click_reference = click_results(
        {name: (one.arm, one.facts, one.folders) for name, one in measured.items()}, plan, setup
    )
    arms = {}
    for name, one in measured.items():
        fitted = one.first("fit")
        arms[name] = ArmResult(
            seeds=list(one.facts),
            sampled=one.arm.sampled,
            settings_from=fitted.get("settings_from"),
            settings={key: value for key, value in fitted.get("config", {}).items() if key not in ("model",)},
            validation=one.mean("fit", "validation"),
            weight=fitted.get("weight"),
            figures=figures.get(name, {}),
            gains=gains.get(name, {}),
            seed_deviation=float(np.std(one.by_seed, ddof=1)) if len(one.by_seed) > 1 else None,
            lists=_lists(one, plan.study.k),
            reworded={change: other for change in CHANGES if (other := _reworded(one, change, plan.study.k))},
            clicks=clicks.get(name),
            cost=_cost(one),
        )
    return DataResult(**setup.facts, reference=reference, click_reference=click_reference, arms=arms, not_run=not_run)


def _read(arm: Arm, folders: Mapping[int, Path], k: int) -> _Measured:
    facts: dict[int, dict[str, dict[str, Any]]] = {}
    frames: dict[str, list[pl.DataFrame]] = {}
    means = []
    for seed, folder in folders.items():
        if own := kept_figures(folder):
            facts[seed] = own
        for measure in ("accuracy", "strangers"):
            if measure in own:
                frame = pl.read_parquet(folder / f"{measure}.parquet")
                for (part,), rows in frame.group_by("slice", maintain_order=True):
                    frames.setdefault(str(part), []).append(rows.drop("slice", "row", "targets"))
                if measure == "accuracy":
                    means.append(float(frame.filter(pl.col("slice") == "all")[f"ndcg@{k}"].to_numpy().mean()))
    people = {
        part: pl.concat(of_seeds, how="diagonal").group_by("user").agg(pl.all().mean()).sort("user")
        for part, of_seeds in frames.items()
    }
    return _Measured(arm, facts, folders, people, tuple(means))


def kept_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Every finished measure of a job: name to what its file says."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if path.stem not in ("job", "failed"):
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _why(folders: Mapping[int, Path]) -> str:
    for folder in folders.values():
        try:
            failed = json.loads((folder / "failed.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(failed["message"]) if failed["error"] == "minutes" else f"{failed['message']} [{failed['error']}]"
    return "not reached yet: the same command goes on"


def _reference(ranked: Mapping[str, _Measured]) -> str | None:
    """The conventional arm that was best on validation; chosen without a look at the test."""
    able = {
        name: value
        for name, one in ranked.items()
        if one.arm.paradigm == "conventional" and (value := one.mean("fit", "validation")) is not None
    }
    return max(able, key=lambda name: able[name]) if able else None


def _lists(one: _Measured, k: int) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    catalogues = [facts["accuracy"]["catalogue"] for facts in one.facts.values() if "accuracy" in facts]
    for name in (f"coverage@{k}", f"gini@{k}"):
        values = [catalogue[name] for catalogue in catalogues]
        found[name] = number(float(np.mean(values))) if values else None
    people = one.people.get("all")
    for name in (f"novelty@{k}", f"diversity@{k}", f"miscalibration@{k}"):
        if people is not None and name in people.columns:
            of_people = people[name].to_numpy()
            found[name] = number(float(np.nanmean(of_people))) if np.isfinite(of_people).any() else None
    return found


def _reworded(one: _Measured, change: str, k: int) -> Reworded | None:
    facts = one.first(change)
    folder = next((one.folders[seed] for seed, own in one.facts.items() if change in own), None)
    if not facts or folder is None:
        return None
    after = pl.read_parquet(folder / f"{change}.parquet")
    before = pl.read_parquet(folder / "accuracy.parquet").filter(pl.col("slice") == "all")
    return Reworded(
        changed=facts["changed"],
        words=facts["words"],
        overlap=estimate(after["overlap"].to_numpy()),
        ndcg=paired(after, before, f"ndcg@{k}"),
    )


def _cost(one: _Measured) -> Cost:
    measure, prefix = ("fit", "") if one.first("fit") else ("clicks", "serving")
    serving = one.first("clicks").get("serving", {}) if prefix else {}
    parameters = one.first(measure).get("parameters")
    return Cost(
        fit_seconds=one.mean("fit", "fit_seconds") if not prefix else one.mean("clicks", "seconds"),
        search_seconds=one.mean("fit", "search_seconds"),
        peak_mb=one.mean("fit", "peak_mb") if not prefix else one.mean("clicks", "peak_mb"),
        begun_mb=one.mean("fit", "begun_mb") if not prefix else one.mean("clicks", "begun_mb"),
        p50_ms=one.mean("latency", "p50_ms") if not prefix else serving.get("p50_ms"),
        p95_ms=one.mean("latency", "p95_ms") if not prefix else serving.get("p95_ms"),
        parameters=parameters,
        bytes_per_round=one.first("fit").get("bytes_per_round"),
    )
