"""One job of the study: an arm, a data set and a seed; every finished measure of it is a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import polars as pl

from koinon.config import Config, atomic_path, write_atomically
from koinon.recommenders import store
from koinon.recommenders.clicks.training import click_config_type, train_clicks
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.training import config_type
from koinon.space import Space, open_space
from koinon.studies.paradigms import measures, memory
from koinon.studies.paradigms.arms import ARMS, Arm
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared, open_data, parse_spec, rows_of, sample_rows
from koinon.studies.paradigms.fitting import fit, fit_federated, refit
from koinon.studies.paradigms.settings import choose
from koinon.studies.paradigms.words import CHANGES, reworded

__all__ = ["Bench", "Job", "Work", "rewords", "wanted_measures"]

OnMeasure = Callable[[str, str, float], None]
"""Called with a measure, ``begun`` or ``done``, and its processor seconds."""


@dataclass(frozen=True)
class Job:
    """What a process is asked to do; JSON-ready.

    Attributes
    ----------
    arm, data, seed
        The arm's name, the data set as asked for, the seed.
    folder
        Gets the files of its measures.
    kept
        Settings from the settings folder.
    stated
        The arm's own settings, completed.
    measures
        Names, in order.
    partners
        Data sets of the federation, this one among them; none for other arms.
    federation
        Folder of its rounds.
    """

    arm: str
    data: str
    seed: int
    folder: str
    kept: Mapping[str, Any] | None
    stated: Mapping[str, Any]
    measures: tuple[str, ...]
    partners: tuple[str, ...] = ()
    federation: str | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Job:
        """From JSON."""
        return cls(**{**raw, "measures": tuple(raw["measures"]), "partners": tuple(raw["partners"])})

    def missing(self) -> list[str]:
        """Measures that are not finished; the fit is one of them again where a model is needed that was cleared.

        Other words are held against lists: without them none is missing.
        """
        folder = Path(self.folder)
        if not set(self.measures) - set(CHANGES) and not (folder / "accuracy.json").is_file():
            return []
        names = [name for name in self.measures if not (folder / f"{name}.json").is_file()]
        if set(names) & {"accuracy", "strangers", "latency"} and not (folder / "model" / store.DESCRIPTION).is_file():
            names = ["fit", *(name for name in names if name != "fit")]
        return names


def wanted_measures(arm: Arm, *, labels: bool) -> tuple[str, ...]:
    """What is measured of an arm on the words as they are."""
    found = []
    if arm.recommender is not None:
        found += ["fit", "accuracy", "latency"]
        if not arm.sampled:
            found.append("strangers")
    if arm.clicks is not None and labels:
        found.append("clicks")
    return tuple(found)


def rewords(arm: Arm) -> bool:
    """Whether an arm is also fitted on other words, with the first seed."""
    return arm.reads_texts and arm.clicks is None and not {"model", "partners"} & set(arm.needs)


class Bench:
    """What jobs of one process have in common: data sets and spaces, opened once."""

    def __init__(self, study: StudyConfig) -> None:
        self.study = study
        self._data: dict[str, Prepared] = {}
        self._spaces: dict[str, Space] = {}

    def data(self, text: str) -> Prepared:
        """A data set as it was asked for."""
        if text not in self._data:
            self._data[text] = open_data(parse_spec(text), self.study)
        return self._data[text]

    def space(self, uri: str) -> Space:
        """A space by its encoder's name."""
        if uri not in self._spaces:
            self._spaces[uri] = open_space(uri)
        return self._spaces[uri]


class Work:
    """Does a job, measure by measure; what is there already is left alone."""

    def __init__(self, job: Job, bench: Bench) -> None:
        self.job, self.bench, self.study, self.arm = job, bench, bench.study, ARMS[job.arm]
        self.folder = Path(job.folder)

    def run(self, on_measure: OnMeasure = lambda *_: None) -> None:
        """Do what is missing.

        Raises
        ------
        KoinonError
            As the arm's recommender and the evaluation.
        """
        for name in self.job.missing():
            on_measure(name, "begun", 0.0)
            begun = process_time()
            facts = self._reworded(name) if name in CHANGES else getattr(self, f"_{name}")()
            seconds = process_time() - begun
            write_atomically(
                self.folder / f"{name}.json", json.dumps({**facts, "measure_seconds": seconds}, indent=1) + "\n"
            )
            on_measure(name, "done", seconds)

    @cached_property
    def prepared(self) -> Prepared:
        """The data set."""
        return self.bench.data(self.job.data)

    @cached_property
    def space(self) -> Space:
        """The semantic space the arm reads."""
        return self.bench.space(self.arm.encoder or self.study.encoder)

    @cached_property
    def recommender(self) -> Recommender:
        """As :meth:`_fit` kept it."""
        return store.load(self.folder / "model", self.prepared.known, self._read_space())

    def _read_space(self) -> Space | None:
        return self.space if self.arm.reads_texts else None

    def _asked(self) -> Any:
        test = self.prepared.split.test
        return rows_of(test, sample_rows(test, self.study.users, seed=0)) if self.arm.sampled else test

    def _fit(self) -> dict[str, Any]:
        chosen = choose(
            self.arm,
            self.prepared,
            self._read_space(),
            kept=self.job.kept,
            stated=self.job.stated,
            budget=self.study.budget,
            journal=self.folder.parent / "trials",
        )
        if self.arm.reads_texts:
            self.space.encode(self.prepared.known.texts)  # texts are encoded before the clock starts
        space, seed = self._read_space(), self.job.seed
        if self.job.federation is not None:
            partners = {one.spec.base: one for one in map(self.bench.data, self.job.partners)}
            for partner in partners.values() if self.arm.reads_texts else ():
                self.space.encode(partner.known.texts)
            own, folder = self.prepared.spec.base, Path(self.job.federation)
            found = fit_federated(
                self.arm, chosen.config, partners, own, space, self.study, seed=seed, folder=folder
            )  # fmt: skip
        else:
            found = fit(self.arm, chosen.config, self.prepared, space, self.study, seed=seed, folder=self.folder)
        store.save(found.recommender, self.folder / "model", self.prepared.known, self._read_space())
        self.__dict__["recommender"] = found.recommender
        return {
            **found.facts,
            "settings_from": chosen.origin,
            "trials": chosen.trials,
            "config": found.config.model_dump(mode="json", exclude_defaults=True, exclude_none=True),
        }

    def _config(self) -> Config:
        assert self.arm.recommender is not None
        facts = json.loads((self.folder / "fit.json").read_text(encoding="utf-8"))
        return config_type(self.arm.recommender).from_dict(facts["config"])

    def _accuracy(self) -> dict[str, Any]:
        vectors = np.asarray(self.bench.space(self.study.encoder).encode(self.prepared.known.texts), dtype=np.float32)
        per_user, catalogue, lists = measures.accuracy(
            self.recommender, self.prepared, self._asked(), vectors, self.study.k
        )
        self._keep("accuracy", per_user)
        with atomic_path(self.folder / "lists.npy") as path:
            np.save(path, lists)
        return {"catalogue": catalogue}

    def _strangers(self) -> dict[str, Any]:
        self._keep("strangers", measures.strangers(self.recommender, self.prepared, self.study))
        return {}

    def _latency(self) -> dict[str, Any]:
        requests = -(-self.study.requests // 5) if self.arm.sampled else self.study.requests
        return measures.latency(self.recommender, self._asked(), requests, k=self.study.k)

    def _reworded(self, change: str) -> dict[str, Any]:
        """Fit the same on other words, and hold its lists against the first ones."""
        other = reworded(self.prepared.known, change)
        asked = self._asked()
        model = refit(self.arm, self._config(), other.domain, self.space, seed=self.job.seed, folder=self.folder)
        answered = measures.Answered.by(model, asked, other.domain.n_items)
        per_user, _, lists = measures.accuracy(answered, self.prepared, asked, None, self.study.k)
        everybody = per_user.filter(pl.col("slice") == "all")
        before = np.load(self.folder / "lists.npy", allow_pickle=False)
        self._keep(change, everybody.with_columns(pl.Series("overlap", measures.overlap(before, lists))))
        return {"changed": other.changed, "words": other.words}

    def _clicks(self) -> dict[str, Any]:
        assert self.arm.clicks is not None
        data = self.prepared.clicks
        assert data is not None
        settings = click_config_type(self.arm.clicks).from_dict(dict(self.job.stated), source=self.arm.name)
        space = self.space if self.arm.reads_texts else None
        begun_mb, begun = memory.begin(), process_time()
        found = train_clicks(self.arm.clicks, settings, data, space, seed=self.job.seed, folder=self.folder / "clicks")
        return {
            "validation": found.report["validation"],
            "test": found.report["test"],
            "begun_mb": begun_mb,
            "peak_mb": memory.peak_mb(),
            "parameters": found.report.get("parameters"),
            "serving": found.report["serving"],
            "seconds": process_time() - begun,
        }

    def _keep(self, name: str, per_user: pl.DataFrame) -> None:
        """Write per-user values; the JSON that follows vouches for them."""
        with atomic_path(self.folder / f"{name}.parquet") as path:
            per_user.write_parquet(path)
