"""From per-user figures to :class:`Results`: means with intervals, paired gains, who is harmed, group tables."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from koinon import evaluation
from koinon.evaluation import Evaluation, gain_from, holm, resampled_means
from koinon.studies.report.results import (
    Counts,
    Curve,
    Estimate,
    Federation,
    Gain,
    GroupRow,
    Partner,
    Results,
)
from koinon.studies.report.summary import summarise

__all__ = [
    "COMPARISONS",
    "DemoResults",
    "PartnerResult",
    "build_results",
    "group_rows",
    "library_versions",
    "machine_facts",
]

COMPARISONS: dict[str, tuple[str, str]] = {
    "federated_vs_local": ("federated", "local"),
    "federated_vs_local_space": ("federated", "local_space"),
    "adapters_vs_local_space": ("federated_adapters", "local_space"),
    "gram_vs_local_space": ("federated_gram", "local_space"),
    "federated_vs_pooled": ("federated", "pooled"),
}
"""Which arm is held against which; NDCG@10, paired over users."""

SMALLEST_GROUP = 20
"""A group with fewer users is not shown."""

Doubles = NDArray[np.float64]
_Estimates = dict[str, dict[str, dict[str, Estimate]]]
_RawGains = dict[str, dict[str, evaluation.Gain]]
_LIBRARIES = ("numpy", "scipy", "polars", "torch", "flwr", "ray")


@dataclass(frozen=True)
class PartnerResult:
    """What one partner found out.

    Attributes
    ----------
    arms
        Arm to :class:`~koinon.evaluation.Evaluation` on the test set; all on the same evaluation set. ``federated``
        is the chosen arm's.
    chosen
        The arm the partner deploys, chosen on validation.
    chance
        Evaluation of :class:`~koinon.evaluation.Chance`, for what a random order gets among cold candidates.
    attributes
        Declared attributes of people, for the group table: ``user`` (row of ``Domain.user_ids``, int) and one text
        column per attribute, null where not declared.
    """

    domain: str
    language: str
    protocol: Literal["time", "holdout", "leave-last-out"]
    counts: Counts
    arms: Mapping[str, Evaluation]
    chosen: str
    region: str | None = None
    chance: Evaluation | None = None
    attributes: pl.DataFrame | None = None


@dataclass(frozen=True)
class DemoResults:
    """Everything a study found, before it is summed up."""

    partners: Mapping[str, PartnerResult]
    federation: Federation
    seed: int
    command: str
    curves: Sequence[Curve] = ()
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    caps: Mapping[str, int | None] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    small_shops: Sequence[str] = ("books-en-ca", "books-en-uk", "books-en-au")
    """The partners over which the aim on small shops is averaged."""


def build_results(found: DemoResults) -> Results:
    """Sum up a study. Deterministic in ``found`` but for the time stamp and the machine."""
    measured = {name: _measure(result.arms, found.seed) for name, result in found.partners.items()}
    gains = _adjusted({name: raw for name, (_, raw) in measured.items()})
    partners = {
        name: Partner(
            domain=result.domain,
            language=result.language,
            region=result.region,
            protocol=result.protocol,
            counts=result.counts,
            arms=measured[name][0],
            gains=gains[name],
            beyond_accuracy={arm: _beyond(lists) for arm, lists in result.arms.items()},
            chosen=result.chosen,
            harmed=_harmed(gains[name].get("federated_vs_local_space", {}).get("all")),
            random_among_cold=_number(None if result.chance is None else result.chance.mean(slice_="cold_among_cold")),
        )
        for name, result in found.partners.items()
    }
    return Results(
        koinon_version=version("koinon"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=found.seed,
        command=found.command,
        machine=machine_facts(),
        settings=dict(found.settings),
        caps=dict(found.caps),
        partners=partners,
        summary=summarise(partners, tuple(found.small_shops)),
        learning_curves=list(found.curves),
        federation=found.federation,
        groups=[row for name, result in found.partners.items() for row in group_rows(name, result, found.seed)],
        timings={step: round(seconds, 3) for step, seconds in found.timings.items()},
        versions=library_versions(),
    )


def machine_facts() -> dict[str, JsonValue]:
    """What kind of machine this is; no host name, no user name, no path."""
    facts: dict[str, JsonValue] = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return facts


def group_rows(name: str, result: PartnerResult, seed: int = 0, smallest: int = SMALLEST_GROUP) -> list[GroupRow]:
    """NDCG@10 by group of each declared attribute, over the users of slice ``all``.

    A group of fewer than ``smallest`` users is suppressed. So that it cannot be had by subtraction from the partner's
    total either, the next smallest groups are suppressed too until the hidden users number ``smallest``.
    """
    if result.attributes is None:
        return []
    people = next(iter(result.arms.values())).per_user.filter(pl.col("slice") == "all").select("row", "user")
    known = people.join(
        result.attributes.with_columns(pl.col("user").cast(people["user"].dtype)), on="user", how="left"
    )
    values = np.column_stack([arm.values() for arm in result.arms.values()])
    numbers = people["row"].to_numpy()
    rows = []
    for attribute in (column for column in result.attributes.columns if column != "user"):
        groups = known.group_by(attribute).agg("row").drop_nulls(attribute)
        undeclared = known.height - int(groups["row"].list.len().sum())
        hidden = _suppressed(dict(zip(groups[attribute], groups["row"].list.len(), strict=True)), undeclared, smallest)
        for group, members in sorted(groups.iter_rows(), key=lambda row: _natural(row[0])):
            if group in hidden:
                rows.append(GroupRow(partner=name, attribute=attribute, group=group, n=None, arms={}, suppressed=True))
                continue
            mine = values[np.isin(numbers, members)]
            estimates = _interval(mine, resampled_means(mine, seed))
            arms = dict(zip(result.arms, estimates, strict=True))
            rows.append(GroupRow(partner=name, attribute=attribute, group=group, n=len(members), arms=arms))
    return rows


def _natural(group: str) -> tuple[float, str]:
    """Bands by their number ("<25" before "25-34"), then names by the alphabet."""
    number = re.search(r"\d+", group)
    if number is None:
        return (math.inf, group)
    below = group.lstrip().startswith(("<", "under", "Under"))
    return (float(number.group()) - (0.5 if below else 0.0), group)


def _suppressed(sizes: Mapping[str, int], undeclared: int, smallest: int) -> set[str]:
    ascending = sorted(sizes, key=lambda group: (sizes[group], group))
    hidden = [group for group in ascending if sizes[group] < smallest]
    total = sum(sizes[group] for group in hidden) + undeclared
    for group in ascending[len(hidden) :]:
        if total == 0 or total >= smallest:
            break
        hidden.append(group)
        total += sizes[group]
    return set(hidden)


def _measure(arms: Mapping[str, Evaluation], seed: int) -> tuple[_Estimates, _RawGains]:
    """Estimates and unadjusted gains of one partner; one bootstrap drawing serves everything in a slice."""
    first = next(iter(arms.values()))
    metrics = [f"{metric}@{first.k}" for metric in ("ndcg", "recall", "hr", "mrr")]
    compared = {key: pair for key, pair in COMPARISONS.items() if set(pair) <= set(arms)}
    estimates: _Estimates = {arm: {} for arm in arms}
    gains: _RawGains = {key: {} for key in compared}
    for slice_ in first.per_user["slice"].unique(maintain_order=True):
        figures = {(arm, metric): arms[arm].values(metric, slice_) for arm in arms for metric in metrics}
        differences = {
            key: figures[arm, metrics[0]] - figures[base, metrics[0]] for key, (arm, base) in compared.items()
        }
        values = np.column_stack([*figures.values(), *differences.values()])
        drawn = resampled_means(values, seed) if len(values) else np.empty((0, values.shape[1]))
        summed = iter(_interval(values[:, : len(figures)], drawn[:, : len(figures)]))
        for arm in arms:
            estimates[arm][slice_] = {metric: next(summed) for metric in metrics}
        places = {key: place for place, key in enumerate(figures)}
        for place, (key, (_, base)) in enumerate(compared.items(), start=len(figures)):
            at = places[base, metrics[0]]
            gains[key][slice_] = gain_from(values[:, place], values[:, at], drawn[:, place], drawn[:, at])
    return estimates, gains


def _interval(values: Doubles, drawn: Doubles) -> list[Estimate]:
    """Mean and 95 % interval of every column of ``float64[users, c]``, from its resampled means."""
    if len(values) == 0:
        return [Estimate(mean=None, lo=None, hi=None, n=0)] * values.shape[1]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return [
        Estimate(mean=float(mean), lo=float(lo), hi=float(hi), n=len(values))
        for mean, lo, hi in zip(values.mean(axis=0), low, high, strict=True)
    ]


def _adjusted(raw: Mapping[str, _RawGains]) -> dict[str, dict[str, dict[str, Gain]]]:
    """Partner, comparison, slice to gain, with Holm's correction over partners within a comparison and slice."""
    found: dict[str, dict[str, dict[str, Gain]]] = {name: {} for name in raw}
    tests: dict[tuple[str, str], dict[str, evaluation.Gain]] = {}
    for name, comparisons in raw.items():
        for key, slices in comparisons.items():
            for slice_, gain in slices.items():
                tests.setdefault((key, slice_), {})[name] = gain
    for (key, slice_), by_partner in tests.items():
        corrected = holm([gain.p for gain in by_partner.values()])
        for (name, gain), p_holm in zip(by_partner.items(), corrected, strict=True):
            found[name].setdefault(key, {})[slice_] = Gain(
                relative=_number(gain.relative),
                relative_lo=_number(gain.relative_lo),
                relative_hi=_number(gain.relative_hi),
                mean=_number(gain.gain),
                lo=_number(gain.lo),
                hi=_number(gain.hi),
                p=_number(gain.p),
                p_holm=_number(float(p_holm)),
                n=gain.n,
            )
    return found


def _harmed(gain: Gain | None) -> bool:
    """Without correction for many partners: a correction would hide harm."""
    return gain is not None and gain.hi is not None and gain.hi < 0


def _beyond(arm: Evaluation) -> dict[str, float | None]:
    figures = {name: _number(float(value)) for name, value in arm.catalogue.items()}
    everybody = arm.per_user.filter(pl.col("slice") == "all")
    for name in (f"novelty@{arm.k}", f"diversity@{arm.k}"):
        if name in everybody.columns:
            values = everybody[name].fill_nan(None).drop_nulls().to_numpy()
            figures[name] = _number(float(values.mean())) if len(values) else None
    return figures


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that matter for reproducing a study."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
