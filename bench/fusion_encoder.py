"""UniSRec against free vectors, linear maps of texts and item models, on people and on items that are new.

    python -m bench.fusion_encoder --state DIR --data DIR --datasets office,music,ml-100k-last
    python -m bench.fusion_encoder --state DIR --data DIR --datasets office --table

Last event held out, 5 % of the catalogue withheld until the test, so that it is cold; whole catalogue ranked. Every arm
is fitted on the training events alone and chosen on validation (networks: the epoch and one of the dropouts; item
models: their settings); the test set is read once per arm. `pre` arms begin with weights pre-trained on the training
events of the other data sets named. Cells that are there are not measured again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.fusion_data import SLICES, Cells, gains, kept_settings, latency, split_of, told, tuned_semantic
from koinon.data import Domain, Split
from koinon.evaluation import evaluate
from koinon.recommenders import Recommender
from koinon.recommenders.conventional import EASE, EaseConfig, Popularity, SemanticEASE, TextSimilarity
from koinon.recommenders.fusion.feature_encoder import Initial, UniSRec, UniSRecConfig, pretrain
from koinon.recommenders.sequential import SASRec, SASRecConfig, SequenceRecommender
from koinon.space import Space, open_space

SHARED: dict[str, Any] = {
    "width": 64, "length": 20, "blocks": 2, "heads": 2, "loss": "full", "learning_rate": 3e-3, "batch_users": 64,
    "validate_every": 2, "patience": 3,
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "sasrec:ids": {"items": "ids"},
    "sasrec:texts": {"items": "texts"},
    "sasrec:ids+texts": {"items": "ids+texts"},
    "unisrec:texts": {"items": "texts"},
    "unisrec:ids+texts": {"items": "ids+texts"},
    "pre:as it is": {"items": "texts", "epochs": 1, "learning_rate": 1e-12},
    "pre:adaptor alone": {"items": "texts", "tune": "adaptor"},
    "pre:all": {"items": "texts"},
    "pre:ids+texts": {"items": "ids+texts"},
}
CAPS = {"games": 3000}
"""People whose events are pre-trained on, where a data set has more."""


def initial(options: argparse.Namespace, without: str, space: Space) -> tuple[Initial, dict[str, Any]]:
    """Weights pre-trained on the other data sets, kept in the folder of states."""
    others = [name for name in options.pretrain.split(",") if name != without]
    path = options.state / "pretrained" / f"{'+'.join(others)}-{options.experts}-{options.seed}.safetensors"
    began = time.process_time()
    if not path.exists():
        domains = [_capped(split_of(name, options.data).train, CAPS.get(name), options.seed) for name in others]
        config = UniSRecConfig(**SHARED, dropout=0.2, epochs=options.pretrain_epochs, experts=options.experts)
        path.parent.mkdir(parents=True, exist_ok=True)
        given = pretrain(
            domains, space, config, rng=np.random.default_rng(options.seed),
            checkpoint=path.with_suffix(".checkpoint"), on_progress=_told(f"pre-training for {without}"),
        )  # fmt: skip
        given.save(path)
        path.with_suffix(".seconds").write_text(f"{time.process_time() - began:.1f}")
    seconds = float(path.with_suffix(".seconds").read_text())
    return Initial.load(path), {"pretrained_on": others, "pretraining_cpu_seconds": seconds}


def _capped(domain: Domain, people: int | None, seed: int) -> Domain:
    if people is None or domain.n_users <= people:
        return domain
    drawn = np.random.default_rng(seed).permutation(domain.n_users)[:people]
    return domain.with_events(domain.events.take(np.isin(domain.events.user, drawn)))


def _told(what: str) -> Any:
    def tell(progress: Any) -> None:
        if progress.epoch_over:
            metric = "" if progress.metric is None else f", NDCG@10 {progress.metric:.4f}"
            print(f"{what}: epoch {progress.epoch}, loss {progress.loss:.3f}{metric}", flush=True)

    return tell


def network(arm: str, split: Split, space: Space, options: argparse.Namespace) -> tuple[Recommender, dict[str, Any]]:
    """Train with each dropout and keep what validation prefers."""
    given, about = initial(options, split.train.name, space) if arm.startswith("pre:") else (None, {})
    chosen: SequenceRecommender | None = None
    tried = {}
    seconds = 0.0
    for dropout in map(float, options.dropouts.split(",")):
        settings = {**SHARED, "epochs": options.epochs, "dropout": dropout, **ARMS[arm]}
        model: SequenceRecommender
        if arm.startswith("sasrec"):
            model = SASRec(SASRecConfig(**settings))
        else:
            model = UniSRec(UniSRecConfig(**settings, experts=options.experts), initial=given)
        began = time.process_time()
        model.fit(
            split.train, space, rng=np.random.default_rng(options.seed), validation=split.validation,
            on_progress=_told(f"{split.train.name} {arm} {dropout}"),
        )  # fmt: skip
        assert model.training is not None
        assert model.training.best is not None
        tried[str(dropout)] = model.training.best
        spent = time.process_time() - began
        if chosen is None or model.training.best > (chosen.training.best or 0.0):  # type: ignore[union-attr]
            chosen, seconds = model, spent
    assert chosen is not None
    assert chosen.training is not None
    learned = sum(p.numel() for p in chosen.network.parameters() if p.requires_grad)
    return chosen, {
        **about,
        "tried": tried,
        "validation": chosen.training.best,
        "epoch": chosen.training.best_epoch,
        "train_cpu_seconds": seconds,
        "parameters": sum(p.numel() for p in chosen.network.parameters()),
        "learned": learned,
    }


def item_model(arm: str, split: Split, space: Space, state: Path) -> tuple[Recommender, dict[str, Any]]:
    """EASE has the settings of the baseline table; semantic EASE is tuned from there on this split's validation."""
    model: Recommender
    if arm == "popularity":
        model = Popularity()
    elif arm == "text-similarity":
        model = TextSimilarity()
    elif arm == "ease":
        model = EASE(EaseConfig(**kept_settings(split.train.name, "ease")))
    else:
        model = SemanticEASE(tuned_semantic(split, space, state))
    began = time.process_time()
    model.fit(split.train, space, rng=np.random.default_rng(0))
    return model, {"train_cpu_seconds": time.process_time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder of cells and pre-trained weights")
    parser.add_argument("--data", type=Path, help="folder of data sets that are not public downloads")
    parser.add_argument("--datasets", default="office")
    parser.add_argument("--pretrain", default="office,games,music,ml-100k-last", help="the target itself is left out")
    parser.add_argument("--arms", default="popularity,text-similarity,ease,semantic-ease," + ",".join(ARMS))
    parser.add_argument("--dropouts", default="0.2", help="tried on validation, e.g. 0.2,0.5")
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--pretrain-epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="measure nothing, print what is there")
    options = parser.parse_args()
    cells, space = Cells(options.state / f"cells-{options.seed}"), open_space()
    for name in options.datasets.split(","):
        arms = options.arms.split(",")
        if not options.table:
            split = split_of(name, options.data)
            for arm in arms:
                if cells.has(f"{name}/{arm}"):
                    continue
                if arm in ARMS:
                    model, found = network(arm, split, space, options)
                else:
                    model, found = item_model(arm, split, space, options.state)
                figures = evaluate(model, split.train, split.test, slices=SLICES)
                found |= latency(model, split.test)
                cells.keep(f"{name}/{arm}", found, figures)
                print(f"{name} {arm}: {figures.mean():.4f} {found}", flush=True)
        there = {arm: f"{name}/{arm}" for arm in arms if cells.has(f"{name}/{arm}")}
        for slice_ in SLICES:
            for base in ("semantic-ease", "sasrec:ids+texts"):
                if base in there:
                    print(f"\n{name}, {slice_}, against {base}\n{told(gains(cells, there, base, slice_))}")
        print(f"\n{name}, cost")
        for arm, cell in there.items():
            shown = cells.found(cell)
            keys = (
                "train_cpu_seconds",
                "pretraining_cpu_seconds",
                "epoch",
                "parameters",
                "learned",
                "p50_ms",
                "p95_ms",
            )
            print(f"{arm:20} " + " ".join(f"{key} {shown[key]:,.1f}" for key in keys if key in shown))


if __name__ == "__main__":
    main()
