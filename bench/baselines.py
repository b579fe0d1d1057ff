"""The baseline table: every conventional recommender, tuned on validation, on every data set that is at hand.

    python -m bench.baselines --out measured --datasets ml-100k-last,books-de --data DIR

A cell that is written is not measured again, and a trial of an interrupted search is not run again. ``--settings
bench/configs/baselines`` takes the settings kept there in place of a search. Every call ends by writing the table of
all cells that are there (``baselines.md``) and the settings that were found (``settings/``). Settings are chosen on
validation; each cell reads the test set once, after fitting on all that is not test.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from bench.baseline_studies import STUDIES, Study
from bench.baseline_table import markdown
from koinon.config import Config, write_atomically
from koinon.data import Split
from koinon.evaluation import Evaluation, evaluate
from koinon.recommenders import Recommender, tuning
from koinon.recommenders.conventional import EaseConfig, PopularityConfig
from koinon.recommenders.sequential import SASRecConfig
from koinon.recommenders.sequential.tuning import SASRecFamily
from koinon.recommenders.training import build, config_type, known_before_test, train
from koinon.space import Space, open_space

BUDGET = 60
"""Trials of each recommender at most; no search of a conventional one comes to its end."""
SASREC_BUDGET, SASREC_START = 4, SASRecConfig(length=50, epochs=40, patience=6)
"""A trial of SASRec is a whole training: dropout and loss are tried, the rest stays as it is."""

COLUMNS: Mapping[str, str] = {
    "popularity": "popularity",
    "windowed": "windowed popularity",
    "itemknn": "ItemKNN",
    "ials": "iALS",
    "bpr": "BPR-MF",
    "ease": "EASE",
    "semantic-ease": "semantic EASE",
    "sasrec": "SASRec",
}
"""Columns of the table: short name to title."""


@dataclass(frozen=True)
class Place:
    """Where one study's cells, trials and settings are."""

    out: Path
    settings: Path | None
    study: str

    def row(self, column: str) -> Path:
        return self.out / "rows" / self.study / f"{column}.json"

    @property
    def trials(self) -> Path:
        return self.out / "trials" / self.study

    def kept(self, column: str) -> dict[str, Any] | None:
        """Settings that were found before."""
        file = None if self.settings is None else self.settings / f"{self.study}.toml"
        if file is None or not file.exists():
            return None
        found: dict[str, Any] | None = tomllib.loads(file.read_text()).get(column)
        return found


def search(column: str, split: Split, space: Space, place: Place, seed: int) -> tuning.TuningResult:
    """Choose a column's settings on validation."""
    families: dict[str, Any] = {
        "windowed": tuning.PopularityFamily,
        "itemknn": tuning.ItemKNNFamily,
        "ials": lambda: tuning.IALSFamily(seed),
        "bpr": lambda: tuning.BPRFamily(seed),
        "ease": tuning.EaseFamily,
        "semantic-ease": lambda: tuning.SemanticEaseFamily(plain_ease(place)),
        "sasrec": lambda: SASRecFamily(SASREC_START, seed=seed),
    }
    budget = SASREC_BUDGET if column == "sasrec" else BUDGET
    rng = np.random.default_rng(seed)
    return tuning.tune([families[column]()], split, space, rng=rng, budget=budget, journal=place.trials)


def plain_ease(place: Place) -> EaseConfig | None:
    """Where semantic EASE begins: at what plain EASE came to, if that has been measured."""
    row = place.row("ease")
    return EaseConfig.model_validate(json.loads(row.read_text())["config"]) if row.exists() else None


def fit(column: str, config: Config, split: Split, space: Space, seed: int) -> Recommender:
    """Fit on all that is not test; a network for as many epochs as were best on validation."""
    if column == "sasrec":
        return train(column, config, split, space, seed=seed).recommender
    known = known_before_test(split)
    return build(_recommender(column), config).fit(known, space, rng=np.random.default_rng(seed))


def measure(column: str, split: Split, space: Space, place: Place, seed: int) -> tuple[dict[str, Any], Evaluation]:
    """Tune unless settings are kept, fit, and read the test set."""
    before = time.process_time()
    found: dict[str, Any] = {}
    settings = place.kept(column)
    if column == "popularity":
        config: Config = PopularityConfig()
    elif settings is not None:
        config = config_type(_recommender(column)).from_dict(settings, source=f"{place.study}.toml, {column}")
    else:
        tuned = search(column, split, space, place, seed)
        config = tuned.config
        found = {"validation": tuned.value, "trials": tuned.trials.height}
    model = fit(column, config, split, space, seed)
    figures = evaluate(model, known_before_test(split), split.test, slices=("all",))
    return {
        **found,
        "config": config.model_dump(mode="json"),
        "settings": config.model_dump(mode="json", exclude_defaults=True, exclude_none=True),
        "test": figures.intervals(seed=seed)["all"],
        "cpu_seconds": time.process_time() - before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }, figures


def left_out(column: str, study: Study, split: Split) -> str | None:
    """Why a cell stays empty."""
    if column == "windowed" and split.train.events.time is None:
        return "no times"
    if column == "sasrec" and not study.ordered:
        return "no order"
    return None


def run(name: str, columns: list[str], options: argparse.Namespace, space: Space) -> None:
    """Measure what is missing of one study."""
    study, place = STUDIES[name], Place(options.out, options.settings, name)
    wanted = [column for column in columns if not place.row(column).exists()]
    if not wanted:
        return
    split = study.split(name, options.data)
    about = {
        "study": name,
        "title": study.title,
        "users": split.train.n_users,
        "items": split.train.n_items,
        "events": len(split.events),
        "seed": options.seed,
        "command": shlex.join(["python", "-m", "bench.baselines", *sys.argv[1:]]),
    }
    for column in wanted:
        row: dict[str, Any] = {"column": column, **about}
        reason = left_out(column, study, split)
        if reason is None:
            found, figures = measure(column, split, space, place, options.seed)
            row |= found
            figures.save(place.row(column).with_suffix(".parquet"))
            said = f"NDCG@10 {row['test']['ndcg@10']['mean']:.4f}, {row['cpu_seconds']:.0f} s"
        else:
            row["left_out"] = said = reason
        write_atomically(place.row(column), json.dumps(row, indent=2) + "\n")
        print(f"{name} {column}: {said}", flush=True)


def write_settings(out: Path) -> None:
    """One file for each study, as ``--settings`` reads it."""
    for name in STUDIES:
        rows = [json.loads(path.read_text()) for path in sorted((out / "rows" / name).glob("*.json"))]
        found = [row for row in rows if "validation" in row]
        if found:
            head = "# Tuned by NDCG@10 on validation (mean of the best trial, trials, command):\n"
            for row in found:
                head += f"#   {row['column']}: {row['validation']:.4f}, {row['trials']}, "
                head += f"python -m bench.baselines --out measured --datasets {name} --columns {row['column']}\n"
            body = tomli_w.dumps({row["column"]: row["settings"] for row in found})
            write_atomically(out / "settings" / f"{name}.toml", head + body)


def _recommender(column: str) -> str:
    return "popularity" if column == "windowed" else column


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--datasets", default=",".join(STUDIES), help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--columns", default=",".join(COLUMNS), help=f"of {', '.join(COLUMNS)}")
    parser.add_argument("--data", type=Path, help="folder that holds music-lastfm, games-amazon, ...")
    parser.add_argument("--settings", type=Path, help="folder of kept settings, e.g. bench/configs/baselines")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    space = open_space()
    for name in options.datasets.split(","):
        if STUDIES[name].local and options.data is None:
            print(f"{name}: left out, it needs --data")
            continue
        run(name, options.columns.split(","), options, space)
    write_settings(options.out)
    write_atomically(options.out / "baselines.md", markdown(options.out / "rows", list(STUDIES), COLUMNS))


if __name__ == "__main__":
    main()
