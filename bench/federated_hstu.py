"""Federated HSTU across partners that share no item, held against each partner's own models and against pooled data.

    python -m bench.federated_hstu --state DIR [--bench-data DIR] [--partners office,music] [--items 800 --users 1000]
    python -m bench.federated_hstu --state DIR --report

Partners are the demonstration's and, from a folder of further public sets, music, games, office products and anime;
each is cut to its items with most events and a sample of its people. Everything is chosen on validation; the test set
is scored once per finished arm and shown in the tables alone. Whatever is finished stays in DIR: an interrupted study
goes on, a federation from its last round.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from koinon.config import write_atomically
from koinon.data import Domain, EvaluationSet, Interactions, Split, SplitConfig, Tables, make_split
from koinon.data.building import item_table
from koinon.data.public import DEMO_PARTNERS, cap_tables, demo_split_config, demo_tables
from koinon.data.tables import EVENT_SCHEMA
from koinon.evaluation import evaluate, paired_gain
from koinon.recommenders import Request
from koinon.recommenders.conventional import SemanticEaseConfig
from koinon.recommenders.federated.hstu import FederatedHSTU, FederatedHSTUConfig, HSTUPlan
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Release
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.sequential import HSTU, HSTUConfig
from koinon.recommenders.tuning import tune_local
from koinon.space import Space, open_space

FURTHER = {
    "music": ("music-lastfm", "timestamp_ms"),
    "games": ("games-amazon", "position"),
    "office": ("office-amazon", "position"),
    "anime": ("anime-mal", None),
}
"""Partner to folder, and the column that orders its events."""
DEMO_SEED = 7
"""What draws the demonstration's samples and hold-outs; ``--seed`` is added to it."""
NETWORK: dict[str, Any] = {"width": 32, "batch_users": 64, "learning_rate": 3e-3}
VARIANTS: dict[str, dict[str, Any]] = {
    "federated": {},
    "proximal 0.01": {"proximal": 0.01},
    "proximal 0.1": {"proximal": 0.1},
    "weights: people": {"weighting": "people"},
    "weights: equal": {"weighting": "equal"},
    "no private head": {"items": "texts"},
    "control variates": {"control": True},
    "server: adam": {"server": "adam", "server_rate": 0.01},
    "server: adam + no private head": {"server": "adam", "server_rate": 0.01, "items": "texts"},
    "server: adam + weights: equal": {"server": "adam", "server_rate": 0.01, "weighting": "equal"},
    "codes": {"items": "ids+codes", "code_words": 64},
}
"""Federations, by what differs from the first."""
TABLE = ("alone", "federated", "codes", "pooled")
"""What stands in the tables: one network alone at home, federated over texts, federated over semantic ids, pooled."""

Splits = Mapping[str, Split]


def further(folder: Path, order: str | None) -> Tables:
    """Read one of the further sets; anime's text is its title with its genres, the others' their title."""
    items = pl.read_csv(folder / "items.csv.gz", infer_schema=False).fill_null("")
    titles = items["title"].to_list()
    texts = titles
    if order is None:
        texts = [" ".join(both).strip() for both in zip(titles, items["categories"].to_list(), strict=True)]
    events = pl.read_csv(folder / "events.csv.gz", infer_schema=False)
    if order is not None:
        events = events.sort("user_id", pl.col(order).cast(pl.Int64), maintain_order=True)
    stamp = pl.col(order).cast(pl.Int64) if order == "timestamp_ms" else pl.lit(None, dtype=pl.Int64)
    events = events.select(
        "user_id", "item_id", timestamp=stamp.cast(EVENT_SCHEMA["timestamp"]), kind=pl.lit("event"),
        weight=pl.lit(1.0, dtype=pl.Float32),
    )  # fmt: skip
    people = events.select("user_id").unique(maintain_order=True)
    return Tables(item_table(items["item_id"].to_list(), titles, texts), events, people)


def read_splits(names: Sequence[str], folder: Path | None, items: int, users: int, seed: int) -> dict[str, Split]:
    """Demo partners divide by time or hold-out, anime by hold-out; sets in order leave each person's last two out.

    ``seed`` draws who is left of a partner with more than ``users`` people, and what is held out.
    """
    drawn = DEMO_SEED + seed
    demo, last = demo_split_config(drawn), SplitConfig(protocol="leave-last-out")
    splits = {}
    for name in names:
        if name in DEMO_PARTNERS:
            tables, config = demo_tables(name, full=False), demo
        elif folder is not None:
            place, order = FURTHER[name]
            tables, config = further(folder / place, order), demo if order is None else last
        else:
            raise SystemExit(f"{name} needs --bench-data")
        splits[name] = make_split(name, cap_tables(tables, max_items=items, max_users=users, seed=drawn), config)
    return splits


class Study:
    """What is finished stands in a folder, one JSON file for each arm and partner."""

    def __init__(self, state: Path, splits: Splits, space: Space, asked: argparse.Namespace) -> None:
        self.state, self.splits, self.space, self.seed = state, splits, space, asked.seed
        self.rounds, self.epochs = asked.rounds, asked.epochs
        self.network = {**NETWORK, "length": asked.length}

    def place(self, arm: str, partner: str) -> Path:
        return self.state / f"seed-{self.seed}" / arm.replace(" ", "-").replace(":", "") / f"{partner}.json"

    def known(self, arm: str, partner: str) -> dict[str, Any] | None:
        path = self.place(arm, partner)
        return json.loads(path.read_text()) if path.exists() else None

    def keep(self, arm: str, partner: str, found: Mapping[str, Any]) -> None:
        write_atomically(self.place(arm, partner), json.dumps(found))
        figures = {key: round(float(np.mean(values)), 4) for key, values in found["validation"].items()}
        print(f"{arm}, {partner}: validation {figures}, {found['seconds']:.0f} s of CPU", flush=True)

    def values(self, model: Ranked, split: Split, on: EvaluationSet) -> list[float]:
        return evaluate(model, split.train, on, slices=("all",)).values().tolist()

    def own(self, partner: str) -> dict[str, Any]:
        """The tuned baselines; the stronger on validation is what everything is held against."""
        if found := self.known("own", partner):
            return found
        split, began = self.splits[partner], time.process_time()
        found = {"validation": {}, "test": {}, "config": {}}
        for arm, chosen in tune_local(split, self.space, rng=np.random.default_rng(7)).items():
            model = chosen.fit(split.train, self.space, rng=np.random.default_rng(7))
            found["validation"][arm] = self.values(model, split, split.validation)
            found["test"][arm] = self.values(model, split, split.test)
            found["config"][arm] = {"family": chosen.family.name, **chosen.config.model_dump(mode="json")}
        found["seconds"] = time.process_time() - began
        self.keep("own", partner, found)
        return found

    def start(self, partner: str) -> SemanticEaseConfig:
        settings = dict(self.own(partner)["config"]["local_space"])
        settings.pop("family")
        return SemanticEaseConfig(**settings)

    def at_home(self, arm: str, partner: str, learner: FederatedHSTU, *, test: bool, seconds: float = 0.0) -> None:
        """Tune at home; keep the network alone and, unless only validation is wanted, mixed with the own model."""
        split, began = self.splits[partner], time.process_time()
        rng, start = np.random.default_rng(self.seed), self.start(partner) if test else None
        trials = learner.tune(split, self.space, rng=rng, start=start)
        blend = learner.config.blend
        found: dict[str, Any] = {"validation": {}, "test": {}, "blend": blend, "epochs": learner.config.epochs}
        found["before"] = trials[0].value
        for key, share in (("network", 0.0), ("mixed", blend)) if test else (("network", 0.0),):
            learner.config = learner.config.model_copy(update={"blend": share})
            found["validation"][key] = self.values(learner, split, split.validation)
            if test:
                found["test"][key] = self.values(learner, split, split.test)
        found["seconds"] = seconds + time.process_time() - began
        self.keep(arm, partner, found)

    def alone(self, partner: str) -> None:
        """The same network, trained on the partner's own events alone."""
        if self.known("alone", partner):
            return
        config = FederatedHSTUConfig(**self.network, epochs=self.epochs, patience=4)
        self.at_home("alone", partner, FederatedHSTU(config), test=True)

    def federation(self, variant: str, partners: Sequence[str], *, test: bool) -> None:
        """Run all rounds in this process, as a server would, then let every partner tune at home."""
        if all(self.known(variant, partner) for partner in partners):
            return
        config = FederatedHSTUConfig(
            **{
                **self.network,
                "rounds": self.rounds,
                "epochs": self.epochs,
                "patience": 4,
                **VARIANTS[variant.removeprefix("ablation/")],
            }
        )
        plan, began = HSTUPlan(config), time.process_time()
        release = plan.initial([], self.space, rng=np.random.default_rng(self.seed))
        kept: dict[str, dict[str, NDArray[np.generic]]] = {partner: {} for partner in partners}
        checkpoint = self.place(variant, "rounds").with_suffix(".safetensors")
        if checkpoint.exists():
            release, kept = self._resumed(load_file(checkpoint), plan, release, kept)
        while release.number < plan.rounds:
            task = plan.task(release, release.number + 1)
            given = {}
            for partner in partners:
                learner = self._learner(config, partner, kept[partner])
                given[partner] = learner.contribute(self.splits[partner].train, release, task)
                kept[partner] = learner.state()
            release = plan.aggregate(release, add_up(task.specs, given))
            parts = {f"release/{name}": array for name, array in release.arrays.items()}
            parts |= {f"plan/{name}": array for name, array in plan.state().items()}
            parts |= {f"kept/{p}/{name}": array for p, arrays in kept.items() for name, array in arrays.items()}
            parts["number"] = np.array([release.number])
            write_atomically(checkpoint, save({name: np.ascontiguousarray(part) for name, part in parts.items()}))
        share = (time.process_time() - began) / len(partners)
        for partner in partners:
            if not self.known(variant, partner):
                learner = self._learner(config, partner, kept[partner])
                learner.receive(release)
                self.at_home(variant, partner, learner, test=test, seconds=share)

    def _learner(self, config: FederatedHSTUConfig, partner: str, kept: Mapping[str, Any]) -> FederatedHSTU:
        learner = FederatedHSTU(config)
        learner.attach(self.splits[partner].train, self.space)
        return learner.restore(kept, self.splits[partner].train, self.space)

    def _resumed(self, parts: Mapping[str, Any], plan: HSTUPlan, first: Release, kept: Mapping[str, Any]) -> Any:
        def under(prefix: str) -> dict[str, Any]:
            return {n.removeprefix(prefix): array for n, array in parts.items() if n.startswith(prefix)}

        plan.restore(under("plan/"))
        release = Release(int(parts["number"][0]), first.recommender, under("release/"), first.info)
        return release, {partner: under(f"kept/{partner}/") for partner in kept}

    def pooled(self) -> None:
        """One network on everybody's events, which no federation may have; stopped by the partners' mean."""
        if all(self.known("pooled", partner) for partner in self.splits):
            return
        began = time.process_time()
        joined, firsts = join(self.splits)
        model = HSTU(HSTUConfig(**self.network, items="ids+texts", epochs=self.epochs, patience=4))

        def each(on: str) -> dict[str, list[float]]:
            return {
                name: self.values(Share(model, firsts[name], split.train.n_items), split, getattr(split, on))
                for name, split in self.splits.items()
            }

        model.fit(
            joined, self.space, rng=np.random.default_rng(self.seed),
            validate=lambda _: float(np.mean([np.mean(values) for values in each("validation").values()])),
            checkpoint=self.place("pooled", "training").with_suffix(".checkpoint"),
        )  # fmt: skip
        validation, test = each("validation"), each("test")
        seconds = (time.process_time() - began) / len(self.splits)
        for name in self.splits:
            found = {"validation": {"network": validation[name]}, "test": {"network": test[name]}, "seconds": seconds}
            self.keep("pooled", name, found)


class Share(Ranked):
    """A partner's part of a recommender over the joined catalogue."""

    def __init__(self, model: HSTU, first: int, count: int) -> None:
        self.model, self.items, self.first = model, np.arange(first, first + count, dtype=np.int32), first

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        moved = [
            Request(history=r.history + np.int32(self.first), time=r.time, times=r.times, user=r.user) for r in requests
        ]
        return self.model.score(moved, self.items if candidates is None else self.items[candidates])


def join(splits: Splits) -> tuple[Domain, dict[str, int]]:
    """One domain of all partners' training events, and where each one's items begin; events without times lie at 0."""
    users: list[str] = []
    tables, parts, firsts, item = [], [], {}, 0
    for name, split in splits.items():
        events, firsts[name] = split.train.events, item
        time_ = np.zeros(len(events), dtype=np.int64) if events.time is None else events.time
        parts.append((events.user + len(users), events.item + item, time_))
        users += [f"{name}/{user}" for user in split.train.user_ids]
        tables.append(split.train.items.with_columns(item_id=pl.lit(f"{name}/") + pl.col("item_id")))
        item += split.train.n_items
    user, items, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    events = Interactions(user.astype(np.int32), items.astype(np.int32), times)
    return Domain("joined", pl.concat(tables), tuple(users), events), firsts


def check_settings(asked: argparse.Namespace) -> None:
    """A folder holds a study of one size: figures of several do not compare."""
    said = {name: getattr(asked, name) for name in ("items", "users", "length", "rounds", "epochs")}
    path = asked.state / "settings.json"
    if path.exists() and json.loads(path.read_text()) != said:
        raise SystemExit(f"{asked.state} holds a study with {path.read_text()}; give those, or another folder")
    write_atomically(path, json.dumps(said))


def gain(arm: Sequence[float], base: Sequence[float]) -> str:
    found = paired_gain(np.array(arm), np.array(base))
    return f"{found.gain:+.4f} [{found.lo:+.4f}, {found.hi:+.4f}]"


def report(study: Study, names: Sequence[str]) -> None:
    """Print the tables of what is finished."""
    told = {arm: {name: found for name in names if (found := study.known(arm, name))} for arm in ("own", *TABLE)}
    ready = [name for name in names if name in told["own"] and name in told["alone"]]
    arms = [arm for arm in TABLE if told[arm]]
    base = {}
    for name in ready:
        own = told["own"][name]
        best = max(own["validation"], key=lambda arm: float(np.mean(own["validation"][arm])))
        base[name] = (best, own["test"][best])
    head = ("partner", "test users", "best own", "", *arms, *(f"{arm} - alone" for arm in arms if arm != "alone"))
    print("NDCG@10 on test of the networks by themselves\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in ready:
        best, values = base[name]
        cells = [name, f"{len(values):,}", best, f"{np.mean(values):.4f}"]
        alone = told["alone"][name]["test"]["network"]
        found = {arm: told[arm][name]["test"]["network"] if name in told[arm] else None for arm in arms}
        cells += [f"{np.mean(one):.4f}" if one else "" for one in found.values()]
        cells += [gain(one, alone) if one else "" for arm, one in found.items() if arm != "alone"]
        print("| " + " | ".join(cells) + " |")
    arms = [arm for arm in arms if arm != "pooled"]
    head = ("partner", "best own", *(f"{arm} + own: gain over best own" for arm in arms))
    print("\nMixed with the own model at home\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name in ready:
        mixed = [told[arm][name]["test"]["mixed"] if name in told[arm] else None for arm in arms]
        cells = [f"{np.mean(one):.4f}: {gain(one, base[name][1])}" if one else "" for one in mixed]
        print("| " + " | ".join((name, f"{np.mean(base[name][1]):.4f}", *cells)) + " |")
    print("\nValidation NDCG@10 of the network alone, before and after fine-tuning at home:")
    for variant in VARIANTS:
        arm = f"ablation/{variant}"
        found = {name: study.known(arm, name) for name in names}
        if any(found.values()):
            said = ", ".join(
                f"{n} {f['before']:.4f} → {np.mean(f['validation']['network']):.4f}" for n, f in found.items() if f
            )
            print(f"- {variant}: {said}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps what is finished")
    parser.add_argument("--bench-data", type=Path, default=None, help="folder of the further public sets")
    parser.add_argument("--partners", default=None, help="names; default: all that the data at hand give")
    parser.add_argument("--arms", default="federated,codes,alone,pooled,ablation")
    parser.add_argument("--ablate", default="", help="names of the partners of the ablation; default: none")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of the ablation")
    parser.add_argument("--items", type=int, default=2000, help="items of a partner at most")
    parser.add_argument("--users", type=int, default=3000, help="people of a partner at most")
    parser.add_argument("--length", type=int, default=50, help="events of a history that the networks read")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=30, help="of training alone, and of fine-tuning at home, at most")
    parser.add_argument("--seed", type=int, default=0, help="of people and hold-outs that are drawn, and of networks")
    parser.add_argument("--report", action="store_true", help="print tables of what is finished, and do nothing else")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = asked.partners.split(",") if asked.partners else [*DEMO_PARTNERS, *(FURTHER if asked.bench_data else ())]
    if asked.report:
        report(Study(asked.state, {}, None, asked), names)  # type: ignore[arg-type]
        return
    check_settings(asked)
    splits = read_splits(names, asked.bench_data, asked.items, asked.users, asked.seed)
    study = Study(asked.state, splits, open_space(), asked)
    arms = asked.arms.split(",")
    for arm in ("federated", "codes"):
        if arm in arms:
            study.federation(arm, names, test=True)
    for name in names if "alone" in arms else ():
        study.alone(name)
    if "pooled" in arms:
        study.pooled()
    few = [name for name in asked.ablate.split(",") if name]
    for variant in asked.variants.split(",") if few and "ablation" in arms else ():
        study.federation(f"ablation/{variant}", few, test=False)
    report(study, names)


if __name__ == "__main__":
    main()
