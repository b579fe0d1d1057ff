"""One simulated federation over real Flower processes, with everything that reaches the server written down."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from flwr.app import Message

from koinon.server import FederationConfig, FederationResult, run_federation, sessions
from koinon.server.progress import ProgressReader

TOKEN = "KOINON_TEST_TOKEN"
"""Put into the environment of what a test starts, so that the test can tell what has been left running."""

RECORDER = '''
"""The server app of koinon, with every message that it gets from a partner also written down."""
import os
import pickle
from pathlib import Path
from uuid import uuid4

from flwr.serverapp import Grid, ServerApp
from koinon.server.app import main as coordinate

app = ServerApp()


class Recording(Grid):
    def __init__(self, grid):
        self.grid = grid

    def pull_messages(self, message_ids):
        messages = list(self.grid.pull_messages(message_ids))
        for message in messages:
            (Path(os.environ["KOINON_TEST_RECORD"]) / uuid4().hex).write_bytes(pickle.dumps(message))
        return messages

    run = property(lambda self: self.grid.run)
    set_run = lambda self, run: self.grid.set_run(run)
    create_message = lambda self, *a, **k: self.grid.create_message(*a, **k)
    get_node_ids = lambda self: self.grid.get_node_ids()
    push_messages = lambda self, messages: self.grid.push_messages(messages)
    send_and_receive = lambda self, *a, **k: self.grid.send_and_receive(*a, **k)


@app.main()
def main(grid, context):
    coordinate(Recording(grid), context)
'''

FAULTY = '''
"""The client app of koinon with a learner that fails, in words that must not leave, at one partner."""
from flwr.clientapp import ClientApp
from koinon.clients import app as real
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.popularity import FederatedPopularity, PopularityPlan

app = ClientApp()


class Faulty(FederatedPopularity):
    def contribute(self, domain, release, task):
        if domain.name == "beta":
            raise ValueError(f"the events of {domain.user_ids[0]} are odd")
        return super().contribute(domain, release, task)


registry.LEARNERS["federated_popularity"] = registry.Entry(__name__, "PopularityPlan", "Faulty")


@app.query("catalogue")
def catalogue(message, context):
    return real.catalogue(message, context)


@app.train("contribute")
def contribute(message, context):
    return real.contribute(message, context)


@app.train("adopt")
def adopt(message, context):
    return real.adopt(message, context)
'''


@dataclass(frozen=True)
class Simulated:
    """What a simulated federation with one faulty partner has done, and all that reached its server."""

    config: FederationConfig
    result: FederationResult
    events: list[dict[str, Any]]
    messages: list[Message]
    record: Path
    token: str


def _federation(folders: list[Path], **changes: object) -> FederationConfig:
    settings = {"rounds": 3, "memory": 0.5}
    described: dict[str, object] = {
        "name": "shops",
        "partners": {folder.name: folder for folder in folders},
        "learners": [{"name": "federated_popularity", "settings": settings}],
        "encoder": "none",
    }
    return FederationConfig.model_validate({**described, **changes})


@pytest.fixture(scope="session")
def federation() -> Callable[..., FederationConfig]:
    """A federation of popularity over shops."""
    return _federation


@pytest.fixture(scope="session")
def simulated(make_shop: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A real simulation of three shops, of which beta's learner fails and names a reader."""
    root = tmp_path_factory.mktemp("simulated")
    modules, record = root / "modules", root / "record"
    modules.mkdir()
    record.mkdir()
    (modules / "koinon_test_recorder.py").write_text(RECORDER)
    (modules / "koinon_test_faulty.py").write_text(FAULTY)
    shops = [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]
    config = _federation(shops)
    events: list[dict[str, Any]] = []
    token = uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        described = sessions.THIN_APP.replace("koinon.server.app:", "koinon_test_recorder:")
        patch.setattr(sessions, "THIN_APP", described.replace("koinon.clients.app:", "koinon_test_faulty:"))
        path = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("PYTHONPATH", path)
        patch.setenv("KOINON_TEST_RECORD", str(record))
        patch.setenv(TOKEN, token)
        out = root / "out"
        database = root / "flower.db"
        result = run_federation(config, out, "simulation", lambda e: events.append(dict(e)), record=database)
    messages = [pickle.loads(path.read_bytes()) for path in sorted(record.iterdir())]
    return Simulated(config, result, events, messages, database, token)


def _carriers(token: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.environ().get(TOKEN) == token:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="session")
def carriers() -> Callable[[str], list[psutil.Process]]:
    """Living processes that carry a test's token."""
    return _carriers


@dataclass
class Command:
    """A running ``koinon federation run``."""

    process: subprocess.Popen[str]
    out: Path
    token: str
    reader: ProgressReader = field(init=False)
    seen: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = ProgressReader(self.out / "progress.jsonl")
        list(self.reader.new())

    def wait_for(self, event: str, count: int = 1, *, seconds: float = 180) -> None:
        """Wait until the run has said something so many times."""
        deadline = time.monotonic() + seconds
        while sum(e["event"] == event for e in self.seen) < count:
            self.seen += [dict(e) for e in self.reader.new()]
            assert time.monotonic() < deadline, f"no {event} in {seconds} s: {self.seen}"
            assert self.process.poll() is None or any(e["event"] == event for e in self.seen), self.ended()
            time.sleep(0.05)

    def ended(self) -> tuple[int, str]:
        """Wait for the end; exit status and what was said on standard error."""
        _, error = self.process.communicate(timeout=240)
        return self.process.returncode, error


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start ``koinon federation run`` on a federation of shops."""
    started: list[Command] = []

    def start(config: FederationConfig, *options: str, out: Path | None = None) -> Command:
        partners = "".join(f'"{name}" = "{folder}"\n' for name, folder in config.partners.items())
        (learner,) = config.learners
        settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in learner.settings.items())
        deadline = config.deadlines.contribute
        file = tmp_path / "shops.toml"
        file.write_text(
            f'name = "shops"\nencoder = "none"\naggregation = "{config.aggregation}"\n'
            f"minimum_participants = {config.minimum_participants}\n"
            f"[partners]\n{partners}[deadlines]\ncontribute = {deadline}\n"
            f'[[learners]]\nname = "{learner.name}"\nsettings = {{ {settings} }}\n'
        )
        target = out or tmp_path / "out"
        target.mkdir(exist_ok=True)
        token = uuid4().hex
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "koinon.cli",
                "federation",
                "run",
                "-f",
                str(file),
                "-o",
                str(target),
                "--json",
                *options,
            ],
            env={**os.environ, TOKEN: token},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Command(process, target, token))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()
        for process in _carriers(each.token):
            process.kill()
