"""A controller over six pipelines: what routing by shape and budget gives, what the deadline holds, what it costs.

    python -m bench.fusion_controller --state DIR --data DIR --datasets office --budgets 5,50,500 --log decisions.jsonl

Items are withheld as in `bench.fusion_encoder`; pipelines are fitted on the training events alone with the settings of
the other fusion benchmarks, and measured by the clock on the wall. Choices by shape are made on validation under each
budget, and the test set is read once: the controller with its rules, with its choices, and each pipeline for everybody.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bench.fusion_data import Cells, gains, kept_settings, split_of, told, tuned_semantic
from bench.fusion_encoder import SHARED
from koinon.data import Split
from koinon.evaluation import evaluate, requests_of
from koinon.recommenders import Recommendation, Recommender, Request
from koinon.recommenders.conventional import EASE, EaseConfig, Popularity, SemanticEASE
from koinon.recommenders.fusion.controller import Controller, ControllerConfig, Pipeline, tune_routes
from koinon.recommenders.fusion.scoring import Gated, GatedConfig, tune_gate
from koinon.recommenders.llm_as_rs.prompted import PromptedConfig, PromptedRanker
from koinon.recommenders.sequential import SASRec, SASRecConfig
from koinon.space import Space, open_space

SLICES = ("all", "cold_items", "long_tail")
PIPELINES = (
    Pipeline(name="semantic-ease", recommender="semantic-ease", hears_words=True),
    Pipeline(name="gated", recommender="gated", hears_words=True),
    Pipeline(name="sequence", recommender="sasrec"),
    Pipeline(name="ease", recommender="ease"),
    Pipeline(name="popularity", recommender="popularity"),
)
PROMPTED = Pipeline(name="prompted", recommender="prompted", hears_words=True)
RULES = {"stranger": ("popularity",)}


def fitted(split: Split, space: Space, options: argparse.Namespace) -> dict[str, Recommender]:
    """Every pipeline's recommender."""
    rng = np.random.default_rng(options.seed)
    semantic = SemanticEASE(tuned_semantic(split, space, options.state)).fit(split.train, space, rng=rng)
    gated = Gated(GatedConfig(base="semantic-ease"), base=semantic).adopt(split.train, space)
    gate = tune_gate(gated, split, rng=np.random.default_rng(options.seed)).gate
    sequence = SASRec(SASRecConfig(**SHARED, epochs=options.epochs, items="texts", dropout=0.2))
    sequence.fit(split.train, space, rng=rng, validation=split.validation)
    ease = EASE(EaseConfig(**kept_settings(split.train.name, "ease"))).fit(split.train, None, rng=rng)
    found: dict[str, Recommender] = {
        "semantic-ease": semantic,
        "gated": gated.with_gate(gate),
        "sequence": sequence,
        "ease": ease,
        "popularity": Popularity().fit(split.train, None, rng=rng),
    }
    if options.model:
        asked = PromptedConfig(base="ease", model=options.model, candidates=50)
        found["prompted"] = PromptedRanker(asked, base=ease).adopt(split.train)
    return found


class Stalls:
    """A pipeline that does not answer in time for one request of ten."""

    name = "stalls"

    def __init__(self, recommender: Recommender, seconds: float) -> None:
        self.recommender, self.seconds, self.asked = recommender, seconds, 0

    def recommend(self, requests: list[Request], k: int) -> list[list[Recommendation]]:
        self.asked += 1
        if self.asked % 10 == 0:
            time.sleep(self.seconds)
        return self.recommender.recommend(requests, k)


def deadlines(controller: Controller, split: Split, count: int) -> None:
    """Answers one by one by the clock: as it is, and with a first pipeline that stalls."""
    rows = np.random.default_rng(1).permutation(np.flatnonzero(split.test.main))[:count]
    requests = requests_of(split.test, rows.tolist())
    first = controller.route(requests[0]).pipeline
    stalling = Controller(
        controller.config, recommenders={**controller.recommenders, first: Stalls(controller.recommenders[first], 2.0)}
    ).adopt(split.train, rng=np.random.default_rng(0), profile=controller.profile)
    for label, one in (("as it is", controller), (f"{first} stalls for one in ten", stalling)):
        answers = [one.answer(request, 10) for request in requests]
        took = np.array([answer.took_ms for answer in answers])
        late = sum(bool(answer.instead_of) for answer in answers)
        p50, p95 = np.quantile(took, [0.5, 0.95])
        print(
            f"  {label}: {len(took)} answers, p50 {p50:.2f} ms, p95 {p95:.2f} ms, slowest {took.max():.1f} ms, "
            f"over the budget {np.mean(took > controller.config.budget_ms):.3f}, replaced {late}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of data sets that are not public downloads")
    parser.add_argument("--datasets", default="office")
    parser.add_argument("--budgets", default="5,50,500", help="milliseconds")
    parser.add_argument("--model", help="of a prompted pipeline; none without")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--deadlines", action="store_true", help="measure the clock alone, and read nobody's test")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells, space = Cells(options.state / f"controller-{options.seed}"), open_space()
    pipelines = (PROMPTED, *PIPELINES) if options.model else PIPELINES
    for name in options.datasets.split(","):
        split = split_of(name, options.data)
        at_hand = fitted(split, space, options)
        for pipeline, recommender in at_hand.items():
            if pipeline != "prompted" and not options.deadlines:
                cells.keep(f"{name}/{pipeline}", {}, evaluate(recommender, split.train, split.test, slices=SLICES))
        profile = None
        for budget in map(float, options.budgets.split(",")):
            config = ControllerConfig(
                pipelines=pipelines,
                budget_ms=budget,
                rules=RULES,
                log=None if options.log is None else str(options.log),
            )
            plain = Controller(config, recommenders=at_hand)
            plain.adopt(split.train, rng=np.random.default_rng(options.seed), profile=profile)
            if profile is None:
                profile = plain.profile
                for pipeline, known in profile.pipelines.items():
                    print(f"{name} {pipeline}: " + ", ".join(f"{kind} {one}" for kind, one in known.items()))
            quickest = min(profile.of(pipeline, "plain").p95_ms for pipeline in at_hand)
            if quickest > budget:
                print(f"{name}, budget {budget:g} ms: no pipeline is quick enough")
                continue
            if options.deadlines:
                print(f"{name}, budget {budget:g} ms")
                deadlines(plain, split, options.answers)
                continue
            tuned = tune_routes(plain, split, rng=np.random.default_rng(options.seed))
            chosen = plain.with_choices(tuned.choices)
            print(f"\n{name}, budget {budget:g} ms: choices {dict(tuned.choices)}, caution {tuned.caution:.2f}")
            for row in tuned.table.rows(named=True):
                print("  {segment:9} {pipeline:14} users {users:5} mean {mean:.4f} gain {gain:+.4f} ± {error:.4f}"
                      " {chosen}".format(**row))  # fmt: skip
            for label, one in (("rules", plain), ("choices", chosen)):
                figures = evaluate(one, split.train, split.test, slices=SLICES)
                cells.keep(f"{name}/{label}-{budget:g}", {"choices": dict(tuned.choices)}, figures)
            deadlines(chosen, split, options.answers)
            arms = {"choices": f"{name}/choices-{budget:g}", "rules": f"{name}/rules-{budget:g}"}
            arms |= {pipeline: f"{name}/{pipeline}" for pipeline in at_hand if pipeline != "prompted"}
            for slice_ in SLICES:
                print(f"{name}, {slice_}, budget {budget:g} ms, against rules")
                print(told(gains(cells, arms, "rules", slice_)))


if __name__ == "__main__":
    main()
