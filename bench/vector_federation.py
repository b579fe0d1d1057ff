"""A learner for benchmarks alone: every partner adds one random vector a round. The apps here know it beside the rest.

``koinon.recommenders.federated`` has the real ones; this one costs a partner next to nothing, so that what a round
takes is Koinon's and Flower's.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from pydantic import Field

from koinon.clients import app as clients
from koinon.config import Config
from koinon.data import Domain
from koinon.recommenders.federated import registry
from koinon.recommenders.protocol import Catalogue, Contribution, Measure, Release, Request, Task, TensorSpec, Total
from koinon.server import app as servers
from koinon.server import sessions
from koinon.space import Space

NAME = "bench_vector"


class VectorConfig(Config):
    """Settings of the benchmark's learner."""

    rounds: int = Field(default=1, ge=1)
    values: int = Field(default=100_000, ge=1)


class VectorPlan:
    """The server's half: adds up."""

    name: ClassVar[str] = NAME
    config_type: ClassVar[type[VectorConfig]] = VectorConfig
    measures: ClassVar[Mapping[str, Measure]] = {"update": Measure(fresh=True)}

    def __init__(self, config: VectorConfig | None = None) -> None:
        self.config = config or VectorConfig()
        self.rounds = self.config.rounds

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        return Release(0, self.name, {"sum": np.zeros(self.config.values, dtype=np.float32)})

    def task(self, release: Release, round_: int) -> Task:
        values = self.config.values
        return Task(round_, (TensorSpec("update", (values,), "float32", "sum", float(np.sqrt(values))),))

    def aggregate(self, release: Release, total: Total) -> Release:
        arrays = {"sum": total.arrays["update"].astype(np.float32)}
        return Release(release.number + 1, self.name, arrays, release.info)


class VectorLearner:
    """A partner's half: a vector drawn anew for every round."""

    name: ClassVar[str] = NAME
    config_type: ClassVar[type[VectorConfig]] = VectorConfig

    def __init__(self, config: VectorConfig | None = None) -> None:
        self.config = config or VectorConfig()

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        rng = np.random.default_rng((zlib.crc32(domain.name.encode()), task.round))
        (spec,) = task.specs
        return Contribution({spec.name: rng.uniform(-1, 1, spec.shape).astype(np.float32)}, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Nothing is learned."""

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        raise NotImplementedError


registry.LEARNERS[NAME] = registry.Entry(__name__, "VectorPlan", "VectorLearner")

server_app = servers.app
client_app = ClientApp()


# handlers of this module, so that Ray's actors import it


@client_app.query("catalogue")
def catalogue(message: Message, context: Context) -> Message:
    return clients.catalogue(message, context)


@client_app.query("keys")
def keys(message: Message, context: Context) -> Message:
    return clients.keys(message, context)


@client_app.query("share")
def share(message: Message, context: Context) -> Message:
    return clients.share(message, context)


@client_app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    return clients.unmask(message, context)


@client_app.train("contribute")
def contribute(message: Message, context: Context) -> Message:
    return clients.contribute(message, context)


@contextmanager
def known_to_flower() -> Iterator[None]:
    """Let the federations that are run in this block take their apps from here."""
    folder = str(Path(__file__).parent)
    before: dict[str, Any] = {"THIN_APP": sessions.THIN_APP, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    described = sessions.THIN_APP.replace("koinon.server.app:app", f"{__name__}:server_app")
    sessions.THIN_APP = described.replace("koinon.clients.app:app", f"{__name__}:client_app")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, before["PYTHONPATH"]]))
    try:
        yield
    finally:
        sessions.THIN_APP = before["THIN_APP"]
        os.environ["PYTHONPATH"] = before["PYTHONPATH"]
