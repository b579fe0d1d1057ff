"""What a person's privacy costs: NDCG@10 of federated Gram against ε, at the demo's English book partners.

    python -m bench.privacy_utility --state DIR                     # everything; goes on where it stopped
    python -m bench.privacy_utility --state DIR --partners books-en-ca,books-en-uk --epsilons 1,8 --seeds 0

A reader has one country, so these partners share nobody: what holds for a partner holds for a person. Every partner
adds its own noise (``local``), δ is 1e-6. The catalogue is taken as given. Settings of the sums follow ε by a rule
that was fixed on validation users (``PLANS``); each partner tunes on its own validation users, and the test set is read
once per row. Lines of reference: ``local`` and ``local_space``, tuned without a federation. ε = inf is the federation
without noise, at the learner's usual settings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from koinon.config import write_atomically
from koinon.data import Split, make_split
from koinon.data.public import demo_split_config, demo_tables
from koinon.evaluation import evaluate
from koinon.privacy.budget import NoiseSource, PrivacyConfig
from koinon.recommenders import Release
from koinon.recommenders.conventional import SemanticEaseConfig
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.budgeting import exact, noise_of, prices, protected, with_noise
from koinon.recommenders.federated.gram import FederatedGram, GramConfig
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.tuning import tune_local
from koinon.space import Space, open_space

PARTNERS = ("books-en-us", "books-en-ca", "books-en-uk", "books-en-au", "books-en-intl")
NAME = "federated_gram"
DELTA = 1e-6
PLANS: Mapping[float, Mapping[str, float | int]] = {
    1.0: {"pairs": 5_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.5},
    2.0: {"pairs": 10_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.3},
    4.0: {"pairs": 50_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.3},
    8.0: {"pairs": 100_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.3},
    float("inf"): {},
}
"""Settings that the federation agrees on, by ε."""


def federate(
    splits: Mapping[str, Split], space: Space, settings: Mapping[str, float | int], privacy: PrivacyConfig | None
) -> tuple[Release, dict[str, dict[str, np.ndarray]]]:
    """Run both rounds in this process: the last release, and what each partner sent."""
    plan = registry.plan(NAME, settings)
    learners = {NAME: settings}
    catalogues = [catalogue_of(name, split.train.items) for name, split in splits.items()]
    release = plan.initial(catalogues, space, rng=np.random.default_rng(0))
    sent: dict[str, dict[str, np.ndarray]] = {name: {} for name in splits}
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        given = {}
        for name, split in splits.items():
            learner = FederatedGram(GramConfig(**settings))
            if privacy is None:
                given[name] = learner.contribute(split.train, release, task)
                continue
            clear = learner.contribute(split.train, release, exact(task))
            noise = noise_of(plan, task.specs, prices(privacy, learners, name)[NAME, round_])
            source = NoiseSource(privacy.unsafe_seed, f"{name}/{round_}")
            given[name] = protected(privacy, clear, task.specs, noise, 2, source)
            sent[name] |= given[name].arrays
        total = add_up(task.specs, given)
        if privacy is not None:
            total = with_noise(privacy, learners, NAME, task, total, 2)
        release = plan.aggregate(release, total)
    return release, sent


def budget(epsilon: float, seed: int, partners: int) -> PrivacyConfig:
    """Repeatable noise: for measurements only."""
    return PrivacyConfig(epsilon=epsilon, delta=DELTA, people=100_000, partners=partners, sharing=(), unsafe_seed=seed)


def choose(learner: FederatedGram, split: Split, space: Space, start: SemanticEaseConfig, *, quick: bool) -> None:
    """Choose the partner's settings on its validation users; ``quick``: only how far it takes the others in."""
    if not quick:
        learner.tune(split, space, rng=np.random.default_rng(7), start=start)
        return
    own = learner.config.model_copy(update=start.model_dump())
    found = {}
    for cap in (0.0, 1.0, 10.0):
        learner.config = own.model_copy(update={"share": float(cap > 0), "cap": cap})
        learner.fit(split.train, space, rng=np.random.default_rng(7))
        found[cap] = evaluate(learner, split.train, split.validation).mean()
    best = max(found, key=lambda cap: found[cap])
    learner.config = own.model_copy(update={"share": float(best > 0), "cap": best})


def rows(
    splits: Mapping[str, Split], wanted: Sequence[str], space: Space, epsilons: Sequence[float], seeds: Sequence[int],
    state: Path, on: str, quick: bool,
) -> Iterator[dict]:  # fmt: skip
    """Compute what the state folder does not hold yet; give every row."""
    starts: dict[str, SemanticEaseConfig] = {}
    for name in wanted:
        target = splits[name].test if on == "test" else splits[name].validation
        kept = _kept(state / f"local-{name}.json")
        if kept is None:
            tuned = tune_local(splits[name], space, rng=np.random.default_rng(7))
            own = {}
            for arm, result in tuned.items():
                fitted = result.fit(splits[name].train, space, rng=np.random.default_rng(7))
                own[arm] = evaluate(fitted, splits[name].train, target).mean()
            kept = {"figures": own, "start": tuned["local_space"].config.model_dump()}
            write_atomically(state / f"local-{name}.json", json.dumps(kept))
        starts[name] = SemanticEaseConfig(**kept["start"])
        yield from ({"partner": name, "arm": arm, "ndcg": value} for arm, value in kept["figures"].items())
    for epsilon in epsilons:
        for seed in seeds if np.isfinite(epsilon) else seeds[:1]:
            todo = [name for name in wanted if _kept(_path(state, name, epsilon, seed)) is None]
            if todo:
                privacy = budget(epsilon, seed, len(splits)) if np.isfinite(epsilon) else None
                release, sent = federate(splits, space, PLANS[epsilon], privacy)
            for name in todo:
                began = time.monotonic()
                learner = FederatedGram(GramConfig(**PLANS[epsilon]))
                learner.sent = sent[name]
                learner.receive(release)
                choose(learner, splits[name], space, starts[name], quick=quick)
                learner.fit(splits[name].train, space, rng=np.random.default_rng(7))
                target = splits[name].test if on == "test" else splits[name].validation
                row = {
                    "partner": name, "arm": NAME, "epsilon": epsilon, "seed": seed,
                    "ndcg": evaluate(learner, splits[name].train, target).mean(),
                    "share": learner.config.share, "cap": learner.config.cap,
                    "seconds": time.monotonic() - began,
                }  # fmt: skip
                write_atomically(_path(state, name, epsilon, seed), json.dumps(row))
            yield from (json.loads(_path(state, name, epsilon, seed).read_text()) for name in wanted)


def _path(state: Path, partner: str, epsilon: float, seed: int) -> Path:
    return state / f"{NAME}-{partner}-{epsilon:g}-{seed}.json"


def _kept(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.exists() else None


def table(found: Sequence[Mapping], partners: Sequence[str], epsilons: Sequence[float]) -> str:
    """Markdown: one line per partner, mean and standard deviation over the noise's seeds."""
    head = ["partner", "local", "local + space", *(f"ε = {epsilon:g}" for epsilon in epsilons)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in (*partners, "mean"):
        cells = [name]
        for arm in ("local", "local_space"):
            cells.append(
                f"{np.mean([r['ndcg'] for r in found if r['arm'] == arm and name in (r['partner'], 'mean')]):.4f}"
            )
        for epsilon in epsilons:
            mine = [r for r in found if r["arm"] == NAME and r["epsilon"] == epsilon and name in (r["partner"], "mean")]
            by_seed = [np.mean([r["ndcg"] for r in mine if r["seed"] == s]) for s in sorted({r["seed"] for r in mine})]
            spread = f" ± {np.std(by_seed, ddof=1):.4f}" if len(by_seed) > 1 else ""
            cells.append(f"{np.mean(by_seed):.4f}{spread}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps what is done")
    parser.add_argument("--federate", default=",".join(PARTNERS), help="who takes part in the rounds")
    parser.add_argument("--partners", default="", help="whose figures are wanted; all who take part")
    parser.add_argument("--epsilons", default="1,2,4,8,inf")
    parser.add_argument("--seeds", default="0,1,2", help="of the noise")
    parser.add_argument("--on", choices=("validation", "test"), default="test")
    parser.add_argument("--quick", action="store_true", help="a partner chooses only how far it takes the others in")
    asked = parser.parse_args(argv)
    config = demo_split_config().model_copy(update={"minimum_item_events": 1})
    names = asked.federate.split(",")
    splits = {name: make_split(name, demo_tables(name), config) for name in names}
    wanted = asked.partners.split(",") if asked.partners else names
    epsilons, seeds = [float(e) for e in asked.epsilons.split(",")], [int(s) for s in asked.seeds.split(",")]
    found = []
    asked.state.mkdir(parents=True, exist_ok=True)
    for row in rows(splits, wanted, open_space(), epsilons, seeds, asked.state, asked.on, asked.quick):
        found.append(row)
        print(json.dumps(row), flush=True)
    said = table(found, wanted, epsilons)
    write_atomically(asked.state / "table.md", said + "\n")
    print(said)


if __name__ == "__main__":
    main()
