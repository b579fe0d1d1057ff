"""A grid without a network: the coordinator's messages are answered by the real client app in this process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from koinon.clients.app import app
from koinon.server import FederationConfig
from koinon.server.coordinator import Coordinator
from koinon.server.progress import ProgressLog, ProgressReader


@dataclass
class InProcessGrid(Grid):
    """Hands every message to the client app of the node it is for.

    Attributes
    ----------
    nodes
        Node id to what its node was told at its start.
    silent
        Asked before a message is delivered: nodes for which it is true never answer.
    adopting
        Whether final releases are delivered: fitting every arm takes seconds that most tests need not spend.
    sent, received
        Everything that went over, in order.
    """

    nodes: dict[int, dict[str, str]]
    silent: Callable[[int, Message], bool] = lambda node, message: False
    adopting: bool = False
    sent: list[Message] = field(default_factory=list)
    received: list[Message] = field(default_factory=list)
    _waiting: dict[str, Message] = field(default_factory=dict)

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(self, *_: object, **__: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self.sent.append(message)
            pushed.append(message.metadata.message_id)
            withheld = message.metadata.message_type == "train.adopt" and not self.adopting
            if not self.silent(node, message) and not withheld:
                context = Context(1, node, dict(self.nodes[node]), RecordDict(), {})
                self._waiting[message.metadata.message_id] = app(pickle.loads(pickle.dumps(message)), context)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = [self._waiting.pop(asked) for asked in message_ids if asked in self._waiting]
        self.received.extend(found)
        return found

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _task_identity() -> None:
    """Flower numbers messages by the task that sends them."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1


def _federation(folders: Iterable[Path], **changes: object) -> FederationConfig:
    """A federation of popularity over shops, with short deadlines."""
    described: dict[str, object] = {
        "name": "shops",
        "partners": {folder.name: folder for folder in folders},
        "learners": [{"name": "federated_popularity", "settings": {"rounds": 2, "memory": 0.5}}],
        "encoder": "none",
        "deadlines": {"join": 0.5, "catalogue": 5, "contribute": 1, "adopt": 0.2},
    }
    return FederationConfig.model_validate({**described, **changes})


def _grid_of(config: FederationConfig, **changes: object) -> InProcessGrid:
    """A grid whose nodes were started for the partners of a federation."""
    told = [
        {"partner": name, "folder": str(folder), "policy": config.policy_sha256()}
        for name, folder in config.partners.items()
    ]
    return InProcessGrid({100 + number: node for number, node in enumerate(told)}, **changes)  # type: ignore[arg-type]


@dataclass
class Ran:
    """A coordinator's run: what it did, said and left."""

    grid: InProcessGrid
    events: list[dict[str, object]]
    out: Path


def _coordinate(config: FederationConfig, grid: InProcessGrid, out: Path) -> Ran:
    """Run a coordinator to its end, or let its error through; what it said is in ``out/events.jsonl``."""
    say = out / "events.jsonl"
    Coordinator(grid, config, out, None, ProgressLog(say)).run()
    return Ran(grid, [dict(event) for event in ProgressReader(say).new()], out)


@pytest.fixture
def federation() -> Callable[..., FederationConfig]:
    return _federation


@pytest.fixture
def grid_of() -> Callable[..., InProcessGrid]:
    return _grid_of


@pytest.fixture
def coordinate() -> Callable[..., Ran]:
    return _coordinate
