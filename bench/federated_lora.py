"""Federated LoRA across partners that share no item, against the encoder as it came, LoRA alone at home, and pooled.

    python -m bench.federated_lora run --state DIR --bench-data DIR [--partners books-en-ca,books-en-uk,books-de,office]
    python -m bench.federated_lora table --state DIR --bench-data DIR

Every arm reads the same catalogues: by likeness of texts alone, and as prior of the same EASE. How far the tuned
encoder counts beside the frozen one is chosen on validation; the test set is scored once per finished arm. Whatever is
finished stays in DIR, a federation goes on from its last round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from bench.federated_hstu import FURTHER, further, join
from koinon.config import write_atomically
from koinon.data import Domain, Split, make_split
from koinon.data.public import DEMO_PARTNERS, cap_tables, demo_split_config, demo_tables
from koinon.evaluation import evaluate, paired_gain
from koinon.evaluation.significance import bootstrap_mean
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig, TextSimilarity
from koinon.recommenders.federated.lora import UP, FederatedLora, FederatedLoraConfig, LoraPlan
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Release
from koinon.space import CachedSpace, Space, open_encoder

OWN = SemanticEaseConfig(lambda_=30.0, beta=0.3)
"""The closed-form model under every arm; not tuned."""
ARMS = ("frozen", "local", "federated", "federated, private too", "pooled")
SLICES = ("all", "cold_among_cold")


def read_splits(names: list[str], folder: Path | None, items: int, users: int) -> dict[str, Split]:
    """Hold-out for everybody, a tenth of every catalogue without training events."""
    splits = {}
    for name in names:
        if name in DEMO_PARTNERS:
            tables = demo_tables(name, full=False)
        elif folder is not None:
            place, order = FURTHER[name]
            tables = further(folder / place, order)
        else:
            raise SystemExit(f"{name} needs --bench-data")
        config = demo_split_config().model_copy(update={"protocol": "holdout", "cold_items": 0.1})
        splits[name] = make_split(name, cap_tables(tables, max_items=items, max_users=users), config)
    return splits


class Study:
    """Arms of all partners; one JSON file each when it is finished."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.state: Path = options.state
        names = options.partners.split(",")
        self.splits = read_splits(names, options.bench_data, options.items, options.users)
        self.seed = options.seed
        self.config = FederatedLoraConfig(
            rounds=options.rounds, local_steps=options.steps, batch_pairs=options.pairs, private_rank=4, finish=0
        )
        self.encoder: str = options.encoder

    def space(self) -> Space:
        return CachedSpace(open_encoder(self.encoder), self.state / "vectors")

    def place(self, arm: str, partner: str) -> Path:
        return self.state / f"seed-{self.seed}" / arm.replace(", ", "-").replace(" ", "-") / f"{partner}.json"

    def known(self, arm: str, partner: str) -> dict[str, Any] | None:
        path = self.place(arm, partner)
        return json.loads(path.read_text()) if path.exists() else None

    def measure(self, arm: str, partner: str, learner: FederatedLora | None, space: Space, spent: float) -> None:
        """The three readings of a partner's catalogue: likeness by the tuned encoder alone, half and half, and EASE."""
        if self.known(arm, partner):
            return
        split, began = self.splits[partner], time.process_time()
        found: dict[str, Any] = {"parts": {}}
        rng = np.random.default_rng(0)
        mixes = (0.0,) if learner is None else (1.0, 0.5)
        for mix in mixes:
            read: Space = space
            if learner is None:
                ease: Any = SemanticEASE(OWN).fit(split.train, space, rng=rng)
            else:
                learner.config = learner.config.model_copy(update={"mix": mix, **OWN.model_dump()})
                ease = learner.fit(split.train, space, rng=rng)
                assert learner.space is not None
                read = learner.space
            likeness = TextSimilarity().fit(split.train, _Known(read, ease.vectors), rng=rng)
            for name, model in (("likeness", likeness), ("ease", ease)):
                for part in ("validation", "test"):
                    scored = evaluate(model, split.train, getattr(split, part), slices=SLICES)
                    values = {slice_: scored.values(slice_=slice_).tolist() for slice_ in SLICES}
                    found["parts"].setdefault(f"{name} {mix:g}", {})[part] = values
        found["seconds"] = spent + time.process_time() - began
        write_atomically(self.place(arm, partner), json.dumps(found))
        told = {
            name: {slice_: round(float(np.mean(values)), 4) for slice_, values in one["validation"].items()}
            for name, one in found["parts"].items()
        }
        print(f"{arm}, {partner}: validation {told}; {found['seconds']:.0f} s of processor time", flush=True)

    def rounds(self, arm: str, domains: Mapping[str, Domain], space: Space, steps: int = 1) -> tuple[Any, ...]:
        """All rounds of a federation in this process, as a server would."""
        config = self.config.model_copy(update={"local_steps": self.config.local_steps * steps})
        plan, began = LoraPlan(config), time.process_time()
        release = plan.initial([], space, rng=np.random.default_rng(self.seed))
        kept: dict[str, dict[str, Any]] = {name: {} for name in domains}
        checkpoint = self.place(arm, "+".join(domains)).with_suffix(".safetensors")
        if checkpoint.exists():
            parts = load_file(checkpoint)
            release = Release(int(parts["number"][0]), release.recommender, {UP: parts[UP]}, release.info)
            kept = {p: {n[len(p) + 1 :]: a for n, a in parts.items() if n.startswith(f"{p}/")} for p in domains}
        while release.number < plan.rounds:
            task, given = plan.task(release, release.number + 1), {}
            for name, domain in domains.items():
                learner = self.learner(config, name, domain, space, kept[name])
                given[name] = learner.contribute(domain, release, task)
                kept[name] = learner.state()
            release = plan.aggregate(release, add_up(task.specs, given))
            parts = {f"{p}/{n}": np.ascontiguousarray(a) for p, arrays in kept.items() for n, a in arrays.items()}
            number = np.array([release.number])
            write_atomically(checkpoint, save({**parts, UP: release.arrays[UP], "number": number}))
            print(f"{arm}: round {release.number} of {plan.rounds}", flush=True)
        return release, kept, (time.process_time() - began) / len(domains)

    def learner(self, config: FederatedLoraConfig, name: str, domain: Domain, space: Space, kept: Any) -> FederatedLora:
        learner = FederatedLora(config)
        learner.attach(domain, space)
        return learner.restore(kept, domain, space)

    def run(self) -> None:
        space = self.space()
        trains = {name: split.train for name, split in self.splits.items()}
        for partner in trains:
            self.measure("frozen", partner, None, space, 0.0)
        if not all(self.known(arm, partner) for arm in ARMS[2:4] for partner in trains):
            release, kept, spent = self.rounds("federated", trains, space)
            for partner, domain in trains.items():
                for arm, private in (("federated", False), ("federated, private too", True)):
                    config = self.config.model_copy(update={"private": private})
                    learner = self.learner(config, partner, domain, space, kept[partner])
                    learner.receive(release)
                    self.measure(arm, partner, learner, space, spent)
        for partner, domain in trains.items():
            if self.known("local", partner):
                continue
            release, kept, spent = self.rounds("local", {partner: domain}, space)
            learner = self.learner(self.config, partner, domain, space, kept[partner])
            learner.receive(release)
            self.measure("local", partner, learner, space, spent)
        if not all(self.known("pooled", partner) for partner in trains):
            joined, _ = join(self.splits)
            release, kept, spent = self.rounds("pooled", {"joined": joined}, space, steps=len(trains))
            for partner, domain in trains.items():
                learner = self.learner(self.config, partner, domain, space, kept["joined"])
                learner.receive(release)
                self.measure("pooled", partner, learner, space, spent / len(trains))

    def chosen(self, arm: str, partner: str, model: str, slice_: str) -> tuple[str, np.ndarray[Any, Any]] | None:
        """The mixture that is best on validation, its frozen part among those asked, and its test values."""
        found, frozen = self.known(arm, partner), self.known("frozen", partner)
        if found is None or frozen is None:
            return None
        parts = {**frozen["parts"], **found["parts"]}
        named = [name for name in parts if name.startswith(model)]
        best = max(named, key=lambda name: float(np.mean(parts[name]["validation"][slice_])))
        return best.rpartition(" ")[2], np.array(parts[best]["test"][slice_])

    def table(self) -> None:
        for model, slice_, what in (
            ("ease", "all", "whole catalogue, EASE over the texts"),
            ("likeness", "cold_among_cold", "cold items among cold candidates, likeness of texts"),
            ("likeness", "all", "whole catalogue, likeness of texts"),
        ):
            print(f"\nNDCG@10, {what}; share of the tuned encoder by validation in brackets\n")
            print("| partner | users | " + " | ".join(ARMS) + " | federated over frozen | federated over local |")
            print("|---" * (len(ARMS) + 4) + "|")
            for partner in self.splits:
                found = {arm: self.chosen(arm, partner, model, slice_) for arm in ARMS}
                if found["frozen"] is None:
                    continue
                frozen = bootstrap_mean(found["frozen"][1])
                cells = [f"{one[1].mean():.4f} ({one[0]})" if one else "" for one in found.values()]
                gains = [_gain(found[ARMS[2]], found[other]) for other in ("frozen", "local")]
                print(f"| {partner} | {frozen.n} | " + " | ".join((*cells, *gains)) + " |")
        size = next((load_file(p)[UP].size for p in self.state.glob("seed-*/federated/*.safetensors")), 0)
        print(f"\nA partner sends {4 * size:,} bytes in a round and receives as many.")


def _gain(arm: Any, base: Any) -> str:
    if arm is None or base is None:
        return ""
    found = paired_gain(arm[1], base[1])
    return f"{found.gain:+.4f} [{found.lo:+.4f}, {found.hi:+.4f}]"


class _Known:
    """A space that has read the catalogue already."""

    def __init__(self, space: Space, vectors: Any) -> None:
        self.dimension, self.fingerprint, self._vectors = vectors.shape[1], "", vectors

    def encode(self, texts: Any) -> Any:
        return self._vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--bench-data", type=Path)
    parser.add_argument("--partners", default="books-en-ca,books-en-uk,books-de,office")
    parser.add_argument("--encoder", default="minilm-english")
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    study = Study(options)
    if options.what == "run":
        study.run()
    study.table()


if __name__ == "__main__":
    main()
