"""Which jobs a study consists of, which arms cannot run and why, and what stands on what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from koinon.errors import ConfigError
from koinon.studies.paradigms.arms import ARMS, Arm, Need, Told
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import parse_spec
from koinon.studies.paradigms.federation import apart
from koinon.studies.paradigms.setup import Setup
from koinon.studies.paradigms.words import CHANGES
from koinon.studies.paradigms.work import Job, rewords, wanted_measures

__all__ = ["PHASES", "Plan", "arms_of"]


FIRST, OVER_OTHERS, REWORDED, OTHER_SEEDS = PHASES = (0, 1, 2, 3)
"""The first seed; arms that stand on others; all of these on other words; the other seeds."""


def arms_of(study: StudyConfig) -> list[Arm]:
    """Return the arms that a study asks for, all where it names none. ConfigError K125 for one that does not exist."""
    unknown = [name for name in study.arms if name not in ARMS]
    if unknown:
        raise ConfigError("K125", f"There is no arm {unknown[0]!r}.", f"Choose from {', '.join(ARMS)}.")
    return [arm for name, arm in ARMS.items() if not study.arms or name in study.arms]


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
        self.study, self.setups, self.out, self.arms = study, setups, out, arms_of(study)

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
            "wishes": "no data set here holds requests in words; without a wish it is its base",
            "partners": None if len(self.partners(setup, arm)) > 1 else "there is no other data set to federate with",
        }
        return next((reasons[need] for need in arm.needs if reasons[need]), None)

    def partners(self, setup: Setup, arm: Arm) -> list[Setup]:
        """Data sets that a federation with this one consists of, in the study's order."""
        others = set(arm.needs) - {"partners"}
        able = [one for one in self.setups if one is setup or others <= one.offers]
        bases = {one.name: parse_spec(one.text).base for one in able}
        chosen = apart(list(bases.values()), bases[setup.name])
        first = {bases[one.name]: one for one in reversed(able)} | {bases[setup.name]: setup}
        return [one for one in able if any(first[base] is one for base in chosen)]

    def jobs(self, phase: int) -> Iterator[tuple[Setup, Arm, Job]]:
        """Jobs of one of :data:`PHASES`, data set by data set."""
        for setup in self.setups:
            impossible = self.not_run(setup)
            for arm in self.arms:
                if arm.name in impossible:
                    continue
                first, *others = self.study.seeds if arm.draws else self.study.seeds[:1]
                if phase == OTHER_SEEDS:
                    for seed in others if not arm.sampled else ():
                        yield setup, arm, self.job(setup, arm, seed)
                elif phase == REWORDED:
                    if rewords(arm):
                        yield setup, arm, replace(self.job(setup, arm, first), measures=tuple(sorted(CHANGES)))
                elif (arm.complete is not None) == (phase == OVER_OTHERS):
                    yield setup, arm, self.job(setup, arm, first)

    def told(self, setup: Setup) -> Told:
        """What arms hear that stand on others: the best conventional recommender on validation, and all settings.

        The best is looked for among those that read histories alone, in any order of events; popularity with its
        defaults where none has been fitted yet.
        """
        settled: dict[str, dict[str, Any]] = {}
        best: tuple[float, str, dict[str, Any]] = (-1.0, "popularity", {})
        for arm in ARMS.values():
            if arm.complete is not None or self.hindrance(arm, setup) is not None:
                continue
            path = Path(self.job(setup, arm, self.study.seeds[0]).folder) / "fit.json"
            if not path.is_file():
                continue
            facts = json.loads(path.read_text(encoding="utf-8"))
            settled[arm.name] = facts["config"]
            plain = arm.paradigm == "conventional" and arm.clicks is None and "order" not in arm.needs
            if plain and arm.recommender is not None and facts["validation"] > best[0]:
                best = (facts["validation"], arm.recommender, facts["config"])
        record = self.out / "said" / setup.name
        labels = "labels" in setup.offers
        return Told(self.study, _language(setup.language), labels, best[1], best[2], settled, record)

    def job(self, setup: Setup, arm: Arm, seed: int) -> Job:
        """One job, its folder named by all that it depends on."""
        stated = dict(arm.settings)
        if arm.complete is not None:
            stated |= arm.complete(self.told(setup))
        kept = setup.kept.get(arm.name)
        measures = wanted_measures(arm, labels="labels" in setup.offers)
        depends: dict[str, Any] = {
            "data": setup.fingerprint,
            "arm": arm.name,
            "seed": seed,
            "kept": kept,
            "stated": stated,
            "encoder": arm.encoder or self.study.encoder,
            "k": self.study.k,
            "koinon": version("koinon"),
        }
        if kept is None and arm.tunable:
            depends["budget"] = self.study.budget
        partners: tuple[str, ...] = ()
        federation = None
        if "partners" in arm.needs:
            members = self.partners(setup, arm)
            partners = tuple(one.text for one in members)
            agreed = {**depends, "data": [one.fingerprint for one in members], "kept": None, "stated": arm.settings}
            federation = str(self.out / "federations" / f"{arm.name}-{seed}-{_digest(agreed)}")
            depends["federation"] = federation.rpartition("-")[2]
        if arm.sampled:
            depends["users"] = [self.study.users, self.study.validation_users]
        folder = self.out / "work" / setup.name / arm.name / f"{seed}-{_digest(depends)}"
        return Job(arm.name, setup.text, seed, str(folder), kept, stated, measures, partners, federation)


def _digest(depends: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _language(code: str) -> Literal["en", "de", "fr", "es"]:
    spoken: tuple[Literal["en", "de", "fr", "es"], ...] = ("en", "de", "fr", "es")
    return next((one for one in spoken if one == code), "en")
