"""What a person's privacy costs: NDCG@10 of federated learners against ε, at the demo's English book partners.

    python -m bench.privacy_utility --state DIR                     # everything; goes on where it stopped
    python -m bench.privacy_utility --state DIR --partners books-en-ca,books-en-uk --epsilons 1,8 --seeds 0
    python -m bench.privacy_utility --state DIR --table             # what is there so far

A reader has one country, so these partners share nobody: what holds for a partner holds for a person. δ is 1e-6. The
catalogues are taken as given. ``local``: every partner adds the whole noise to its sums. ``distributed``: each adds a
share of it, only the total of secure sums is private, and at most one of the five may tell its noise. The settings of
the sums follow ε by a rule that was fixed on validation users (``PLANS``). ε = inf is the federation without noise, at
the learner's usual settings; ε = 0 is one in which nothing of anybody's events is told, and the sums have room for the
catalogues alone.

Every partner keeps the settings that its own full search found without a federation (``local_space``, the line of
reference). On its own validation users it then chooses how far to take the federation in (``LEARNED``, ``CAPS``), and
does so only where that gains more than one standard error. The test set is read once per row.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from koinon.config import write_atomically
from koinon.data import Split, make_split
from koinon.data.public import demo_split_config, demo_tables
from koinon.evaluation import evaluate, paired_gain
from koinon.privacy.budget import NoiseSource, PrivacyConfig, multiplier_of
from koinon.recommenders import Release
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.adapters import AdaptersConfig, FederatedAdapters
from koinon.recommenders.federated.budgeting import exact, noise_of, prices, protected, with_noise
from koinon.recommenders.federated.gram import FederatedGram, GramConfig
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution
from koinon.recommenders.tuning import Validator, tune_local
from koinon.space import Space, open_space

PARTNERS = ("books-en-us", "books-en-ca", "books-en-uk", "books-en-au", "books-en-intl")
ADAPTERS, GRAM = "federated_adapters", "federated_gram"
DELTA = 1e-6
HONEST = 0.8
"""``distributed``: share of the partners that keep their noise to themselves."""
SEMANTIC = {"width": 0, "scales": "even", "clip": 1.0}
PLANS: Mapping[str, Mapping[float, Mapping[str, bool | int | float | str]]] = {
    ADAPTERS: {0.0: SEMANTIC, 1.0: SEMANTIC, 2.0: SEMANTIC, 4.0: SEMANTIC, 8.0: SEMANTIC, float("inf"): {}},
    GRAM: {
        1.0: {"pairs": 5_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.5},
        2.0: {"pairs": 10_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.3},
        4.0: {"pairs": 50_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.3},
        8.0: {"pairs": 100_000, "clip": 3.0, "counts_clip": 2.0, "counts_share": 0.3},
        float("inf"): {},
    },
}
"""Settings that the federation agrees on, by ε. What they rest on are validation users of two partners (ca, uk), asked
with noise-free sums first: pairs of the 450 most taken works under a clip of 3 gain ca a tenth of what all pairs do,
so adapters ask for no factors and no counts."""
LEARNED = (0.25, 0.5, 0.75)
"""Share of the federation's projection in a partner's prior, beside 0 (adapters)."""
CAPS = (1.0, 10.0)
"""How far the others may add to an item, beside 0 (Gram, and adapters without noise)."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """One federation: a learner, who adds the noise, ε, and the noise's seed."""

    learner: str
    mechanism: str
    epsilon: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.learner}-{self.mechanism}-{self.epsilon:g}-{self.seed}"

    @property
    def settings(self) -> Mapping[str, bool | int | float | str]:
        return PLANS[self.learner][self.epsilon]

    def privacy(self, partners: int) -> PrivacyConfig | None:
        """The budget, with noise that can be repeated: for measurements only."""
        if self.mechanism == "none":
            return None
        return PrivacyConfig.model_validate(
            {
                "epsilon": self.epsilon,
                "delta": DELTA,
                "people": 100_000,
                "partners": partners,
                "sharing": (),
                "mechanism": self.mechanism,
                "honest": HONEST,
                "unsafe_seed": self.seed,
            }
        )

    def noise(self, partners: int) -> float:
        """What the total's noise is in units of what one person may change, if one tensor gets the whole budget."""
        privacy = self.privacy(partners)
        if privacy is None:
            return 0.0
        shares = privacy.noise_shares(partners) if self.mechanism == "distributed" else 1
        return multiplier_of(privacy, 1.0, 1) * float(np.sqrt(partners / shares))


def settings_of(
    learners: Sequence[str], mechanisms: Sequence[str], epsilons: Sequence[float], seeds: Sequence[int]
) -> list[Setting]:
    """All federations, seed by seed, so that a part of them is a whole table of fewer seeds."""
    bare = [Setting(learner, "none", e, 0) for learner in learners for e in epsilons
            if not 0 < e < np.inf and e in PLANS[learner]]  # fmt: skip
    noisy = [
        Setting(learner, mechanism, epsilon, seed)
        for seed in seeds
        for learner in learners
        for mechanism in mechanisms
        for epsilon in epsilons
        if 0 < epsilon < np.inf
    ]
    return bare + noisy


class Federation:
    """Runs all rounds of a learner in this process."""

    def __init__(self, splits: Mapping[str, Split], space: Space) -> None:
        self.splits, self.space = splits, space
        self._clear: dict[tuple[str, str], Contribution] = {}
        self._catalogues = [catalogue_of(name, split.train.items) for name, split in splits.items()]
        self._initial: dict[str, Release] = {}

    def run(self, setting: Setting) -> tuple[Release, dict[str, dict[str, NDArray[np.generic]]]]:
        """The last release, and what each partner sent under a budget."""
        name, minimum = setting.learner, len(self.splits)
        plan, learners = registry.plan(name, setting.settings), {name: setting.settings}
        privacy = setting.privacy(minimum)
        release = plan.initial(self._catalogues, self.space, rng=np.random.default_rng(0))
        sent: dict[str, dict[str, NDArray[np.generic]]] = {partner: {} for partner in self.splits}
        for round_ in range(1, plan.rounds + 1):
            task = plan.task(release, round_)
            given = {}
            for partner in self.splits:
                given[partner] = self._contributed(partner, setting, release, exact(task))
                if privacy is not None:
                    noise = noise_of(plan, task.specs, prices(privacy, learners, partner)[name, round_])
                    source = NoiseSource(privacy.unsafe_seed, f"{partner}/{round_}")
                    given[partner] = protected(privacy, given[partner], task.specs, noise, minimum, source)
                    sent[partner] |= given[partner].arrays
            total = add_up(task.specs, given)
            if privacy is not None:
                total = with_noise(privacy, learners, name, task, total, minimum)
            elif setting.epsilon == 0:
                people = {spec.name for spec in task.specs if plan.measures[spec.name].unit == "person"}
                blank = {tensor: np.zeros_like(total.arrays[tensor]) for tensor in people}
                total = replace(total, arrays={**total.arrays, **blank}, noise=dict.fromkeys(people, 1.0))
            release = plan.aggregate(release, total)
        return release, sent

    def _contributed(self, partner: str, setting: Setting, release: Release, task: object) -> Contribution:
        """A partner's exact sums; the same question is answered once."""
        digest = hashlib.sha256(repr((setting.learner, dict(setting.settings), task)).encode())
        for name, array in sorted(release.arrays.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        key = (partner, digest.hexdigest())
        if key not in self._clear:
            learner = registry.recommender(setting.learner, setting.settings)
            if isinstance(learner, FederatedAdapters):
                learner.attach(self.splits[partner].train, self.space)
            self._clear[key] = learner.contribute(self.splits[partner].train, release, task)
        return self._clear[key]


class Shop:
    """One partner: its own best settings, and how far it takes a release in."""

    def __init__(self, name: str, split: Split, space: Space, state: Path, on: str) -> None:
        self.name, self.split, self.space = name, split, space
        self.asked = split.test if on == "test" else split.validation
        self.state, self.on = state, on
        self.start = self._start()
        self._trials: list = []

    def _start(self) -> SemanticEaseConfig:
        path = self.state / f"start-{self.name}.json"
        if not path.exists():
            tuned = tune_local(self.split, self.space, rng=np.random.default_rng(7))
            said = {arm: [each.family.name, each.config.model_dump(), each.value] for arm, each in tuned.items()}
            write_atomically(path, json.dumps(said))
        return SemanticEaseConfig(**json.loads(path.read_text())["local_space"][1])

    def reference(self) -> Doubles:
        """``local_space``, NDCG@10 of each user."""
        return self._of(SemanticEASE(self.start), self.asked)

    def measured(self, setting: Setting, release: Release, sent: Mapping[str, NDArray[np.generic]]) -> dict:
        """NDCG@10 of each user under a release, and what was chosen."""
        if setting.learner == ADAPTERS:
            return self._adapters(setting, release)
        return self._gram(setting, release, sent)

    def _adapters(self, setting: Setting, release: Release) -> dict:
        from koinon.recommenders.federated.adapters._tuning import _Trials

        learner = FederatedAdapters(AdaptersConfig.model_validate(setting.settings))
        learner.receive(release)
        if not self._trials:
            for held in (self.split.validation, self.asked):
                validator = Validator(self.split.train, held, "ndcg@10", np.random.default_rng(7), rows=len(held))
                self._trials.append(_Trials(learner, validator, self.space))
        else:
            for trials in self._trials:
                trials.adopt(learner)
        validation, asked = self._trials
        alone = learner.config.model_copy(
            update={**self.start.model_dump(), "cap": 0.0, "learned": 0.0, "creator": 0.0, "own_editions": False}
        )
        chosen = _better(validation, alone, [alone.model_copy(update={"learned": share}) for share in LEARNED])
        if validation.has("cap"):
            chosen = _better(validation, chosen, [chosen.model_copy(update={"cap": cap}) for cap in CAPS])
        return {"values": asked(chosen), "learned": chosen.learned, "cap": chosen.cap}

    def _gram(self, setting: Setting, release: Release, sent: Mapping[str, NDArray[np.generic]]) -> dict:
        learner = FederatedGram(GramConfig.model_validate(setting.settings))
        learner.sent = sent  # type: ignore[assignment]
        learner.receive(release)
        own = learner.config.model_copy(update=self.start.model_dump())

        def measure(config: object) -> Doubles:
            learner.config = config  # type: ignore[assignment]
            return self._of(learner, self.split.validation)

        alone = own.model_copy(update={"share": 0.0, "cap": 0.0})
        learner.config = _better(measure, alone, [own.model_copy(update={"share": 1.0, "cap": cap}) for cap in CAPS])
        return {"values": self._of(learner, self.asked), "learned": 0.0, "cap": learner.config.cap}

    def _of(self, recommender: SemanticEASE, held: object) -> Doubles:
        recommender.fit(self.split.train, self.space, rng=np.random.default_rng(7))
        return evaluate(recommender, self.split.train, held).values()  # type: ignore[arg-type]


def _better(measure, alone, options):
    """The best option, if it gains more than one standard error over ``alone``; else that."""
    base = measure(alone)
    best = max(options, key=lambda option: measure(option).mean())
    gain = measure(best) - base
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else alone


def measure_all(
    federation: Federation, wanted: Sequence[str], settings: Sequence[Setting], state: Path, on: str
) -> Iterator[Path]:
    """Compute what the state folder does not hold yet, and name each file when it is there."""
    shops: dict[str, Shop] = {}

    def shop(name: str) -> Shop:
        if name not in shops:
            shops[name] = Shop(name, federation.splits[name], federation.space, state, on)
        return shops[name]

    for name in wanted:
        path = state / f"local_space-{name}.json"
        if not path.exists():
            write_atomically(path, json.dumps({"values": _short(shop(name).reference())}))
        yield path
    for setting in settings:
        missing = [name for name in wanted if not (state / f"{setting.name}-{name}.json").exists()]
        if not missing:
            continue
        release, sent = federation.run(setting)
        for name in missing:
            began = time.process_time()
            found = shop(name).measured(setting, release, sent[name])
            path = state / f"{setting.name}-{name}.json"
            said = {**found, "values": _short(found["values"]), "cpu_seconds": time.process_time() - began}
            write_atomically(path, json.dumps(said))
            yield path


def _short(values: Doubles) -> list[float]:
    return [round(float(value), 7) for value in values]


class Found:
    """What a state folder holds."""

    def __init__(self, state: Path, partners: Sequence[str]) -> None:
        self.state, self.partners = state, partners

    def values(self, name: str, partner: str) -> Doubles | None:
        """NDCG@10 of each user; ``None``: not measured yet."""
        path = self.state / f"{name}-{partner}.json"
        return np.array(json.loads(path.read_text())["values"]) if path.exists() else None

    def table(self, learners: Sequence[str], mechanisms: Sequence[str], epsilons: Sequence[float],
              seeds: Sequence[int]) -> str:  # fmt: skip
        """Markdown: one line per federation and ε; mean over the noise's seeds ± their standard deviation. σ is the
        total's noise (:meth:`Setting.noise`).

        The last columns are the gains of all users of all partners, seeds averaged, over ``local_space`` and over what
        is had when nothing of anybody's events is told, each with a 95 % paired bootstrap interval over users.
        """
        head = ["learner", "noise", "ε", "σ", *self.partners, "mean", "over local_space", "over ε = 0"]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        bases = {name: self.values("local_space", name) for name in self.partners}
        cells = ["-" if base is None else f"{base.mean():.4f}" for base in bases.values()]
        whole = [base.mean() for base in bases.values() if base is not None]
        mean = _cell([np.mean(whole)]) if len(whole) == len(bases) else "-"
        lines.append("| " + " | ".join(["local_space", "", "", "", *cells, mean, "", ""]) + " |")
        (told,) = settings_of([ADAPTERS], mechanisms, [0.0], seeds)
        untold = {name: self.values(told.name, name) for name in self.partners}
        asked = settings_of(learners, mechanisms, epsilons, seeds)
        for learner, mechanism, epsilon in dict.fromkeys((s.learner, s.mechanism, s.epsilon) for s in asked):
            of = [s for s in asked if (s.learner, s.mechanism, s.epsilon) == (learner, mechanism, epsilon)]
            by_seed = {name: [v for s in of if (v := self.values(s.name, name)) is not None] for name in self.partners}
            if not any(by_seed.values()):
                continue
            cells = [_cell([v.mean() for v in values]) for values in by_seed.values()]
            mean = "-"
            if all(by_seed.values()):
                least = min(len(values) for values in by_seed.values())
                mean = _cell([np.mean([by_seed[name][k].mean() for name in self.partners]) for k in range(least)])
            there = [name for name in self.partners if by_seed[name] and bases[name] is not None]
            arm = np.concatenate([np.mean(by_seed[name], axis=0) for name in there])
            sigma = f"{of[0].noise(len(PARTNERS)):.2f}" if 0 < epsilon < np.inf else ""
            said = [_gain(arm, [held[name] for name in there]) for held in (bases, untold)]
            lines.append("| " + " | ".join([learner, mechanism, f"{epsilon:g}", sigma, *cells, mean, *said]) + " |")
        return "\n".join(lines)


def _cell(means: Sequence[float]) -> str:
    if not means:
        return "-"
    return f"{np.mean(means):.4f}" + (f" ± {np.std(means, ddof=1):.4f}" if len(means) > 1 else "")


def _gain(arm: Doubles, held: Sequence[Doubles | None]) -> str:
    known = [values for values in held if values is not None]
    if len(known) < len(held) or np.array_equal(arm, np.concatenate(known)):
        return ""
    gain = paired_gain(arm, np.concatenate(known))
    return f"{gain.gain:+.4f} [{gain.lo:+.4f}, {gain.hi:+.4f}]"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps what is done")
    parser.add_argument("--learners", default=f"{ADAPTERS},{GRAM}")
    parser.add_argument("--noise", default="local,distributed", help="who adds it")
    parser.add_argument("--partners", default=",".join(PARTNERS), help="whose figures are wanted; all take part")
    parser.add_argument("--epsilons", default="0,1,2,4,8,inf")
    parser.add_argument("--seeds", default="0,1,2", help="of the noise")
    parser.add_argument("--on", choices=("validation", "test"), default="test")
    parser.add_argument("--table", action="store_true", help="only show what is there")
    asked = parser.parse_args(argv)
    wanted, learners, mechanisms = asked.partners.split(","), asked.learners.split(","), asked.noise.split(",")
    epsilons, seeds = [float(e) for e in asked.epsilons.split(",")], [int(s) for s in asked.seeds.split(",")]
    state = asked.state / asked.on
    state.mkdir(parents=True, exist_ok=True)
    if not asked.table:
        config = demo_split_config().model_copy(update={"minimum_item_events": 1})
        splits = {name: make_split(name, demo_tables(name), config) for name in PARTNERS}
        federation = Federation(splits, open_space())
        settings = settings_of(learners, mechanisms, epsilons, seeds)
        for path in measure_all(federation, wanted, settings, state, asked.on):
            print(path.name, f"{np.mean(json.loads(path.read_text())['values']):.4f}", flush=True)
    said = Found(state, wanted).table(learners, mechanisms, epsilons, seeds)
    write_atomically(state / "table.md", said + "\n")
    print(said)


if __name__ == "__main__":
    main()
