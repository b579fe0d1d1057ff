"""Koinon's EASE, ItemKNN, iALS and BPR-MF against LensKit's and implicit's, on ml-100k.

    python -m bench.against_libraries --environment libraries-env

The other libraries live in an environment of their own, made on the first call. Prints what was compared, how far apart
it is and how far it may be; leaves with 1 if anything is farther.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from koinon.data import EvaluationSet, Split, SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation import evaluate, requests_of
from koinon.recommenders import Request
from koinon.recommenders.conventional import (
    BPR,
    EASE,
    IALS,
    BPRConfig,
    EaseConfig,
    IALSConfig,
    ItemKNN,
    ItemKNNConfig,
)
from koinon.recommenders.training import known_before_test

LIBRARIES = ("implicit==0.7.3", "lenskit==2025.8.1")
Scores = NDArray[np.float32]

EASE_CONFIG = EaseConfig(lambda_=200.0)
NEIGHBOURS = 20
IALS_CONFIG = IALSConfig(factors=32, regularization=5.0, unobserved=0.2, frequency_power=0.0, sweeps=6)
BPR_CONFIG = BPRConfig(factors=32, epochs=40, regularization=0.01)
LENSKIT_BPR = {"factors": 32, "epochs": 40, "batch": 1024, "learning_rate": 0.005, "regularization": 0.1}


@dataclass(frozen=True)
class Comparison:
    """One line: what was measured on both sides, how far apart, and how far they may be."""

    what: str
    library: str
    ours: float
    theirs: float
    apart: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.apart <= self.allowed


class _Told:
    """Gives every user of an evaluation set the scores that another library gave."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    def score(self, requests: list[Request], candidates: None = None) -> Scores:
        return self.scores[[request.user for request in requests]]


def make_environment(folder: Path) -> Path:
    """The interpreter of an environment with the other libraries."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *LIBRARIES], check=True)
    return python


def ml_100k() -> Split:
    config = SplitConfig(protocol="leave-last-out", minimum_item_events=1)
    return make_split("ml-100k", get("ml-100k"), config)


def ask_libraries(python: Path, split: Split, begin: Scores, seeds: int) -> dict[str, Scores]:
    """Scores of all libraries for all users, by name."""
    events = known_before_test(split).events
    # implicit counts an unobserved pair 1 and a taken one alpha; ours, divided by its weight of the unobserved, is the
    # same loss with alpha = 1 + 1/unobserved once its target 1 becomes 1 + unobserved
    scale = 1.0 + IALS_CONFIG.unobserved
    settings = {
        "ease": EASE_CONFIG.lambda_,
        "neighbours": NEIGHBOURS,
        "ials": {
            "regularization": scale * IALS_CONFIG.regularization / IALS_CONFIG.unobserved,
            "confidence": 1.0 + 1.0 / IALS_CONFIG.unobserved,
            "sweeps": IALS_CONFIG.sweeps,
        },
        "bpr": {**LENSKIT_BPR, "seeds": list(range(seeds))},
    }
    with tempfile.TemporaryDirectory() as place:
        np.savez(
            Path(place) / "given.npz",
            user=events.user,
            item=events.item,
            shape=np.array([split.train.n_users, split.train.n_items]),
            begin=np.sqrt(np.float32(scale)) * begin,
            settings=np.array(json.dumps(settings)),
        )
        alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        # LensKit would compile its training step: minutes with a compiler, an error without one
        alone |= {"OPENBLAS_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
        side = Path(__file__).with_name("libraries_side.py")
        subprocess.run([str(python), str(side), place], check=True, env=alone)
        with np.load(Path(place) / "found.npz") as found:
            return {name: found[name] for name in found.files}


def compare_all(python: Path, seeds: int = 3) -> list[Comparison]:
    """Every comparison."""
    split = ml_100k()
    known = known_before_test(split)
    rng = np.random.default_rng(0)
    begin = rng.normal(0.0, 0.1, (known.n_items, IALS_CONFIG.factors)).astype(np.float32)
    theirs = ask_libraries(python, split, begin, seeds)
    test = split.test
    requests = requests_of(test)
    users = test.user

    def ndcg(scores: Scores) -> float:
        return evaluate(_Told(scores), known, test, slices=("all",)).mean()  # type: ignore[arg-type]

    def by_user(scores: Scores) -> Scores:
        """Rows by user, as the libraries give them."""
        whole = np.zeros((known.n_users, known.n_items), dtype=np.float32)
        whole[users] = scores
        return whole

    def line(what: str, library: str, mine: Scores, other: Scores, allowed: float) -> Comparison:
        """The greatest difference of scores to unseen items, relative to the greatest score."""
        return Comparison(what, library, ndcg(by_user(mine)), ndcg(other), _apart(mine, other, test), allowed)

    ease = EASE(EASE_CONFIG).fit(known, None, rng=rng)
    lines = [line("EASE", "LensKit", ease.score(requests), known.matrix @ theirs["ease_weights"], 1e-4)]
    every = ItemKNN(ItemKNNConfig(neighbours=known.n_items, shrink=0.0)).fit(known, None, rng=rng)
    lines.append(line("ItemKNN, all neighbours", "implicit", every.score(requests), theirs["cosine"], 1e-4))
    some = ItemKNN(ItemKNNConfig(neighbours=NEIGHBOURS, shrink=0.0)).fit(known, None, rng=rng)
    near = ndcg(by_user(some.score(requests))), ndcg(theirs["nearest"])
    # equal cosines at the last place are cut in another order
    lines.append(Comparison(f"ItemKNN, {NEIGHBOURS} neighbours", "implicit", *near, abs(near[0] - near[1]), 0.002))
    ials = IALS(IALS_CONFIG).fit_from(begin, known)
    scale = np.float32(1.0 + IALS_CONFIG.unobserved)
    lines.append(line("iALS, one ridge for all", "implicit", scale * ials.score(requests), theirs["ials"], 1e-3))
    if seeds:
        trained = [BPR(BPR_CONFIG).fit(known, None, rng=np.random.default_rng(seed)) for seed in range(seeds)]
        own = [ndcg(by_user(model.score(requests))) for model in trained]
        other = [ndcg(theirs[f"bpr_{seed}"]) for seed in range(seeds)]
        lines.append(_at_least(f"BPR-MF, mean of {seeds} seeds", own, other))
    return lines


def _apart(mine: Scores, other: Scores, test: EvaluationSet) -> float:
    unseen = np.ones(mine.shape, dtype=np.bool_)
    for row in range(len(test)):
        unseen[row, test.history(row)] = False
    difference = np.abs(mine - other[test.user])[unseen].max()
    return float(difference / np.abs(mine[unseen]).max())


def _at_least(what: str, own: list[float], other: list[float]) -> Comparison:
    """Trained by chance and by another optimiser: ours may be better, and worse by no more than both sides' spread."""
    spread = float(np.std(own) + np.std(other))
    ours, theirs = float(np.mean(own)), float(np.mean(other))
    return Comparison(what, "LensKit", ours, theirs, max(0.0, theirs - ours), max(0.003, spread))


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="folder of the other libraries' environment")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of BPR-MF on each side; 0 leaves it out")
    options = parser.parse_args()
    lines = compare_all(make_environment(options.environment), options.seeds)
    say("| ml-100k, last event held out | library | NDCG@10 here | there | apart | allowed | |")
    say("|---|---|---:|---:|---:|---:|---|")
    for one in lines:
        verdict = "agrees" if one.agrees else "DIFFERS"
        figures = f"{one.ours:.4f} | {one.theirs:.4f} | {one.apart:.1e} | {one.allowed:.1e}"
        say(f"| {one.what} | {one.library} | {figures} | {verdict} |")
    return 0 if all(one.agrees for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
