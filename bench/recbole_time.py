"""Seconds until a validation NDCG@10 that RecBole's SASRec reaches at its best, on one split and one machine.

    python -m bench.recbole_time [--dataset ml-100k | --dataset office --bench-data DIR] [--seeds 0,1,2] [--threads 1]
        [--epochs 300] [--state DIR] [--recbole PYTHON]

RecBole's SASRec trains at its defaults (one target per prefix, cross-entropy over the catalogue, width 64) until ten
epochs bring nothing; ours, SASRec and HSTU, until they have reached that value. Leave-last-out, every person's second
last event, whole catalogue less what the person already has, on both sides. Seconds are of training alone, without
validations and without reading data; ``processor`` holds on a machine that others use, with one thread. Without
``--recbole`` an environment for it is made in the state folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.federated_hstu import FURTHER, further
from koinon.config import write_atomically
from koinon.data import Split, SplitConfig, Tables, make_split
from koinon.data.public import get
from koinon.evaluation import evaluate
from koinon.recommenders.sequential import HSTU, HSTUConfig, SASRec, SASRecConfig, SequenceRecommender

NEEDS = ("recbole==1.2.1", "torch>=2.6", "numpy<2", "pandas<3", "setuptools<80")
"""RecBole 1.2.1 uses names that NumPy 2 has dropped."""
DRIVER = Path(__file__).with_name("recbole_sasrec.py")
SAME: dict[str, Any] = {"length": 50, "width": 64, "heads": 2, "batch_users": 64, "dropout": 0.5, "loss": "full"}
OURS: dict[str, SequenceRecommender] = {
    "sasrec": SASRec(SASRecConfig(**SAME, feedforward=4, unit=False, temperature=1.0)),
    "hstu": HSTU(HSTUConfig(**SAME)),
}
"""Of RecBole's width, heads, blocks, history length, dropout and loss."""


class Reached(Exception):
    """The value to reach is reached."""


def at_hand(folder: Path, dataset: str) -> Tables:
    """One of the further sets that have an order."""
    place, order = FURTHER[dataset]
    return further(folder / place, order)


def environment(state: Path) -> str:
    """The interpreter of an environment that holds RecBole; made where it is missing."""
    folder = state / "recbole"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *NEEDS], check=True)
    return str(python)


def in_order(split: Split) -> Iterator[str]:
    """Every event as RecBole reads it; its time is its place, so that equal times cannot be put in another order."""
    yield "user_id:token\titem_id:token\ttimestamp:float"
    for row in range(len(split.test)):
        events = (*split.test.history(row), *split.test.targets(row))
        yield from (f"{split.test.user[row]}\t{item}\t{place}" for place, item in enumerate(events))


def recbole(python: str, split: Split, threads: int, epochs: int, folder: Path) -> list[dict[str, Any]]:
    """RecBole's curve; ``folder`` keeps its training, which goes on where it was interrupted."""
    curve = folder / "curve.json"
    if not curve.exists():
        write_atomically(folder / "bench" / "bench.inter", "\n".join(in_order(split)) + "\n")
        command = [python, str(DRIVER), str(folder), str(threads), str(epochs), "10"]
        done = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
        if done.returncode:
            raise SystemExit(f"recbole did not run to its end (exit {done.returncode})")
    rows: list[dict[str, Any]] = json.loads(curve.read_text())
    return rows


def ours(model: SequenceRecommender, split: Split, goal: float, seed: int, epochs: int) -> dict[str, Any]:
    """Seconds until ``goal``, or to the best value where it is not reached."""
    clock = {"wall": 0.0, "processor": 0.0, "epoch": 0, "best": 0.0}
    since = [time.perf_counter(), time.process_time()]

    def validate(recommender: SequenceRecommender) -> float:
        clock["wall"] += time.perf_counter() - since[0]
        clock["processor"] += time.process_time() - since[1]
        clock["epoch"] += 1
        value = evaluate(recommender, split.train, split.validation, slices=("all",)).mean()
        clock["best"] = max(clock["best"], value)
        if value >= goal:
            raise Reached
        since[:] = time.perf_counter(), time.process_time()
        return value

    model = type(model)(model.config.model_copy(update={"epochs": epochs, "patience": epochs}))  # type: ignore[arg-type]
    try:
        model.fit(split.train, None, rng=np.random.default_rng(seed), validate=validate)
    except Reached:
        return {**clock, "reached": True}
    return {**clock, "reached": False}


def show(rows: list[dict[str, Any]]) -> None:
    theirs = next(row for row in rows if row["model"] == "recbole sasrec")
    print("| model | validation NDCG@10 | epochs | s, wall | s, processor | against RecBole |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        mean = {key: float(np.mean([row[key] for row in mine])) for key in ("best", "epoch", "wall", "processor")}
        low, high = (f(row["processor"] for row in mine) for f in (min, max))
        reached = "" if all(row["reached"] for row in mine) else " (not reached)"
        print(
            f"| {name} | {mean['best']:.4f}{reached} | {mean['epoch']:.1f} | {mean['wall']:.1f} "
            f"| {mean['processor']:.1f} [{low:.1f}, {high:.1f}] | {theirs['processor'] / mean['processor']:.1f} x |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--bench-data", type=Path, help="folder of the further public sets, for office, music or games")
    parser.add_argument("--seeds", default="0,1,2", help="of ours")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--state", type=Path, default=Path("recbole-time"), help="keeps what is done")
    parser.add_argument("--recbole", metavar="PYTHON", help="of an environment that holds recbole")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.state.mkdir(parents=True, exist_ok=True)
    tables = get(asked.dataset) if asked.bench_data is None else at_hand(asked.bench_data, asked.dataset)
    split = make_split(asked.dataset, tables, SplitConfig(protocol="leave-last-out", minimum_item_events=1))
    python = asked.recbole or environment(asked.state.resolve())
    folder = asked.state.resolve() / f"{asked.dataset}-recbole"
    curve = recbole(python, split, asked.threads, asked.epochs, folder)
    best = max(curve, key=lambda row: row["ndcg"])
    seconds = {key: best[key] for key in ("wall", "processor", "epoch")}
    rows = [{"model": "recbole sasrec", "best": best["ndcg"], "reached": True, **seconds}]
    rate = best["prefixes"] * best["epoch"] / best["processor"]
    print(f"{asked.dataset}, {asked.threads} threads; RecBole: {rate:,.0f} targets a processor second", file=sys.stderr)
    for name, model in OURS.items():
        for seed in map(int, asked.seeds.split(",")):
            row = {"model": name, **ours(model, split, best["ndcg"], seed, asked.epochs)}
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    show(rows)


if __name__ == "__main__":
    main()
