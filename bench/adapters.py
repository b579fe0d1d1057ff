"""Federated adapters on the ten demo partners: what the private parts give, and what federation adds.

    python -m bench.adapters            # or: python bench/adapters.py --partners books-de,books-fr --on test

Everything is chosen on validation; the test set is read once per fitted arm. Prints one table and writes it as JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from koinon.config import write_atomically
from koinon.data import Split, make_split
from koinon.data.public import DEMO_PARTNERS, demo_split_config, demo_tables
from koinon.evaluation import evaluate, paired_gain
from koinon.recommenders import Release
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated.adapters import AdaptersConfig, AdaptersPlan, FederatedAdapters
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.tuning import tune_local
from koinon.space import Space, open_space


def federate(splits: dict[str, Split], space: Space, config: AdaptersConfig, seed: int) -> tuple[Release, dict]:
    """Run all rounds in this process, as a server would."""
    plan = AdaptersPlan(config)
    began = time.monotonic()
    catalogues = [catalogue_of(name, split.train.items) for name, split in splits.items()]
    release = plan.initial(catalogues, space, rng=np.random.default_rng(seed))
    matched = time.monotonic() - began
    bytes_up = []
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        given = {}
        for name, split in splits.items():
            learner = FederatedAdapters(config)
            learner.attach(split.train, space)
            given[name] = learner.contribute(split.train, release, task)
        bytes_up.append(sum(int(np.prod(spec.shape)) * 4 for spec in task.specs))
        release = plan.aggregate(release, add_up(task.specs, given))
    seconds = time.monotonic() - began
    return release, {
        "works": len(release.arrays["counts"]),
        "match_seconds": matched,
        "seconds": seconds,
        "bytes_up": bytes_up,
    }


def arm(
    split: Split, space: Space, release: Release | None, start: SemanticEaseConfig, seed: int, config: AdaptersConfig
) -> FederatedAdapters:
    """Tune on validation and fit."""
    learner = FederatedAdapters(config)
    if release is not None:
        learner.receive(release)
    learner.tune(split, space, rng=np.random.default_rng(seed), start=start)
    return learner.fit(split.train, space, rng=np.random.default_rng(seed))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partners", default=",".join(DEMO_PARTNERS))
    parser.add_argument("--federate", default=",".join(DEMO_PARTNERS), help="who takes part in the rounds")
    parser.add_argument("--seeds", default="0", help="e.g. 0,1,2: of the first basis and of the validation users drawn")
    parser.add_argument("--starts", type=Path, default=None, help="JSON file that keeps the tuned local_space settings")
    parser.add_argument("--out", type=Path, default=Path("adapters.json"))
    parser.add_argument("--on", choices=("validation", "test"), default="validation")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings the federation agrees on")
    asked = parser.parse_args(argv)
    agreed = {
        key: float(value) if "." in value else int(value) for key, value in (item.split("=") for item in asked.set)
    }
    config = AdaptersConfig(**agreed)
    space = open_space()
    protocol = demo_split_config()
    splits = {name: make_split(name, demo_tables(name, full=False), protocol) for name in asked.federate.split(",")}
    starts = json.loads(asked.starts.read_text()) if asked.starts and asked.starts.exists() else {}
    rows: list[dict] = []
    for seed in map(int, asked.seeds.split(",")):
        release, about = federate(splits, space, config, seed)
        print(f"seed {seed}: {about}", flush=True)
        for name in asked.partners.split(","):
            split = splits[name]
            if name not in starts:
                tuned = tune_local(split, space, rng=np.random.default_rng(7))["local_space"]
                starts[name] = tuned.config.model_dump()
                if asked.starts:
                    write_atomically(asked.starts, json.dumps(starts, indent=1))
            start = SemanticEaseConfig(**starts[name])
            target = split.validation if asked.on == "validation" else split.test
            began = time.monotonic()
            models = {"adapters_local": arm(split, space, None, start, seed, config)}
            halfway = time.monotonic()
            models["federated_adapters"] = arm(split, space, release, start, seed, config)
            done = time.monotonic()
            models["local_space"] = SemanticEASE(start).fit(split.train, space, rng=np.random.default_rng(seed))
            found = {key: evaluate(model, split.train, target) for key, model in models.items()}
            row: dict = {"seed": seed, "partner": name, "seconds_local": halfway - began, "seconds": done - halfway}
            for key, value in found.items():
                row[key] = value.mean()
                row[f"{key}/cold"] = value.mean("ndcg@10", "cold_among_cold")
            base, own, fed = (found[key].values() for key in ("local_space", "adapters_local", "federated_adapters"))
            for key, a, b in (("fed-space", fed, base), ("fed-own", fed, own), ("own-space", own, base)):
                gain = paired_gain(a, b)
                row[key] = (gain.gain, gain.lo, gain.hi)
            row["config"] = models["federated_adapters"].config.model_dump()
            rows.append(row)
            print(_line(row), flush=True)
    write_atomically(asked.out, json.dumps({"rows": rows, "about": about}, indent=1))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    for key in ARMS:
        mean, cold = (float(np.nanmean([row[which] for row in rows])) for which in (key, f"{key}/cold"))
        print(f"{key:20s} {mean:.4f}  cold among cold {cold:.4f}")


ARMS = ("local_space", "adapters_local", "federated_adapters")
GAINS = ("fed-space", "fed-own", "own-space")
SHOWN = (
    *("lambda_", "item_power", "beta", "creator", "learned", "cap"),
    *("own_editions", "cold_weight", "cold_blend", "popularity_weight"),
)


def _line(row: dict) -> str:
    arms = " ".join(f"{key} {row[key]:.4f} (cold {row[f'{key}/cold']:.3f})" for key in ARMS)
    gains = " ".join("{} {:+.4f} [{:+.4f},{:+.4f}]".format(key, *row[key]) for key in GAINS)
    chosen = {key: row["config"][key] for key in SHOWN}
    return f"{row['partner']:14s} {arms} | {gains} | {row['seconds_local']:.0f}s {row['seconds']:.0f}s {chosen}"


if __name__ == "__main__":
    main()
