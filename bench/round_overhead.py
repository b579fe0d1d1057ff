"""How long a round takes beyond what the partners compute, in both modes, and the memory all processes need.

``python bench/round_overhead.py [--partners 4] [--rounds 6] [--works 200]``: shops of random readers federate
popularity. What counts as work is the union of the intervals that the partners themselves noted in ``work.jsonl``;
the rest of a round's wall-clock time is overhead. ``--works`` sets how many items each shop lists (four bytes a work
travel both ways).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.server import Event, FederationConfig, Mode, run_federation
from koinon.server.processes import marked


def write_shop(folder: Path, works: int, users: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    titles = [f"Work {number}" for number in range(works)]
    items = pl.DataFrame(
        {
            "item_id": titles,
            "title": titles,
            "creator": ["An Author"] * works,
            "description": [None] * works,
            "language": ["en"] * works,
            "categories": [[]] * works,
            "price": [None] * works,
            "text": titles,
        },
        schema=ITEM_SCHEMA,
    )
    taken = rng.integers(min(works, 4000), size=users * 10)
    readers = [f"reader-{number}" for number in range(users)]
    table = {
        "user_id": np.repeat(readers, 10),
        "item_id": [titles[item] for item in taken],
        "timestamp": [None] * len(taken),
        "kind": ["rating"] * len(taken),
        "weight": [1.0] * len(taken),
    }
    people = pl.DataFrame({"user_id": readers}, schema={"user_id": pl.String()})
    config = PartnerConfig(name=folder.name, catalogue="public")
    Vault.create(folder, config, Tables(items, pl.DataFrame(table, schema=EVENT_SCHEMA), people))
    return folder


def worked(folders: Sequence[Path], begin: float, end: float) -> float:
    """Seconds between two times in which at least one partner computed."""
    spans = sorted(
        (max(note["began"], begin), min(note["ended"], end))
        for folder in folders
        for note in map(json.loads, (folder / "federation" / "work.jsonl").read_text().splitlines())
        if note["ended"] > begin and note["began"] < end
    )
    total, until = 0.0, begin
    for first, last in spans:
        total += max(0.0, last - max(first, until))
        until = max(until, last)
    return total


class Memory(threading.Thread):
    """Watches the unshared memory of this process and all it has started."""

    def __init__(self, lock: Path) -> None:
        super().__init__(daemon=True)
        self.lock, self.peak, self.over = lock, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            mark = self.lock.read_text().split() if self.lock.is_file() else []
            total = 0
            for process in [psutil.Process(), *(marked(mark[0]) if mark else ())]:
                try:
                    total += process.memory_full_info().uss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def measure(mode: Mode, root: Path, arguments: argparse.Namespace) -> dict[str, object]:
    works = arguments.works
    folders = [write_shop(root / f"shop-{n}", works, 500, n) for n in range(arguments.partners)]
    config = FederationConfig.model_validate(
        {
            "name": "bench",
            "partners": {folder.name: folder for folder in folders},
            "learners": [{"name": "federated_popularity", "settings": {"rounds": arguments.rounds}}],
            "encoder": "none",
        }
    )
    overheads: list[float] = []

    def hear(event: Event) -> None:
        if event["event"] == "round":
            end = float(event["time"])
            begin = end - float(event["seconds"])
            overheads.append(float(event["seconds"]) - worked(folders, begin, end))

    memory = Memory(root / "out" / ".lock")
    memory.start()
    started = time.monotonic()
    run_federation(config, root / "out", mode, hear)
    seconds = time.monotonic() - started
    memory.over.set()
    memory.join()
    return {
        "mode": mode,
        "partners": arguments.partners,
        "works": works,
        "overhead_seconds": [round(value, 2) for value in overheads],
        "median_after_the_first": round(statistics.median(overheads[1:] or overheads), 2),
        "whole_run_seconds": round(seconds, 1),
        "peak_unshared_gib": round(memory.peak / 2**30, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partners", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--works", type=int, default=200)
    parser.add_argument("--mode", choices=["simulation", "processes", "both"], default="both")
    arguments = parser.parse_args()
    modes: list[Mode] = ["simulation", "processes"] if arguments.mode == "both" else [arguments.mode]
    for mode in modes:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(mode, Path(folder), arguments)), flush=True)


if __name__ == "__main__":
    main()
