"""What a secure sum costs against a plain one: partner's and server's seconds, bytes, the server's peak memory.

``python bench/secure_sum.py [--partners 4 16 64 256] [--values 100000 1000000]``: the server runs in
a process of its own, so that its memory can be told apart; the partners take their turns in this one. Plain means that
every partner serialises its ``float32`` values and the server reads and adds them; a secure round is everything from
drawing keys and quantising to the total as floats. Neither holds the network or Flower's exchanges.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from koinon.privacy.secure_sum import Part, Partner, Rules, Server, Session, WordLayout

SESSION = Session("bench", 1, "00" * 32)


class PlainServer:
    def __init__(self, values: int) -> None:
        self.sum = np.zeros(values)

    def take(self, said: bytes) -> None:
        self.sum += np.frombuffer(said, dtype=np.float32)

    def total(self) -> np.ndarray:
        return self.sum


def memory(which: str) -> int:
    """Give this process's resident bytes: `VmRSS` now, `VmHWM` at their highest (Linux)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which)]
    return int(line.split()[1]) * 1024


def serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Be a server: obey (method, arguments) until told to end; tell the seconds of each and at last the peak memory."""
    before = memory("VmRSS")
    server = make(*arguments)
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        method, told = asked
        started = time.perf_counter()
        answer = getattr(server, method)(*told)
        pipe.send((answer, time.perf_counter() - started))
    pipe.send(memory("VmHWM") - before)


class Remote:
    """A server in another process."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, make, arguments))
        self.process.start()
        self.pipe.recv()
        self.seconds: dict[str, float] = defaultdict(float)

    def __call__(self, method: str, *told: Any) -> Any:
        self.pipe.send((method, told))
        answer, seconds = self.pipe.recv()
        self.seconds[method] += seconds
        return answer

    def end(self) -> int:
        self.pipe.send(None)
        held = int(self.pipe.recv())
        self.process.join()
        return held


class Clock:
    """Seconds by step, one figure per partner."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = defaultdict(list)

    def __call__(self, step: str, work: Callable[..., Any], *told: Any) -> Any:
        started = time.perf_counter()
        answer = work(*told)
        self.steps[step].append(time.perf_counter() - started)
        return answer

    def median(self, step: str) -> float:
        return statistics.median(self.steps[step])

    @property
    def one(self) -> float:
        """What a partner takes in all."""
        return sum(map(self.median, self.steps))


def values_of(number: int, values: int) -> np.ndarray:
    return np.random.default_rng(number).uniform(-1, 1, values).astype(np.float32)


def plain(n: int, values: int) -> tuple[Clock, Remote, np.ndarray, int]:
    server, clock = Remote(PlainServer, values), Clock()
    for number in range(n):
        server("take", clock("serialise", values_of(number, values).tobytes))
    total = server("total")
    return clock, server, total, server.end()


def secure(n: int, values: int, rules: Rules) -> tuple[Clock, Remote, np.ndarray, int, WordLayout, int]:
    layout = WordLayout([Part("update", (values,), "float32", float(n))], parties=n)
    server, clock = Remote(Server, SESSION, rules), Clock()
    names = [f"partner{number:04}" for number in range(n)]
    partners: dict[str, Partner] = {}
    control = 0
    for name in names:
        partners[name], said = clock("keys", Partner.begin, SESSION, rules, name)
        server("take_keys", name, said)
        control += len(said)
    told = server("cohorts")
    for name in names:
        said = clock("shares", partners[name].share, told[name])
        server("take_shares", name, said)
        control += len(said) + len(told[name])
    told = server("deliveries", layout.count)
    for number, name in enumerate(names):
        update = values_of(number, values)
        words = clock("quantise", layout.pack, {"update": update}, 1)
        server("take_masked", name, clock("mask", partners[name].mask, told[name], words))
        control += len(told[name])
    told = server("claims")
    for name in names:
        said = clock("unmask", partners[name].unmask, told[name])
        server("take_unmask", name, said)
        control += len(said) + len(told[name])
    total = server("total")
    started = time.perf_counter()
    tensors, _ = layout.unpack(total)
    server.seconds["total"] += time.perf_counter() - started
    return clock, server, tensors["update"], server.end(), layout, control // n


def measure(n: int, values: int, rules: Rules) -> tuple[float, float]:
    plainly, plain_server, expected, plain_held = plain(n, values)
    clock, server, total, held, layout, control = secure(n, values, rules)
    worst = float(np.abs(total - expected).max())
    if worst > layout.quantisers["update"].error:
        raise SystemExit(f"the total is off by {worst}")
    routing = sum(
        server.seconds[m] for m in ("take_keys", "cohorts", "take_shares", "deliveries", "claims", "take_unmask")
    )
    plain_in_all = sum(plain_server.seconds.values())
    in_all = sum(server.seconds.values())
    steps = "  ".join(f"{step} {1e3 * clock.median(step):.1f}" for step in clock.steps)
    print(f"\n{n} partners, {values:,} values: {rules.degree(n)} neighbours, threshold {rules.threshold(n)}")
    print(f"  partner, ms:  {steps}  = {1e3 * clock.one:.1f}   (plain {1e3 * plainly.one:.1f})")
    print(
        f"  server, s:    routing {routing:.3f}  adding {server.seconds['take_masked']:.3f}"
        f"  unmasking {server.seconds['total']:.3f}  = {in_all:.3f}   (plain {plain_in_all:.3f})"
    )
    print(f"  bytes:        {4 * values + 84:,} of words, {control:,} of keys and shares   (plain {4 * values:,})")
    everything = 4 * n * values / 1e6
    print(
        f"  server's peak {held / 1e6:.1f} MB   (plain {plain_held / 1e6:.1f}; all updates together {everything:.1f})"
    )
    print(f"  off by at most {worst:.2e}, stated {layout.quantisers['update'].error:.2e}")
    beside, plain_beside = clock.one + in_all, plainly.one + plain_in_all
    print(f"  a round, partners side by side: {beside:.3f} s, plain {plain_beside:.3f} s")
    sys.stdout.flush()
    return clock.one, in_all


def growth(partners: list[int], seconds: list[float]) -> str:
    """Say which exponent of n, and which line in log2 n, fits the seconds best."""
    logs = np.log2(partners)
    exponent = float(np.polyfit(logs, np.log2(seconds), 1)[0])
    slope, start = np.polyfit(logs, seconds, 1)
    spread = np.abs(np.polyval([slope, start], logs) / seconds - 1).max()
    return f"n^{exponent:.2f};  {1e3 * start:.1f} + {1e3 * slope:.1f} · log2 n ms, within {100 * spread:.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partners", type=int, nargs="+", default=[4, 16, 64, 256])
    parser.add_argument("--values", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--density", type=float, default=Rules().density)
    chosen = parser.parse_args()
    rules = Rules(density=chosen.density)
    for values in chosen.values:
        seconds = [measure(n, values, rules)[0] for n in chosen.partners]
        timed = list(zip(chosen.partners, seconds, strict=True))
        sparse = [(n, taken) for n, taken in timed if rules.degree(n) < n - 1]
        for name, those in (("all", timed), ("sparse graphs", sparse)):
            if len(those) > 1:
                said = growth([n for n, _ in those], [taken for _, taken in those])
                print(f"\nA partner's seconds at {values:,} values, {name}: {said}")


if __name__ == "__main__":
    main()
