"""How long every pipeline takes on this machine, by the clock on the wall."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, Self

import numpy as np

from koinon.data import Domain
from koinon.recommenders.protocol import Recommender, Request

__all__ = ["Kind", "Latency", "Profile", "machine", "measure", "probes_of"]

Kind = Literal["plain", "words"]
LEAST = 5


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one request's list: median, 95th percentile (with few requests the slowest), and of how many."""

    p50_ms: float
    p95_ms: float
    n: int


@dataclass(frozen=True)
class Profile:
    """What was measured.

    Attributes
    ----------
    machine
        Where: architecture, processors.
    pipelines
        Latency of each pipeline for requests without words and, of those that hear them, with words.
    """

    machine: str
    pipelines: Mapping[str, Mapping[Kind, Latency]]

    def of(self, pipeline: str, kind: Kind) -> Latency:
        """Return a pipeline's latency; of one that does not hear words that without."""
        known = self.pipelines[pipeline]
        return known.get(kind, known["plain"])

    def dump(self) -> str:
        """Return it as JSON."""
        pipelines = {
            name: {kind: asdict(latency) for kind, latency in known.items()} for name, known in self.pipelines.items()
        }
        return json.dumps({"machine": self.machine, "pipelines": pipelines})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take back what :meth:`dump` gave."""
        read = json.loads(text)
        pipelines = {
            name: {kind: Latency(**latency) for kind, latency in known.items()}
            for name, known in read["pipelines"].items()
        }
        return cls(read["machine"], pipelines)


def machine() -> str:
    """Architecture, processors and their model, as far as the system tells."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return f"{platform.machine()} {os.cpu_count()} {model}".strip()


def measure(recommender: Recommender, requests: Sequence[Request], *, k: int = 10, seconds: float = 20.0) -> Latency:
    """Ask one request after another; a first one that does not count opens what must be opened."""
    recommender.recommend(requests[:1], k)
    spent: list[float] = []
    begun = perf_counter()
    for request in requests:
        before = perf_counter()
        recommender.recommend([request], k)
        spent.append(1000.0 * (perf_counter() - before))
        if len(spent) >= LEAST and perf_counter() - begun > seconds:
            break
    p50, p95 = np.quantile(spent, [0.5, 0.95], method="higher")
    return Latency(float(p50), float(p95), len(spent))


def probes_of(domain: Domain, count: int, rng: np.random.Generator, *, words: bool) -> list[Request]:
    """Requests to measure with: histories of people of the domain; with words each also wishes for a title."""
    able = np.unique(domain.events.user)
    if not len(able):
        return [Request()]
    titles = domain.items["title"].to_list()
    requests = []
    for user in rng.choice(able, size=count, replace=len(able) < count).tolist():
        wish = str(titles[int(rng.integers(len(titles)))] or "something") if words else None
        history, times = domain.history(user), domain.history_times(user)
        requests.append(Request(history=history, times=times, query=wish))
    return requests
