"""Texts beside events by a gate: on the whole catalogue, on new items and on rare ones.

    python -m bench.fusion_scoring --state DIR --data DIR --datasets office,music,ml-100k-last,books-de
    python -m bench.fusion_scoring --state DIR --likelihood 'gguf:SmolLM2-135M-Instruct.Q4_1.gguf?dtype=bfloat16' \
        --datasets ml-100k-last --users 100

Items are withheld as in `bench.fusion_encoder`; every arm is fitted on the training events alone. The gate, and how a
text is held against a history, are chosen on validation; `one weight` is the best gate that no number of events closes,
chosen in the same way and not guarded. The test set is read once per arm. With `--likelihood` the language model reads
the base's best and near rare items of seeded people of validation and test; answers are kept in the folder of states.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.fusion_data import SLICES, Cells, gains, kept_settings, latency, split_of, told, tuned_semantic
from koinon.data import EvaluationSet, Split
from koinon.evaluation import evaluate, requests_of
from koinon.recommenders import Recommender, Request
from koinon.recommenders.conventional import EASE, EaseConfig, SemanticEASE, TextSimilarity
from koinon.recommenders.fusion.scoring import Evidence, Gate, Gated, GatedConfig, Likelihood, Source, tune_gate
from koinon.space import Space, open_space

NEAREST = (0, 3)
FILMS = {"opening": "Films that one person watched, one after another:"}


def bases(split: Split, space: Space, state: Path) -> dict[str, Recommender]:
    """What the gate is put beside."""
    rng, ease = np.random.default_rng(0), EaseConfig(**kept_settings(split.train.name, "ease"))
    return {
        "ease": EASE(ease).fit(split.train, None, rng=rng),
        "semantic-ease": SemanticEASE(tuned_semantic(split, space, state)).fit(split.train, space, rng=rng),
    }


def measure(name: str, split: Split, space: Space, cells: Cells, options: argparse.Namespace) -> None:
    """Every arm of one data set."""
    at_hand = bases(split, space, options.state)
    alone = TextSimilarity().fit(split.train, space, rng=np.random.default_rng(0))
    arms: dict[str, tuple[Recommender, dict[str, Any]]] = {"texts alone": (alone, {})}
    for key in options.bases.split(","):
        base = at_hand[key]
        arms[key] = (base, {})
        began = time.process_time()
        tried = []
        for nearest in NEAREST:
            model = Gated(GatedConfig(nearest=nearest), base=base).adopt(split.train, space)
            tried.append((model, tune_gate(model, split, rng=np.random.default_rng(options.seed), rows=options.rows)))
        model, tuned = max(tried, key=lambda pair: pair[1].means[pair[1].leader])
        about = {
            "nearest": model.config.nearest,
            "gate": tuned.gate.model_dump(),
            "leader": tuned.leader.model_dump(),
            "validation_gain": tuned.gain,
            "standard_errors": tuned.gain / tuned.error if tuned.error else 0.0,
            "caution": tuned.caution,
            "tuning_cpu_seconds": time.process_time() - began,
        }
        flat = max((gate for gate in tuned.means if not gate.item_events and not gate.user_events), key=tuned.means.get)
        arms[f"{key}, gate"] = (model.with_gate(tuned.gate), about)
        arms[f"{key}, one weight"] = (model.with_gate(flat), {"gate": flat.model_dump()})
    for arm, (model, about) in arms.items():
        if not cells.has(f"{name}/{arm}"):
            figures = evaluate(model, split.train, split.test, slices=SLICES, batch=128)
            cells.keep(f"{name}/{arm}", {**about, **latency(model, split.test)}, figures)
            print(f"{name} {arm}: {figures.mean():.4f} {about}", flush=True)


class Kept:
    """Answers of a source on disk, so that it goes on where it stopped."""

    def __init__(self, path: Path, source: Source | None) -> None:
        self.path, self.source = path, source
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {one["user"]: one for one in map(json.loads, lines)}

    def evidence(self, request: Request, row: np.ndarray) -> Evidence | None:
        if request.user not in self.known:
            assert self.source is not None
            began = time.process_time()
            found = self.source.evidence(request, row)
            answer: dict[str, Any] = {"user": request.user, "seconds": round(time.process_time() - began, 3)}
            answer |= {"places": [], "told": []}
            if found is not None:
                answer |= {"places": found.places.tolist(), "told": found.told.round(4).tolist()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(answer) + "\n")
            self.known[request.user] = answer
        kept = self.known[request.user]
        return Evidence(np.array(kept["places"], dtype=np.int64), np.array(kept["told"], dtype=np.float32))


def some(rows: EvaluationSet, count: int, seed: int) -> EvaluationSet:
    """Main rows of a seeded draw; the others are not main any more."""
    able = np.flatnonzero(rows.main & (np.diff(rows.target_indptr) > 0) & (np.diff(rows.history_indptr) > 0))
    main = np.zeros(len(rows), dtype=np.bool_)
    main[np.random.default_rng(seed).permutation(able)[:count]] = True
    return replace(rows, main=main)


def likelihood(name: str, split: Split, space: Space, cells: Cells, options: argparse.Namespace) -> None:
    """The same with a language model's likelihoods, for some people."""
    base = bases(split, space, options.state)[options.base]
    config = GatedConfig(
        source="likelihood",
        candidates=options.candidates,
        rare_candidates=options.rare_candidates,
        rare_events=0,
        language_model={"model": options.likelihood, "wording": FILMS if name.startswith("ml") else None},
    )
    asking = Gated(config, base=base).adopt(split.train, space)
    split = replace(
        split,
        validation=some(split.validation, options.users, options.seed),
        test=some(split.test, options.users, options.seed),
    )
    source = asking.source
    assert isinstance(source, Likelihood)
    kept = {part: Kept(options.state / "answers" / f"{name}-{options.base}-{part}.jsonl", source) for part in PARTS}
    for rows, part in ((split.validation, "validation"), (split.test, "test")):
        for request in requests_of(rows, np.flatnonzero(rows.main).tolist()):
            kept[part].evidence(request, base.score([request])[0])
    model = Gated(config, base=base, source=kept["validation"]).adopt(split.train, space)
    tuned = tune_gate(model, split, rng=np.random.default_rng(options.seed))
    print(f"{name}: gate {tuned.gate}, leader {tuned.leader}, gain {tuned.gain:+.4f} ± {tuned.error:.4f}, "
          f"caution {tuned.caution:.2f}, users {tuned.users}")  # fmt: skip
    seconds = [one["seconds"] for one in kept["test"].known.values()]
    near = Gated(config.model_copy(update={"source": "similarity"}), base=base).adopt(split.train, space)
    about = {"p50_s": float(np.median(seconds)), "p95_s": float(np.quantile(seconds, 0.95))}
    only = OnlyMain(split.test)
    arms: dict[str, Recommender] = {
        "base": base,
        "likelihood, gate": Gated(config, base=base, source=kept["test"])
        .adopt(split.train, space)
        .with_gate(tuned.gate),
        "likelihood, leader": Gated(config, base=base, source=kept["test"])
        .adopt(split.train, space)
        .with_gate(tuned.leader),
        "likelihood, wide open": Gated(config, base=base, source=kept["test"])
        .adopt(split.train, space)
        .with_gate(Gate(weight=1.6)),
        "similarity, same gate": near.with_gate(tuned.leader),
    }
    for arm, one in arms.items():
        cells.keep(
            f"{name}/likelihood/{arm}", {**about, "gate": tuned.gate.model_dump()}, evaluate(
                one, split.train, only.rows, slices=SLICES
            ),
        )  # fmt: skip
    show(name, {arm: f"{name}/likelihood/{arm}" for arm in arms}, ("base",), cells)
    print(about)


PARTS = ("validation", "test")


class OnlyMain:
    """Rows of main people alone."""

    def __init__(self, rows: EvaluationSet) -> None:
        keep = np.flatnonzero(rows.main)

        def cut(indptr: np.ndarray, values: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
            counts = np.diff(indptr)[keep]
            inner = np.concatenate([np.arange(indptr[row], indptr[row + 1]) for row in keep.tolist()])
            return np.concatenate(([0], np.cumsum(counts))), None if values is None else values[inner]

        history, items = cut(rows.history_indptr, rows.history_items)
        targets, wanted = cut(rows.target_indptr, rows.target_items)
        assert items is not None
        assert wanted is not None
        self.rows = EvaluationSet(
            user=rows.user[keep], history_indptr=history, history_items=items, target_indptr=targets,
            target_items=wanted, time=None if rows.time is None else rows.time[keep], cold_user=rows.cold_user[keep],
            main=rows.main[keep], history_times=cut(rows.history_indptr, rows.history_times)[1],
        )  # fmt: skip


def show(name: str, arms: dict[str, str], against: tuple[str, ...], cells: Cells) -> None:
    """Print what there is."""
    for slice_ in SLICES:
        for base in against:
            if base in arms:
                shown = {arm: cell for arm, cell in arms.items() if arm.startswith((base, "texts")) or base == "base"}
                print(f"\n{name}, {slice_}, against {base}\n{told(gains(cells, shown, base, slice_))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of data sets that are not public downloads")
    parser.add_argument("--datasets", default="office")
    parser.add_argument("--bases", default="ease,semantic-ease")
    parser.add_argument("--rows", type=int, default=2000, help="validation people at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--likelihood", metavar="MODEL", help="a language model; only this is measured then")
    parser.add_argument("--base", default="ease", help="--likelihood: ease or semantic-ease")
    parser.add_argument("--users", type=int, default=100, help="--likelihood: people of validation and of test")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--rare-candidates", type=int, default=10)
    options = parser.parse_args()
    cells, space = Cells(options.state / f"scoring-{options.seed}"), open_space()
    for name in options.datasets.split(","):
        split = split_of(name, options.data)
        if options.likelihood:
            likelihood(name, split, space, cells, options)
            continue
        measure(name, split, space, cells, options)
        arms = ["texts alone", *(f"{base}{part}" for base in options.bases.split(",") for part in ("", *VARIANTS))]
        show(name, {arm: f"{name}/{arm}" for arm in arms}, ("ease", "semantic-ease"), cells)
        for arm in arms:
            print(arm, {key: value for key, value in cells.found(f"{name}/{arm}").items() if key != "leader"})


VARIANTS = (", gate", ", one weight")


if __name__ == "__main__":
    main()
