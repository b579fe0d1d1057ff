"""Attacks on federated Gram over five English bookshops, each with and without the defences.

    python bench/attacks.py                        # everything; about five minutes on two free cores
    python bench/attacks.py --seeds 0 --part poisoning --items 400

Poisoning: one partner (another one per seed) sends false sums; what comes of the honest partners' NDCG@10 on test and
of the target's hit rate@10. Reading: half of the smallest shop's people are in the sums; whoever sees these rebuilds
baskets and asks who is in them. Finished rows are kept in ``--out`` and not computed again. Figures, derivations and
what follows from them: docs/attacks.md.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, vstack

from koinon.config import write_atomically
from koinon.data import Split, make_split
from koinon.data.public import cap_tables, demo_split_config, demo_tables
from koinon.errors import FederationError
from koinon.evaluation import evaluate, requests_of
from koinon.privacy.budget import NoiseSource, PrivacyConfig, gaussian
from koinon.recommenders import Release
from koinon.recommenders.federated.budgeting import noise_of, prices
from koinon.recommenders.federated.gram import FederatedGram, GramConfig, GramPlan
from koinon.recommenders.federated.gram_sums import (
    listed_works,
    own_counts,
    own_pairs,
    pair_list,
    work_matrix,
    works_of,
)
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.protocol import Catalogue, Contribution, Task, TensorSpec
from koinon.server.aggregation import Cells, Gate, Robustness, aggregate
from koinon.space import Space, open_space
from koinon.studies.attacks import POISONS, Attacker, membership, rebuild_baskets

SHOPS = tuple(f"books-en-{region}" for region in ("us", "ca", "uk", "au", "intl"))
ATTACKERS = ("books-en-ca", "books-en-intl", "books-en-uk")
CONFIG = GramConfig(lambda_=30.0, beta=0.3)
DEFENCES: Mapping[str, tuple[bool, str]] = {
    "none": (False, "plain"),
    "gate": (True, "plain"),
    "gate, bounded": (True, "bounded"),
    "gate, trimmed mean": (True, "trimmed_mean"),
    "gate, median": (True, "median"),
    "gate, krum": (True, "krum"),
}
"""Name to whether the gate stands, and the rule."""


class Kept:
    """Rows that are done, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}

    def row(self, name: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        if name not in self.rows:
            began = time.monotonic()
            self.rows[name] = make()
            write_atomically(self.path, json.dumps(self.rows, indent=1))
            print(f"{name}: {self.rows[name]} ({time.monotonic() - began:.1f} s)", flush=True)
        return self.rows[name]


@dataclass
class Federation:
    """The shops, their honest answers, and what a round with a malicious one comes to."""

    splits: Mapping[str, Split]
    space: Space

    def __post_init__(self) -> None:
        self.catalogues: dict[str, Catalogue] = {
            name: catalogue_of(name, split.train.items) for name, split in self.splits.items()
        }
        self.plan = GramPlan(CONFIG)
        ordered = [self.catalogues[name] for name in sorted(self.catalogues)]
        self.start = self.plan.initial(ordered, self.space, rng=np.random.default_rng(0))
        self.listed = {
            name: np.unique(work[work >= 0]).astype(np.int32)
            for name, split in self.splits.items()
            for work in [works_of(split.train, self.start, None)]
        }
        self._honest: dict[tuple[str, int], Contribution] = {}

    def honest(self, name: str, release: Release, task: Task) -> Contribution:
        """A partner's true answer; the pairs asked for are the same in every run, all that two shops list."""
        key = (name, task.round)
        if key not in self._honest:
            self._honest[key] = FederatedGram(CONFIG).contribute(self.splits[name].train, release, task)
        return self._honest[key]

    def counts(self, name: str) -> np.ndarray:
        return self.honest(name, self.start, self.plan.task(self.start, 1)).arrays["counts"].astype(np.float64)

    def attacker(self, name: str, target: int) -> Attacker:
        listed = self.listed[name]
        people = self.splits[name].train.n_users
        return Attacker(listed, people, self.counts(name)[listed], int(np.searchsorted(listed, target)))

    def run(self, partners: Sequence[str], defence: str, malicious: str, attack: str, target: int) -> Release:
        """Both rounds; whom the gate stops is left out of the round."""
        stands, rule = DEFENCES[defence]
        release = self.start
        with tempfile.TemporaryDirectory() as folder:
            gate = Gate(Path(folder) / "gate.json", "run")
            for round_ in (1, 2):
                task = self.plan.task(release, round_)
                cells = Cells(release, self.plan.measures, self.catalogues)
                sent = {name: self.honest(name, release, task) for name in partners}
                if attack in POISONS:
                    sent[malicious] = self._poisoned(malicious, attack, target, release, task)
                for name in sorted(sent) if stands else ():
                    try:
                        gate.check(name, "federated_gram", round_, sent[name], task.specs, cells)
                    except FederationError:
                        del sent[name]
                release = self.plan.aggregate(release, aggregate(rule, task.specs, sent, cells, Robustness()))
        return release

    def _poisoned(self, name: str, attack: str, target: int, release: Release, task: Task) -> Contribution:
        (spec,) = task.specs
        true = self.honest(name, release, task)
        pairs = pair_list(release) if spec.name == "pairs" else None
        sent = self.attacker(name, target).poison(POISONS[attack], spec.name, true.arrays[spec.name], pairs)
        return Contribution({spec.name: sent}, true.n_users)

    def judge(self, name: str, release: Release | None, target: int) -> tuple[float, float]:
        """A partner's NDCG@10, and in how many top tens of its test users the target stands, of those without it."""
        split = self.splits[name]
        model = FederatedGram(CONFIG)
        if release is not None:
            model.receive(release)
        model.fit(split.train, self.space, rng=np.random.default_rng(0))
        ndcg = evaluate(model, split.train, split.test, slices=("all",)).mean()
        items = np.flatnonzero(works_of(split.train, self.start, None) == target)
        requests = [r for r in requests_of(split.test) if not np.isin(items, r.history).any()]
        lists = model.recommend(requests, 10)
        hits = [any(line.item in items for line in lines) for lines in lists] if len(items) else [False]
        return ndcg, float(np.mean(hits))

    def target(self, malicious: str, seed: int) -> int:
        """A work that hardly anybody takes (at most five of the honest partners' people) and three of them list."""
        rivals = [name for name in self.splits if name != malicious]
        taken = sum(self.counts(name) for name in rivals)
        listers = sum(np.isin(np.arange(len(taken)), self.listed[name]).astype(int) for name in rivals)
        own = np.isin(np.arange(len(taken)), self.listed[malicious])
        return int(np.random.default_rng(seed).choice(np.flatnonzero(own & (listers >= 3) & (taken <= 15))))


def poisoning(shops: Federation, kept: Kept, seeds: Sequence[int]) -> None:
    table: dict[tuple[str, str], list[dict[str, float]]] = {}
    for attack in ("nobody", "stays away", "no federation", *POISONS):
        for defence in DEFENCES if attack == "nobody" or attack in POISONS else ("none",):
            for seed in seeds:
                malicious = ATTACKERS[seed % len(ATTACKERS)]

                def made(
                    malicious: str = malicious, attack: str = attack, defence: str = defence, seed: int = seed
                ) -> dict[str, float]:
                    target = shops.target(malicious, seed)
                    partners = [n for n in shops.splits if attack != "stays away" or n != malicious]
                    alone = attack == "no federation"
                    release = None if alone else shops.run(partners, defence, malicious, attack, target)
                    found = {n: shops.judge(n, release, target) for n in shops.splits if n != malicious}
                    return {
                        **{n.removeprefix("books-en-"): round(ndcg, 5) for n, (ndcg, _) in found.items()},
                        "hit": round(float(np.mean([hit for _, hit in found.values()])), 5),
                    }

                row = kept.row(f"{attack} | {defence} | {seed}", made)
                table.setdefault((attack, defence), []).append(row)
    print(f"\n{'attack':26s}{'defence':20s}{'NDCG@10 of the honest':>23s}{'worst one':>11s}{'target in top 10':>20s}")
    for (attack, defence), rows in table.items():
        means, worst = [], []
        for row, clean in zip(rows, table["nobody", "none"], strict=True):
            names = [name for name in row if name != "hit"]
            means.append(np.mean([row[name] for name in names]))
            worst.append(min(row[name] / clean[name] - 1 for name in names))
        hits = [row["hit"] for row in rows]
        print(
            f"{attack:26s}{defence:20s}{np.mean(means):14.4f} ± {np.std(means):.4f}{np.mean(worst):+11.1%}"
            f"{np.mean(hits):11.4f} ± {np.std(hits):.4f}"
        )


@dataclass(frozen=True)
class Seen:
    """What somebody sees, and what they expect of it from what they know besides.

    Attributes
    ----------
    counts, pairs
        As seen; ``float64[works]``, ``float64[pairs]``.
    expected
        The same two, as the attacker expects them without the person it asks for.
    noise
        Standard deviations in the two.
    people
        ``[people, works]`` of those who are in what is seen.
    """

    counts: np.ndarray
    pairs: np.ndarray
    expected: tuple[np.ndarray, np.ndarray]
    noise: tuple[float, float]
    people: csr_matrix


VIEWS: Mapping[str, tuple[bool, float, float]] = {
    "in the clear": (False, 0.0, math.inf),
    "secure sum": (True, 0.0, math.inf),
    "secure sum, support 3": (True, 3.0, math.inf),
    "secure sum, support 5": (True, 5.0, math.inf),
    **{f"local noise, ε = {epsilon}": (False, 0.0, float(epsilon)) for epsilon in (8, 4, 2, 1)},
    **{f"secure sum, noise, ε = {epsilon}": (True, 0.0, float(epsilon)) for epsilon in (8, 4, 2, 1)},
}
"""Name to: whether only the total of all shops is seen, below what support a pair is 0, and the budget."""
PRIOR = 0.1
"""People by which the attacker's knowledge of a cell is smoothed."""
PRIVATE_CLIP = 3.0


class Reading:
    """Half of a small shop's people are in its sums, the other half are not."""

    def __init__(self, shops: Federation, small: str, seed: int) -> None:
        self.shops, self.small, self.seed = shops, small, seed
        release = shops.run(tuple(shops.splits), "none", "", "nobody", 0)
        self.pairs = pair_list(release)
        self.first = np.repeat(np.arange(self.pairs.identities), np.diff(self.pairs.start))
        self.taken = {name: self._works(name, release) for name in shops.splits}
        # who took fewer than two works is in no pair
        everybody = csr_matrix(self.taken[small][self.taken[small].getnnz(axis=1) >= 2])
        inside = np.random.default_rng(seed).permutation(everybody.shape[0]) < everybody.shape[0] // 2
        self.outside = everybody[~inside]
        self.taken[small] = everybody[inside]

    def _works(self, name: str, release: Release) -> csr_matrix:
        """Who took what, ``[people, works]``."""
        train = self.shops.splits[name].train
        own = np.arange(self.pairs.identities, dtype=np.int32)
        return work_matrix(train, works_of(train, release, None), own)

    def sums(self, people: csr_matrix, clip: float) -> tuple[np.ndarray, np.ndarray]:
        gram = own_pairs(people, clip, listed_works(self.pairs, np.arange(self.pairs.identities, dtype=np.int32)))
        return own_counts(people, clip), gram[self.first, self.pairs.other]

    def see(self, view: str) -> Seen:
        """In the clear, the server sees the small shop's sums and knows the others' too; of a total a partner (the
        largest shop) takes out its own sums and knows these."""
        total, support, epsilon = VIEWS[view]
        clip = CONFIG.clip if math.isinf(epsilon) else PRIVATE_CLIP
        parts = {name: self.sums(people, clip) for name, people in self.taken.items()}
        noise = (0.0, 0.0) if math.isinf(epsilon) else self.noise(epsilon, clip)
        if noise[0]:
            source = NoiseSource(self.seed, view)
            counts, pairs = parts[self.small]
            parts[self.small] = (gaussian(counts, noise[0], source), gaussian(pairs, noise[1], source))
        names = [n for n in self.taken if n != SHOPS[0]] if total else [self.small]
        known = [SHOPS[0]] if total else [n for n in self.taken if n != self.small]
        counts, pairs = (np.sum([parts[name][i] for name in names], axis=0) for i in (0, 1))
        people = sum(self.taken[name].shape[0] for name in names)
        reference = sum(self.taken[name].shape[0] for name in known)
        expected = tuple(
            people / reference * (np.sum([parts[name][i] for name in known], axis=0) + PRIOR) for i in (0, 1)
        )
        if support:
            # of what was released; the partner's own pairs were taken out of it before
            own = parts[SHOPS[0]][1]
            pairs = np.where(pairs + own >= support, pairs, 0.0)
        return Seen(counts, pairs, expected, noise, sparse_rows([self.taken[name] for name in names]))

    def noise(self, epsilon: float, clip: float) -> tuple[float, float]:
        """Standard deviations by the platform's accounting: of one partner's noise, or of all shares' in a total."""
        config = PrivacyConfig(epsilon=epsilon, delta=1e-5, people=10_000, partners=len(SHOPS), sharing=())
        priced = prices(config, {"federated_gram": {"clip": clip}}, self.small)
        found = []
        release = self.shops.start
        for round_, name in ((1, "counts"), (2, "pairs")):
            spec = TensorSpec(name, release.arrays["counts"].shape, "float32", "sum", clip)
            found.append(noise_of(self.shops.plan, (spec,), priced["federated_gram", round_])[name])
        return found[0], found[1]

    def cells(self, people: csr_matrix, clip: float) -> csr_matrix:
        """What each person adds to counts and pairs, side by side."""
        works = self.pairs.identities
        place = csr_matrix((np.arange(1, len(self.pairs) + 1), (self.first, self.pairs.other)), shape=(works, works))
        rows, columns, values = [], [], []
        for person in range(people.shape[0]):
            basket = np.sort(people[person].indices)
            found = place[basket][:, basket].data - 1
            size = len(basket)
            rows.append(np.full(size + len(found), person))
            columns.append(np.concatenate([basket, works + found]))
            weight = np.minimum(1.0, clip / np.sqrt([max(size, 1), max(size * (size - 1) / 2, 1)]))
            values.append(np.repeat(weight, [size, len(found)]))
        shape = (people.shape[0], works + len(self.pairs))
        return csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)

    def attack(self, view: str) -> dict[str, float]:
        seen = self.see(view)
        clip = CONFIG.clip if math.isinf(VIEWS[view][2]) else PRIVATE_CLIP
        square = np.zeros((self.pairs.identities,) * 2)
        square[self.first, self.pairs.other] = square[self.pairs.other, self.first] = seen.pairs
        found = rebuild_baskets(seen.people, seen.counts, square, level=max(0.5, 4 * seen.noise[1]))
        inside, outside = (self.cells(people, clip) for people in (self.taken[self.small], self.outside))
        sizes = len(seen.counts), len(seen.pairs)
        there = membership(
            inside,
            outside,
            np.concatenate([seen.counts, seen.pairs]),
            np.concatenate(seen.expected),
            np.repeat(seen.noise, sizes),
        )
        return {
            "claimed": found.claimed,
            "precision": 0.0 if math.isnan(found.precision) else found.precision,
            "recall": found.recall,
            "whole": found.whole,
            "auc": there.auc,
            "tpr": there.tpr,
        }


def sparse_rows(parts: Sequence[csr_matrix]) -> csr_matrix:
    return csr_matrix(vstack(parts))


def reading(shops: Federation, kept: Kept, seeds: Sequence[int]) -> None:
    small = "books-en-au"
    table: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        part: list[Reading] = []
        for view in VIEWS:

            def made(view: str = view, seed: int = seed, part: list[Reading] = part) -> dict[str, float]:
                if not part:
                    part.append(Reading(shops, small, seed))
                return part[0].attack(view)

            table.setdefault(view, []).append(kept.row(f"reading | {view} | {seed}", made))
    head = "".join(
        f"{name:>20s}" for name in ("claims right", "of all works", "whole baskets", "AUC", "TPR at 1 % FPR")
    )
    print(f"\n{'what is seen':28s}{'baskets claimed':>16s}{head}")
    for view, rows in table.items():
        figures = [[row[name] for row in rows] for name in ("precision", "recall", "whole", "auc", "tpr")]
        said = "".join(f"{np.mean(values):12.3f} ± {np.std(values):.3f}" for values in figures)
        print(f"{view:28s}{np.mean([row['claimed'] for row in rows]):16.0f}{said}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--items", type=int, default=800, help="works a shop lists at most")
    parser.add_argument("--part", choices=("all", "poisoning", "reading"), default="all")
    parser.add_argument("--out", type=Path, default=Path("attacks.json"))
    asked = parser.parse_args(argv)
    protocol = demo_split_config()
    splits = {n: make_split(n, cap_tables(demo_tables(n), max_items=asked.items), protocol) for n in SHOPS}
    shops = Federation(splits, open_space())
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    kept = Kept(asked.out)
    if asked.part in ("all", "poisoning"):
        poisoning(shops, kept, seeds)
    if asked.part in ("all", "reading"):
        reading(shops, kept, seeds)


if __name__ == "__main__":
    main()
