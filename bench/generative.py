"""Items as ids, texts and code words, told by products and by generation: the same small network on one data set.

    python bench/generative.py --state DIR --dataset ml-100k --seeds 0
    python bench/generative.py --state DIR --arms hstu:ids,hstu:ids:weight --seeds 0,1,2

An arm is a recommender, what its items are read as and, if given, which marks of events it is told.

The last event of everybody is the test item, the one before validation; the whole catalogue is ranked. Every arm has
the same width, blocks, dropout and step size and stops early on validation; nothing is trained on validation items. The
test set is read once an arm. What is in the folder is not measured again. The table holds every arm against the first.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koinon.config import write_atomically
from koinon.data import Split, SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation import evaluate
from koinon.evaluation.protocol import requests_of
from koinon.evaluation.significance import bootstrap_mean, holm, paired_gain
from koinon.recommenders.sequential import Generative, SequenceRecommender
from koinon.recommenders.training import build, config_type
from koinon.space import Space, open_space

ARMS = ("hstu:ids", "sasrec:ids", "hstu:texts", "hstu:codes", "generative:codes", "generative:ids+codes")
SETTINGS = {"length": 50, "width": 64, "blocks": 2, "batch_users": 32, "learning_rate": 2e-3, "loss": "full",
            "patience": 2, "validate_every": 2}  # fmt: skip
BEAMS = (10, 20, 50, 100)
METRICS = ("ndcg@10", "hr@10")


def measure(arm: str, split: Split, space: Space, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Fit one arm and measure it on the test set."""
    name, items, marks = (*arm.split(":"), "none")[:3]
    model = build(name, config_type(name)(**settings, items=items, marks=marks))
    assert isinstance(model, SequenceRecommender)
    began = time.process_time()
    model.fit(split.train, space, rng=np.random.default_rng(seed), validation=split.validation)
    assert model.training is not None
    found: dict[str, Any] = {
        "seconds": time.process_time() - began,
        "best_epoch": model.training.best_epoch,
        "validation": model.training.best,
        "parameters": sum(value.numel() for value in model.network.parameters()),
    }
    asked = evaluate(model, split.train, split.test, slices=("all",))
    found |= {metric: asked.values(metric).tolist() for metric in METRICS}
    if isinstance(model, Generative):
        found["beams"] = beams(model, split)
    return found


def beams(model: Generative, split: Split, people: int = 200, k: int = 10) -> list[dict[str, float]]:
    """For each width how much of the list by :meth:`score` a beam finds, and milliseconds for one person."""
    requests = requests_of(split.test, np.arange(min(people, len(split.test))))
    exact = []
    for request, row in zip(requests, model.score(requests), strict=True):
        row[request.history] = -np.inf
        exact.append(set(np.argsort(-row)[:k].tolist()))
    table = []
    for beam in BEAMS:
        model.config = model.config.model_copy(update={"beam": beam})
        found = [{each.item for each in each_list} for each_list in model.recommend(requests, k)]
        began = time.process_time()
        for request in requests[:50]:
            model.recommend([request], k)
        spent = (time.process_time() - began) / 50 * 1000
        overlap = float(np.mean([len(one & other) / k for one, other in zip(exact, found, strict=True)]))
        table.append({"beam": beam, "found": overlap, "milliseconds": spent})
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--code-levels", type=int, default=3)
    parser.add_argument("--code-words", type=int, default=64)
    asked = parser.parse_args(argv)
    settings = {**SETTINGS, "epochs": asked.epochs, "code_levels": asked.code_levels, "code_words": asked.code_words}
    config = SplitConfig(protocol="leave-last-out", cold_items=0.0, minimum_item_events=1)
    split, space = make_split(asked.dataset, get(asked.dataset), config), open_space()
    arms, every = asked.arms.split(","), []
    for seed in map(int, asked.seeds.split(",")):
        results = {}
        for arm in arms:
            path = asked.state / f"{asked.dataset}-{arm.replace(':', '-')}-{seed}.json"
            if not path.exists():
                write_atomically(path, json.dumps(measure(arm, split, space, settings, seed)))
            results[arm] = json.loads(path.read_text())
            print(arm, {key: value for key, value in results[arm].items() if key not in METRICS}, flush=True)
        print(f"\n{asked.dataset}, seed {seed}, {split.train.n_items:,} items, {len(split.test):,} people")
        table(arms, results, seed)
        every.append(results)
    if len(every) > 1:
        print(f"\n{asked.dataset}, every person's mean over seeds {asked.seeds}")
        table(arms, {arm: mean_of([results[arm] for results in every]) for arm in arms}, 0)


def mean_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of several seeds, one value a person."""
    means: dict[str, Any] = {metric: np.mean([run[metric] for run in runs], axis=0).tolist() for metric in METRICS}
    told = {key: round(float(np.mean([run[key] for run in runs]))) for key in ("seconds", "best_epoch", "parameters")}
    return means | told


def table(arms: Sequence[str], results: dict[str, dict[str, Any]], seed: int) -> None:
    """Print every arm, and its paired gain over the first."""
    print("arm | parameters | epoch | CPU s | NDCG@10 | HR@10 | over the first | p (Holm)")
    base = np.array(results[arms[0]]["ndcg@10"])
    gains = [paired_gain(np.array(results[arm]["ndcg@10"]), base, seed=seed) for arm in arms[1:]]
    adjusted = holm([gain.p for gain in gains])
    for arm, gain, p in zip(arms, [None, *gains], [None, *adjusted], strict=True):
        found = results[arm]
        mean = bootstrap_mean(np.array(found["ndcg@10"]), seed=seed)
        said = f"{gain.gain:+.4f} [{gain.lo:+.4f}, {gain.hi:+.4f}] | {p:.3f}" if gain is not None else "- | -"
        print(
            f"{arm} | {found['parameters']:,} | {found['best_epoch']} | {found['seconds']:.0f} |"
            f" {mean.mean:.4f} [{mean.lo:.4f}, {mean.hi:.4f}] | {np.mean(found['hr@10']):.4f} | {said}"
        )


if __name__ == "__main__":
    main()
