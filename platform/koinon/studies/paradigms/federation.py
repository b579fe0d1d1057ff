"""Federations within the study: every data set is a partner, rounds run in one process, sums are added in the open.

What crosses is what would cross: the tensors that a plan's task names. How a federation runs for real, between
machines, masked, is :mod:`koinon.server`'s and :mod:`koinon.clients`' matter and changes no figure here.

A federation is run once for all its partners: :func:`run_rounds` keeps what comes of it, :func:`join` makes one
partner's recommender of that.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from koinon.config import write_atomically
from koinon.data import Domain
from koinon.recommenders.federated import catalogue_of, registry
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import FederatedRecommender, Release
from koinon.recommenders.store import Storable
from koinon.space import Space

__all__ = ["Rounds", "apart", "join", "run_rounds"]

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Rounds:
    """What came of a federation.

    Attributes
    ----------
    release
        The last one.
    kept
        Partner to what its learner keeps between rounds.
    number
        How many rounds there were.
    sent
        Bytes that one partner sent in all of them.
    seconds
        Processor seconds of all partners and the server.
    plan
        What the server keeps between rounds.
    """

    release: Release
    kept: Mapping[str, Arrays]
    number: int = 0
    sent: float = 0.0
    seconds: float = 0.0
    plan: Arrays = field(default_factory=dict)

    @property
    def bytes_per_round(self) -> float:
        """What one partner sent in a round, on average."""
        return self.sent / max(self.number, 1)

    def write(self, path: Path) -> None:
        """Keep it in a file, whole or not at all."""
        arrays = {f"release/{name}": array for name, array in self.release.arrays.items()}
        arrays |= {f"plan/{name}": array for name, array in self.plan.items()}
        partners = sorted(self.kept)
        for number, partner in enumerate(partners):
            arrays |= {f"kept/{number}/{name}": array for name, array in self.kept[partner].items()}
        told = {
            "release": [self.release.number, self.release.recommender, dict(self.release.info)],
            "partners": partners,
            "rounds": [self.number, self.sent, self.seconds],
        }
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_atomically(path, save(whole, {"koinon": json.dumps(told)}))

    @classmethod
    def read(cls, path: Path) -> Rounds:
        """As :meth:`write` kept it."""
        with safe_open(path, framework="numpy") as file:
            told = json.loads(file.metadata()["koinon"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = {partner: _below(arrays, f"kept/{number}/") for number, partner in enumerate(told["partners"])}
        last, recommender, info = told["release"]
        release = Release(last, recommender, _below(arrays, "release/"), info)
        number, sent, seconds = told["rounds"]
        return cls(release, kept, number, sent, seconds, _below(arrays, "plan/"))


def run_rounds(
    name: str, domains: Mapping[str, Domain], settings: Mapping[str, Any], space: Space | None, *, seed: int, file: Path
) -> Rounds:
    """Run all rounds of a learner, or those that ``file`` does not hold yet.

    Parameters
    ----------
    name
        A learner of :data:`koinon.recommenders.federated.registry.LEARNERS`.
    domains
        By partner: what each learns from.
    settings
        What the partners have agreed on; what is not named has the learner's default.
    space, seed
        As for every recommender.
    file
        Kept after every round. It must be named by all that the federation depends on. Whoever else asks for the same
        at the same time waits for it.

    Raises
    ------
    RecommenderError
        As the plan's and the partners'.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file.with_suffix(".lock")):
        begun = process_time()
        plan = registry.plan(name, settings)
        learners = {partner: registry.recommender(name, settings) for partner in domains}
        if file.is_file():
            rounds = Rounds.read(file)
            registry.restore(plan, rounds.plan)
        else:
            catalogues = [catalogue_of(partner, domain.items) for partner, domain in domains.items()]
            rounds = Rounds(plan.initial(catalogues, space, rng=np.random.default_rng(seed)), {})
        if rounds.number < plan.rounds:
            for partner, learner in learners.items():
                _take_up(learner, rounds, partner, domains[partner], space)
        while rounds.number < plan.rounds:
            task = plan.task(rounds.release, rounds.number + 1)
            answers = {
                partner: learner.contribute(domains[partner], rounds.release, task)
                for partner, learner in learners.items()
            }
            release = plan.aggregate(rounds.release, add_up(task.specs, answers))
            for learner in learners.values():
                learner.receive(release)
            kept = {partner: learner.state() for partner, learner in learners.items() if isinstance(learner, Storable)}
            sent = sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in task.specs)
            seconds, begun = process_time() - begun, process_time()
            rounds = Rounds(
                release,
                kept,
                rounds.number + 1,
                rounds.sent + sent,
                rounds.seconds + seconds,
                registry.state(plan),
            )
            rounds.write(file)
        return rounds


def join(
    name: str, rounds: Rounds, partner: str, domain: Domain, settings: Mapping[str, Any], space: Space | None
) -> FederatedRecommender:
    """Return one partner's learner as the rounds have left it, with settings of its own; it is yet to be fitted."""
    learner = registry.recommender(name, settings)
    _take_up(learner, rounds, partner, domain, space)
    return learner


def _take_up(learner: FederatedRecommender, rounds: Rounds, partner: str, domain: Domain, space: Space | None) -> None:
    if hasattr(learner, "attach"):  # learners that read texts while they contribute
        learner.attach(domain, space)
    if isinstance(learner, Storable) and rounds.kept.get(partner):
        learner.restore(rounds.kept[partner], domain, space)
    learner.receive(rounds.release)


def _below(arrays: Arrays, folder: str) -> Arrays:
    return {name.removeprefix(folder): array for name, array in arrays.items() if name.startswith(folder)}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the system lets go of the lock of one that has died."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def apart(names: Sequence[str], own: str) -> list[str]:
    """Data sets that may be partners of ``own``: none that is cut from the same events, and one of each.

    ``books-en`` and ``books-en-us`` are cut from the same events, ``ml-1m`` and ``ml-1m-drama`` too, and a data set
    under two divisions: one partner's training would hold another's test.
    """
    chosen = [own]
    for name in names:
        if not any(_related(name, other) for other in chosen):
            chosen.append(name)
    return chosen


def _related(one: str, other: str) -> bool:
    first, second = (name.replace("book-crossing", "books") for name in (one, other))
    return first == second or first.startswith(f"{second}-") or second.startswith(f"{first}-")
