"""Which jobs a study consists of, which arms cannot run and why, and what stands on what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from koinon.config import write_atomically
from koinon.data import Domain
from koinon.errors import ConfigError
from koinon.evaluation import Chance, evaluate
from koinon.studies.paradigms.arms import ARMS, Arm, Need, Told
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared, open_data, parse_spec
from koinon.studies.paradigms.settings import kept_settings
from koinon.studies.paradigms.work import Job, wanted_measures

__all__ = ["Plan", "Setup", "best_conventional", "set_up"]


@dataclass(frozen=True)
class Setup:
    """What the plan must know of one data set; JSON-ready facts beside it."""

    text: str
    name: str
    fingerprint: str
    offers: frozenset[Need]
    language: str
    kept: Mapping[str, Mapping[str, Any] | None]
    facts: Mapping[str, Any]


def set_up(text: str, study: StudyConfig, out: Path) -> Setup:
    """Open a data set once and keep what is true of it in ``out/data/<name>.json``.

    Raises
    ------
    ConfigError, DataError
        As :func:`parse_spec` and :func:`open_data`.
    """
    prepared = open_data(parse_spec(text), study)
    offers: set[Need] = set()
    if prepared.ordered:
        offers.add("order")
    if prepared.split.train.events.time is not None:
        offers.add("times")
    if prepared.clicks is not None:
        offers.add("labels")
    facts = _facts(prepared, study)
    write_atomically(out / "data" / f"{prepared.name}.json", json.dumps(facts, indent=1) + "\n")
    languages = prepared.known.items["language"].drop_nulls().value_counts(sort=True)
    return Setup(
        text,
        prepared.name,
        prepared.fingerprint,
        frozenset(offers),
        languages.row(0)[0] if languages.height else "en",
        {name: kept_settings(arm, prepared, study.settings) for name, arm in ARMS.items()},
        facts,
    )


class Plan:
    """The jobs of a study.

    Parameters
    ----------
    study
        Its settings.
    setups
        Its data sets.
    out
        The study's folder; a job's files are in ``work/<data>/<arm>/<seed>-<hash>``, and the hash covers all that they
        depend on, so that nothing that has changed is ever taken for finished.

    Raises
    ------
    ConfigError
        K125 there is no such arm.
    """

    def __init__(self, study: StudyConfig, setups: Sequence[Setup], out: Path) -> None:
        unknown = [name for name in study.arms if name not in ARMS]
        if unknown:
            raise ConfigError("K125", f"There is no arm {unknown[0]!r}.", f"Choose from {', '.join(ARMS)}.")
        self.study, self.setups, self.out = study, setups, out
        self.arms = [arm for name, arm in ARMS.items() if not study.arms or name in study.arms]

    def not_run(self, setup: Setup) -> dict[str, str]:
        """Arms that cannot run on a data set, and why."""
        reasons = {arm.name: self.hindrance(arm, setup) for arm in self.arms}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def hindrance(self, arm: Arm, setup: Setup) -> str | None:
        """Why an arm cannot run on a data set; ``None`` if it can."""
        study = self.study
        reasons: dict[Need, str | None] = {
            "order": None if "order" in setup.offers else "its events have no order",
            "times": None if "times" in setup.offers else "its events have no times",
            "labels": None if "labels" in setup.offers else "the data tell no likes and dislikes with their times",
            "model": None if study.model else "no language model was named (--model)",
            "tuned space": None if study.tuned else "no tuned space was named (--tuned)",
        }
        return next((reasons[need] for need in arm.needs if reasons[need]), None)

    def jobs(self, phase: int) -> Iterator[tuple[Setup, Arm, Job]]:
        """Jobs of a phase: 0 the first seed, 1 arms that stand on the best conventional one, 2 the other seeds."""
        for setup in self.setups:
            impossible = self.not_run(setup)
            for arm in self.arms:
                if arm.name in impossible or ((arm.complete is not None) != (phase == 1) and phase < 2):
                    continue
                first, *others = self.study.seeds if arm.draws else self.study.seeds[:1]
                if phase < 2:
                    yield setup, arm, self.job(setup, arm, first)
                else:
                    for seed in others if not arm.sampled else ():
                        yield setup, arm, self.job(setup, arm, seed)

    def job(self, setup: Setup, arm: Arm, seed: int) -> Job:
        """One job, its folder named by all that it depends on."""
        stated = dict(arm.settings)
        if arm.complete is not None:
            base, settings = best_conventional(self, setup)
            stated |= arm.complete(Told(self.study, setup.language, base, settings))
        kept = setup.kept.get(arm.name)
        measures = wanted_measures(arm, first_seed=seed == self.study.seeds[0], labels="labels" in setup.offers)
        depends: dict[str, Any] = {
            "data": setup.fingerprint,
            "arm": arm.name,
            "seed": seed,
            "kept": kept,
            "stated": stated,
            "encoder": self.study.encoder,
            "k": self.study.k,
            "koinon": version("koinon"),
        }
        if kept is None and arm.tunable:
            depends["budget"] = self.study.budget
        if "tuned space" in arm.needs:
            depends["tuned"] = self.study.tuned
        if arm.sampled:
            depends["users"] = [self.study.users, self.study.validation_users]
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:10]
        folder = self.out / "work" / setup.name / arm.name / f"{seed}-{digest}"
        return Job(arm.name, setup.text, seed, str(folder), kept, stated, measures)


def best_conventional(plan: Plan, setup: Setup) -> tuple[str, dict[str, Any]]:
    """The conventional recommender that stands on histories alone and was best on validation, and its settings.

    Popularity with its defaults where none has been fitted yet.
    """
    best: tuple[float, str, dict[str, Any]] = (-1.0, "popularity", {})
    for arm in ARMS.values():
        if arm.paradigm != "conventional" or arm.recommender is None or arm.clicks is not None:
            continue
        if "order" in arm.needs or plan.hindrance(arm, setup) is not None:
            continue
        path = Path(plan.job(setup, arm, plan.study.seeds[0]).folder) / "fit.json"
        if path.is_file():
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["validation"] > best[0]:
                best = (facts["validation"], arm.recommender, facts["config"])
    return best[1], best[2]


def _facts(prepared: Prepared, study: StudyConfig) -> dict[str, Any]:
    test, known = prepared.split.test, prepared.known
    chance = evaluate(
        Chance().fit(known, None, rng=np.random.default_rng(0)), known, test, k=study.k, slices=("cold_among_cold",)
    ).mean(slice_="cold_among_cold")
    asked = test.main & (np.diff(test.target_indptr) > 0)
    return {
        "source": prepared.spec.source if _public(prepared) else prepared.spec.base,
        "protocol": prepared.protocol,
        "users": known.n_users,
        "items": known.n_items,
        "events": len(prepared.split.events),
        "test_users": int(asked.sum()),
        "cold_items": _cold(known),
        "chance_among_cold": chance if np.isfinite(chance) else None,
    }


def _cold(domain: Domain) -> int:
    return int((domain.item_counts == 0).sum())


def _public(prepared: Prepared) -> bool:
    return prepared.spec.source == prepared.spec.base
