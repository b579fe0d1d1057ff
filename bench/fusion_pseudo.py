"""Pseudo-feedback for cold items by a small language model, against EASE with the space and text similarity alone.

    python -m bench.fusion_pseudo --dataset ml-100k --out DIR --model 'gguf:SmolLM2-135M-Instruct.Q4_1.gguf'
    python -m bench.fusion_pseudo --dataset office --bench-data DIR --out DIR --model …

One event of everybody is held out at random, a fifth of the catalogue is cold. EASE and the weight of its prior are
tuned on validation, and so is every arm's weight of what speaks for cold items, once for a list of everything and once
for a list of cold items alone; the test set is read once by each. Judgements and arms that are there are not made
again. Beside the language model's judgements stand two controls: takers by text similarity, and takers drawn at random.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.baseline_studies import STUDIES
from koinon.config import write_atomically
from koinon.data import Split, SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation import Chance, evaluate
from koinon.evaluation.significance import bootstrap_mean, holm, paired_gain
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig, TextSimilarity
from koinon.recommenders.fusion.pseudo import PseudoConfig, PseudoFeedback
from koinon.recommenders.fusion.pseudo_tuning import TunedPseudo, choose, tune_pseudo
from koinon.recommenders.llm_as_rs.prompted import Wording
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.tuning import EaseFamily, IALSFamily, tune
from koinon.space import Space, open_space

SLICES = ("all", "cold_items", "cold_among_cold")
WORDS = {
    "ml-100k": Wording(opening="Films that one person watched, one after another:"),
    "office": Wording(opening="Office products that one person bought, one after another:"),
}


class RandomJudge:
    """Takers at random: what the machinery brings without anybody's word."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def judge(self, domain: Any, history: Any, items: Any) -> Any:
        return self._rng.random(len(items)).astype(np.float32)


@dataclass(frozen=True)
class Arm:
    """What can be built for a weight, and which weights validation chose."""

    build: Callable[[float], Any]
    tuned: TunedPseudo | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def measure(self, split: Split) -> dict[str, Any]:
        """NDCG@10 of test users: a list of everything, and a list of cold items alone."""
        value, shelf = (0.0, 0.0) if self.tuned is None else (self.tuned.value, self.tuned.shelf)
        whole = evaluate(self.build(value), split.train, split.test, slices=("all", "cold_items"))
        alone = evaluate(self.build(shelf), split.train, split.test, slices=("cold_among_cold",))
        found = {part: (alone if part == "cold_among_cold" else whole).values(slice_=part).tolist() for part in SLICES}
        tuned = None if self.tuned is None else asdict(self.tuned)
        return {"values": found, "weight": value, "shelf": shelf, "tuned": tuned, **self.about}


@dataclass
class Bench:
    options: argparse.Namespace
    split: Split
    space: Space
    ease: dict[str, Any]
    ials: dict[str, Any]

    def pseudo(self, base: str, judge: str) -> Arm:
        """Pseudo-events of one judge beside one base."""
        options = self.options
        config = PseudoConfig(
            base=base,
            base_settings=self.ials if base == "ials" else self.ease,
            judge="similarity" if judge == "similarity" else "likelihood",
            model=options.model,
            record=str(options.out / "judgements"),
            people=options.people,
            takers=options.takers,
            items=options.items,
            wording=WORDS[options.dataset],
            title_length=options.title,
            seed=options.seed,
        )
        given = RandomJudge(options.seed) if judge == "random" else None
        began = time.process_time()
        fitted = PseudoFeedback(config, judge=given).fit(self.split.train, self.space, rng=np.random.default_rng(0))
        spent = time.process_time() - began

        def build(weight: float) -> Recommender:
            again = fitted.with_weight(weight)
            return again.fit(self.split.train, self.space, rng=np.random.default_rng(0))

        return Arm(build, tune_pseudo(fitted, self.split, self.space), {"judging_s": spent})

    def semantic(self) -> Arm:
        """EASE with the prior; its weight on cold items chosen by the same rule, beta with it."""

        def build(weight: float) -> Recommender:
            config = SemanticEaseConfig(**{**self.ease, "beta": min(weight, 0.3), "cold_weight": weight})
            return SemanticEASE(config).fit(self.split.train, self.space, rng=np.random.default_rng(0))

        return Arm(build, choose(build, self.split, (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.8)))

    def texts(self) -> Arm:
        """Cosine to the history's mean."""
        model = TextSimilarity().fit(self.split.train, self.space, rng=np.random.default_rng(0))
        return Arm(lambda _: model)

    def chance(self) -> Arm:
        """Any order."""
        model = Chance().fit(self.split.train, None, rng=np.random.default_rng(0))
        return Arm(lambda _: model)

    def arms(self) -> dict[str, Callable[[], Arm]]:
        return {
            "chance": self.chance,
            "text similarity": self.texts,
            "semantic EASE": self.semantic,
            "pseudo EASE, model": lambda: self.pseudo("ease", "likelihood"),
            "pseudo iALS, model": lambda: self.pseudo("ials", "likelihood"),
            "pseudo semantic EASE, model": lambda: self.pseudo("semantic-ease", "likelihood"),
            "pseudo EASE, similarity": lambda: self.pseudo("ease", "similarity"),
            "pseudo EASE, random": lambda: self.pseudo("ease", "random"),
        }


def settings(split: Split, out: Path, seed: int) -> dict[str, dict[str, Any]]:
    """EASE and iALS tuned on validation, kept."""
    path = out / "tuned.json"
    if not path.exists():
        found = {}
        for name, family in (("ease", EaseFamily()), ("ials", IALSFamily(seed))):
            tuned = tune([family], split, None, rng=np.random.default_rng(seed), budget=24, journal=out / "trials")
            found[name] = tuned.config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        write_atomically(path, json.dumps(found, indent=2) + "\n")
    read: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(WORDS), default="ml-100k")
    parser.add_argument("--bench-data", type=Path, help="folder that holds office-amazon")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--takers", type=int, default=30)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--title", type=int, default=80, help="characters of a title that are told")
    parser.add_argument(
        "--arms", help="some of the arms by name, `;` between them; the table holds those that are there"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tables = get("ml-100k") if options.dataset == "ml-100k" else STUDIES["office"].load(options.bench_data)
    split = make_split(options.dataset, tables, SplitConfig(protocol="holdout", cold_items=0.2))
    tuned = settings(split, options.out, options.seed)
    bench = Bench(options, split, open_space(), tuned["ease"], tuned["ials"])
    for name, arm in bench.arms().items():
        path = options.out / f"{name}.json"
        if path.exists() or (options.arms and name not in options.arms.split(";")):
            continue
        began = time.process_time()
        found = arm().measure(split)
        found["seconds"] = time.process_time() - began
        write_atomically(path, json.dumps(found) + "\n")
        print(name, {part: round(float(np.mean(values)), 4) for part, values in found["values"].items()}, flush=True)
    table(options.out, list(bench.arms()), options.seed)


def table(out: Path, arms: list[str], seed: int) -> None:
    """NDCG@10 of every arm, and its paired gain over EASE with the space and over text similarity."""
    arms = [name for name in arms if (out / f"{name}.json").exists()]
    kept = {name: json.loads((out / f"{name}.json").read_text()) for name in arms}
    if not {"semantic EASE", "text similarity"} <= set(kept):
        return
    for part in SLICES:
        print(f"\n{part}: NDCG@10 (95 % interval); gain over semantic EASE; over text similarity (Holm over the rows)")
        gains: dict[str, list[Any]] = {"semantic EASE": [], "text similarity": []}
        for name in arms:
            for against, found in gains.items():
                pair = [np.array(kept[arm]["values"][part]) for arm in (name, against)]
                found.append(paired_gain(*pair, seed=seed))
        adjusted = {against: holm([one.p for one in found]) for against, found in gains.items()}
        for row, name in enumerate(arms):
            mean = bootstrap_mean(np.array(kept[name]["values"][part]), seed=seed)
            said = "; ".join(
                f"{found[row].gain:+.4f} ({found[row].lo:+.4f} to {found[row].hi:+.4f}, p {adjusted[against][row]:.3f})"
                for against, found in gains.items()
            )
            weight = kept[name]["shelf" if part == "cold_among_cold" else "weight"]
            print(f"{name:28} {mean.mean:.4f} ({mean.lo:.4f} to {mean.hi:.4f}, {mean.n}); {said}; weight {weight}")
    for name, one in kept.items():
        print(f"{name}: {one['seconds']:.0f} s of processor time", one.get("judging_s", ""))


if __name__ == "__main__":
    main()
