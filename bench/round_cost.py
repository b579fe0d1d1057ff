"""What a round costs: bytes per partner, seconds beyond the partners' work, the server's memory.

``python bench/round_cost.py [bytes] [latency] [secure] [memory] [--quick]``; without a name all four. One table:

* *bytes*: what a partner of the demonstration's book shops sends in a round, plain and as masked words, as it is and as
  zlib would make it (Koinon sends it as it is), against sending the encoder's weights.
* *latency*: four partners, simulation and processes: seconds of a round in which no partner works, median after the
  first round.
* *secure*: rounds of 16 simulated partners with 10⁶ values each, plain and secure.
* *memory*: the server's peak over rounds of up to 1,000 simulated partners with 10⁵ values each, against all their
  updates together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from round_overhead import worked, write_shop
from vector_federation import NAME, known_to_flower

from koinon.data import make_split
from koinon.data.public import demo_split_config, demo_tables
from koinon.privacy.secure_sum import layout
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.protocol import Contribution, Release, Task
from koinon.server import Event, FederationConfig, Mode, run_federation
from koinon.server.processes import marked
from koinon.space.encoders import EncoderOptions
from koinon.space.use_multilingual import UseMultilingualEncoder

Row = tuple[str, str, str]
SHOPS = ("books-en-us", "books-en-ca", "books-en-uk", "books-en-au")


class Enough(Exception):
    """All rounds that were to be measured are over; delivery is not."""


def said(size: float) -> str:
    """Bytes, to be read."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


# bytes


def size_of(arrays: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes as they are, and under zlib."""
    said = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return len(said), len(zlib.compress(said, 6))


def masked_size(task: Task, parties: int) -> int:
    words = layout(task.specs, parties)
    return words.count * words.bits // 8


def contributed(name: str, rounds: int) -> Iterator[tuple[Task, Release, Contribution]]:
    """A learner's rounds among the book shops, in this process; the first shop's answers."""
    split = demo_split_config(7, None)
    tables = {shop: demo_tables(shop, False, None) for shop in SHOPS}
    domains = {shop: make_split(shop, each, split).train for shop, each in tables.items()}
    catalogues = [catalogue_of(shop, each.items.sort("item_id"), public=True) for shop, each in tables.items()]
    plan = registry.plan(name, {"rounds": rounds} if name == "federated_popularity" else {})
    release = plan.initial(catalogues, None, rng=np.random.default_rng(7))
    for number in range(1, plan.rounds + 1):
        task = plan.task(release, number)
        given = {
            shop: registry.recommender(name, {}, match_key=None).contribute(domain, release, task)
            for shop, domain in domains.items()
        }
        yield task, release, given[SHOPS[0]]
        release = plan.aggregate(release, _total(given))


def _total(given: Mapping[str, Contribution]) -> Any:
    from koinon.recommenders.protocol import Total

    names = next(iter(given.values())).arrays
    sums = {n: np.sum([c.arrays[n].astype(np.float64) for c in given.values()], axis=0) for n in names}
    return Total(sums, sum(c.n_users for c in given.values()), tuple(sorted(given)))


def encoder_size() -> int:
    """Bytes of the packaged encoder's weights as float32, which nobody sends."""
    encoder = UseMultilingualEncoder(EncoderOptions())
    with np.load(encoder._resources / "weights.npz", allow_pickle=False) as weights:
        return 4 * sum(weights[name].size for name in weights.files)


def measure_bytes(quick: bool) -> Iterator[Row]:
    largest = 0
    for name in ("federated_popularity",) if quick else ("federated_popularity", "federated_gram"):
        for task, release, given in contributed(name, 1):
            plain, small = size_of(given.arrays)
            largest = max(largest, plain)
            what = " + ".join(f"{spec.name}{list(spec.shape)}" for spec in task.specs)
            secure = masked_size(task, len(SHOPS))
            down, _ = size_of(release.arrays)
            yield (
                f"{name}, round {task.round}: {what}",
                f"{said(plain)} ({said(small)} under zlib), masked {said(secure)}",
                f"down {said(down)}",
            )
    works, width, side = 20_000, 128, 513
    for number, sizes in ((1, works + 1025**2), (2, works * width + 2 * side**2), (3, works * width)):
        yield (
            f"federated_adapters, round {number}, {works:,} works",
            f"{said(4 * sizes)}, masked {said(8 * sizes)}",
            "from the policy's shapes",
        )
        largest = max(largest, 4 * sizes)
    weights = encoder_size()
    yield "the encoder's weights, for comparison", said(weights), f"{weights / largest:,.0f} x the largest above"


# rounds


def highest(pid: int) -> int:
    """Peak resident bytes of a process."""
    (line,) = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


class Watched(threading.Thread):
    """Peak resident memory of a run's processes, by their kind (the kernel keeps the peak: Linux's ``VmHWM``)."""

    def __init__(self, lock: Path, kinds: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self.lock, self.kinds, self.over = lock, kinds, threading.Event()
        self.peak: dict[str, int] = defaultdict(int)

    def run(self) -> None:
        while not self.over.wait(0.5):
            mark = self.lock.read_text().split() if self.lock.is_file() else []
            for process in marked(mark[0]) if mark else ():
                with suppress(psutil.Error, OSError):
                    command = " ".join(process.cmdline())
                    kind = next((kind for kind, word in self.kinds.items() if word in command), None)
                    if kind:
                        self.peak[kind] = max(self.peak[kind], highest(process.pid))


def run_rounds(
    root: Path,
    mode: Mode,
    partners: int,
    rounds: int,
    learner: Mapping[str, Any],
    *,
    aggregation: str = "plain",
    watch: Mapping[str, str] | None = None,
) -> tuple[list[Event], list[Path], dict[str, int]]:
    """Run so many rounds, and stop there; the ``round`` events, the shops' folders, peaks of memory."""
    folders = [write_shop(root / f"shop-{n:04}", 50, 20, n) for n in range(partners)]
    settings = {**learner["settings"], "rounds": rounds + 1}
    config = FederationConfig.model_validate(
        {
            "name": "bench",
            "partners": {folder.name: folder for folder in folders},
            "learners": [{"name": learner["name"], "settings": settings}],
            "encoder": "none",
            "aggregation": aggregation,
            "minimum_participants": min(3, partners),
            "deadlines": {"join": 600, "catalogue": 7200, "contribute": 7200},
        }
    )
    seen: list[Event] = []

    def hear(event: Event) -> None:
        if event["event"] == "round":
            seen.append(event)
            if len(seen) == rounds:
                raise Enough

    watched = Watched(root / "out" / ".lock", watch or {})
    watched.start()
    try:
        with known_to_flower():
            run_federation(config, root / "out", mode, hear)
    except Enough:
        pass
    finally:
        watched.over.set()
        watched.join()
    left_out = {event["round"]: event["left_out"] for event in seen if event["left_out"]}
    if left_out:
        raise SystemExit(f"partners were left out, so the figures mean nothing: {left_out}")
    return seen, folders, dict(watched.peak)


def overheads(events: list[Event], folders: list[Path]) -> list[float]:
    """Seconds of each round in which no partner worked."""
    spans = [(float(e["time"]) - float(e["seconds"]), float(e["time"])) for e in events]
    return [end - begin - worked(folders, begin, end) for begin, end in spans]


def after_first(values: list[float]) -> float:
    return statistics.median(values[1:] or values)


def measure_latency(quick: bool) -> Iterator[Row]:
    popularity = {"name": "federated_popularity", "settings": {"memory": 0.5}}
    aims = {"simulation": 1.5, "processes": 6.0}
    for mode, aggregation in [
        ("simulation", "plain"),
        *([] if quick else [("simulation", "secure"), ("processes", "plain"), ("processes", "secure")]),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            rounds = 2 if quick else 6
            events, folders, _ = run_rounds(Path(folder), mode, 4, rounds, popularity, aggregation=aggregation)
            beyond = overheads(events, folders)
        whole = [float(event["seconds"]) for event in events]
        aim = f"aim {aims[mode]} s, plain" if aggregation == "plain" else ""
        yield (
            f"{mode}, 4 partners, {aggregation}",
            f"{after_first(beyond):.2f} s beyond work, {after_first(whole):.2f} s a round (first {whole[0]:.1f} s)",
            aim,
        )


def measure_secure(quick: bool) -> Iterator[Row]:
    partners, values, rounds = (4, 1_000, 2) if quick else (16, 1_000_000, 4)
    vector = {"name": NAME, "settings": {"values": values}}
    seconds = {}
    for aggregation in ("plain", "secure"):
        with tempfile.TemporaryDirectory() as folder:
            events, *_ = run_rounds(Path(folder), "simulation", partners, rounds, vector, aggregation=aggregation)
        seconds[aggregation] = after_first([float(event["seconds"]) for event in events])
        yield f"simulation, {partners} partners, {values:,} values, {aggregation}", f"{seconds[aggregation]:.2f} s", ""
    yield "secure against plain", f"{seconds['secure'] / seconds['plain']:.2f} x", "aim 2 x"


def measure_memory(quick: bool, cohorts: tuple[int, ...] = (10, 100, 1000)) -> Iterator[Row]:
    kinds = {"server app and its grid": "flwr-simulation", "SuperLink": "flower-superlink"}
    values = 1_000 if quick else 100_000
    vector = {"name": NAME, "settings": {"values": values}}
    for partners in (4,) if quick else cohorts:
        with tempfile.TemporaryDirectory() as folder:
            events, _, peak = run_rounds(Path(folder), "simulation", partners, 2, vector, watch=kinds)
        held = ", ".join(f"{kind} {said(peak.get(kind, 0))}" for kind in kinds)
        everything = f"all updates of a round {said(4 * values * partners)}"
        yield f"{partners:,} partners, {values:,} values", f"{held}; {events[-1]['seconds']:.0f} s a round", everything


MEASURES: dict[str, Callable[[bool], Iterator[Row]]] = {
    "bytes": measure_bytes,
    "latency": measure_latency,
    "secure": measure_secure,
    "memory": measure_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(MEASURES))
    parser.add_argument("--cohorts", type=int, nargs="+", help="numbers of simulated partners for `memory`")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    asked = parser.parse_args()
    if unknown := set(asked.what) - set(MEASURES):
        parser.error(f"not one of {', '.join(MEASURES)}: {', '.join(sorted(unknown))}")
    if asked.cohorts:
        MEASURES["memory"] = partial(measure_memory, cohorts=tuple(asked.cohorts))
    began = time.monotonic()
    print("| what | figure | beside |\n|---|---|---|")
    for name in asked.what or MEASURES:
        for row in MEASURES[name](asked.quick):
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
