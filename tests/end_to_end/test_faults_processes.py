"""One federation of real processes that goes on from round to round, and one fault after another done to it.

Everything runs twice: with plain sums and with secure ones. Every test finds the federation well, does one thing to
it, and waits until a round is whole again; the last one ends it and reads its ledger.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from koinon.data import Tables, Vault
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.server import FederationConfig
from koinon.server.progress import ProgressReader
from koinon.server.record import KEY_FILE, LEDGER_FILE
from koinon.server.state.ledger_book import LedgerBook
from koinon.server.state.store import open_store
from tests.end_to_end.conftest import TOKEN, _carriers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("alpha", "beta", "delta", "gamma")
LATE = 45
"""Seconds after which a partner is given up."""
GONE = {"K701", "K702"}


class Course:
    """A federation under way, and hands on its processes."""

    def __init__(self, config: FederationConfig, out: Path) -> None:
        self.config, self.out = config, out
        self.token = uuid4().hex
        self.file = out.parent / "federation.toml"
        self.file.write_text(config.to_toml())
        self.reader = ProgressReader(out / "progress.jsonl")
        self.seen: list[dict[str, Any]] = []
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.start()

    def start(self) -> None:
        """Give the command, once more."""
        command = [sys.executable, "-m", "koinon.cli", "federation", "run", "--processes", "--json"]
        self.process = subprocess.Popen(
            [*command, "-f", str(self.file), "-o", str(self.out)],
            env={**os.environ, TOKEN: self.token},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_node(self, partner: str, command: list[str], environment: dict[str, str]) -> None:
        """Start a node that has ended, as a service manager would."""
        with (self.folder(partner) / "federation" / "node.log").open("ab") as log:
            node = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.nodes.append(node)

    def ended(self) -> tuple[int, str]:
        """Wait for the command's end; its status, and what it said on standard error."""
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said

    def until(self, true: Callable[[dict[str, Any]], object], seconds: float = 400) -> dict[str, Any]:
        """Wait for the next event of which something is true."""
        deadline = time.monotonic() + seconds
        while True:
            for event in self.reader.new():
                self.seen.append(dict(event))
                if true(event):
                    return dict(event)
            assert time.monotonic() < deadline, self.seen[-6:]
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def round(self, true: Callable[[dict[str, Any]], object] = lambda _: True) -> dict[str, Any]:
        """Wait for the end of the next round of which something is true."""
        return self.until(lambda event: event["event"] == "round" and true(event))

    def whole(self) -> dict[str, Any]:
        """Wait for a round that begins from now on and has everybody in it."""
        list(self.reader.new())
        began = time.time()
        return self.round(lambda e: not e["left_out"] and e["time"] - e["seconds"] > began - 1)

    def found(self, *words: str) -> list[psutil.Process]:
        """Processes of this federation whose command holds all these words."""
        alive = []
        for process in _carriers(self.token):
            with suppress(psutil.Error):
                if all(word in " ".join(process.cmdline()) for word in words):
                    alive.append(process)
        return alive

    def node(self, partner: str) -> psutil.Process:
        """A partner's SuperNode."""
        (node,) = self.found("flower-supernode", f"{partner}.toml")
        return node

    def worker(self, partner: str) -> psutil.Process:
        """A partner's worker."""
        (worker,) = self.found("koinon.clients.worker", str(self.folder(partner)))
        return worker

    def folder(self, partner: str) -> Path:
        """A partner's folder."""
        return self.config.partners[partner]

    def errors(self, partner: str) -> str:
        """What a partner has written down for itself."""
        path = self.folder(partner) / "federation" / "errors.log"
        return path.read_text() if path.exists() else ""

    @contextmanager
    def at_work(self, partner: str) -> Iterator[psutil.Process]:
        """A partner's worker is held up in the middle of a round; gives the ClientApp that waits for it."""
        worker = self.worker(partner)
        worker.suspend()
        try:
            yield self._waiting(partner)
        finally:
            with suppress(psutil.Error):
                worker.resume()

    def _waiting(self, partner: str) -> psutil.Process:
        """The ClientApp that has a place and waits for its worker."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for process in self.node(partner).children(recursive=True):
                with suppress(psutil.Error):
                    if any("/places/" in file.path for file in process.open_files()):
                        return process
            time.sleep(0.1)
        raise AssertionError(f"{partner} was never asked")

    def ledger(self) -> list[dict[str, Any]]:
        """Rounds on record, in order."""
        book = LedgerBook(open_store(self.out / LEDGER_FILE), Signer.open(self.out / KEY_FILE))
        return [dict(entry.body) for entry in book.entries(kind=Kind.ROUND_FINISHED)]


@pytest.fixture(scope="module", params=["plain", "secure"])
def course(
    request: pytest.FixtureRequest, make_shop: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Course]:
    """Four shops that federate until they are told to end."""
    shops = {name: make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(NAMES)}
    config = FederationConfig.model_validate(
        {
            "name": "shops",
            "partners": shops,
            "learners": [{"name": "federated_popularity", "settings": {"rounds": 2000, "memory": 0.5}}],
            "encoder": "none",
            "aggregation": request.param,
            "minimum_participants": 3,
            "deadlines": {"contribute": LATE, "catalogue": LATE},
        }
    )
    disk = shops["gamma"] / "federation"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    course = Course(config, tmp_path_factory.mktemp("course") / "out")
    try:
        yield course
    finally:
        course.process.kill()
        course.process.communicate()
        for process in _carriers(course.token):
            with suppress(psutil.Error):
                process.kill()
        for node in course.nodes:
            node.wait()
        if not mounted.returncode:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_worker_killed_at_work_is_named_and_another_takes_its_place(course: Course) -> None:
    course.whole()
    with course.at_work("alpha"):
        course.worker("alpha").kill()
        hurt = course.round(lambda e: e["left_out"])
    assert hurt["left_out"] == {"alpha": "K724"}
    assert "[K724]" in course.errors("alpha")
    assert course.ledger()[-1]["left_out"] == {"K724": 1}
    course.whole()


def test_a_client_app_killed_at_work_costs_its_partner_the_round(course: Course) -> None:
    course.whole()
    with course.at_work("beta") as app:
        app.kill()
        hurt = course.round(lambda e: e["left_out"])
    assert set(hurt["left_out"]) == {"beta"}
    assert hurt["left_out"]["beta"] in {*GONE, "K799"}
    course.whole()


def test_a_supernode_killed_at_work_comes_back_to_the_same_server(course: Course) -> None:
    course.whole()
    node = course.node("alpha")
    again = node.cmdline(), node.environ()
    with course.at_work("alpha"):
        for process in [*node.children(recursive=True), node]:
            process.kill()
        hurt = course.round(lambda e: e["left_out"])
    assert set(hurt["left_out"]) == {"alpha"}
    assert hurt["left_out"]["alpha"] in GONE
    course.start_node("alpha", *again)
    course.until(lambda e: e["event"] == "joined" and e["partner"] == "alpha")
    course.whole()


def test_a_partner_that_comes_back_without_its_state_takes_part_again(course: Course) -> None:
    course.whole()
    with course.at_work("beta"):
        for kept in ("runs", "told.json", "work.jsonl"):
            path = course.folder("beta") / "federation" / kept
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        course.worker("beta").kill()
    course.round()
    course.whole()


def test_a_slow_partner_is_not_waited_for_and_joins_a_later_round(course: Course) -> None:
    course.whole()
    with course.at_work("delta"):
        hurt = course.round(lambda e: e["left_out"])
        assert hurt["left_out"] == {"delta": "K701"}
        assert hurt["seconds"] < 4 * LATE
    course.whole()


def test_a_vault_that_changed_during_training_costs_the_round_and_is_asked_for_anew(course: Course) -> None:
    course.whole()
    vault = Vault.open(course.folder("delta"))
    before = vault.tables()
    fewer = Tables(before.items, before.events.head(before.events.height - 8), before.users)
    Vault.create(course.folder("delta"), vault.config, fewer)
    hurt = course.round(lambda e: e["left_out"])
    assert hurt["left_out"] == {"delta": "K726"}
    assert "[K726]" in course.errors("delta")
    course.until(lambda e: e["event"] == "joined" and e["partner"] == "delta")
    course.whole()


def test_a_full_disk_at_a_partner_costs_it_rounds_and_nobody_else(course: Course) -> None:
    disk = course.folder("gamma") / "federation"
    if not os.path.ismount(disk):
        pytest.skip("no small disk can be mounted here")
    course.whole()
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for size in (65536, 4096, 256, 1):
            with suppress(OSError):
                while True:
                    file.write(b"0" * size)
    hurt = course.round(lambda e: e["left_out"])
    assert set(hurt["left_out"]) == {"gamma"}
    assert hurt["participants"] == ["alpha", "beta", "delta"]
    filler.unlink()
    course.whole()


@pytest.mark.parametrize("victim", ["flwr-serverapp", "flower-superlink"])
def test_a_killed_server_is_told_of_and_goes_on_from_its_last_round(course: Course, victim: str) -> None:
    course.whole()
    for process in course.found(victim):
        process.kill()
    status, said = course.ended()
    assert (status, "K707" in said) == (8, True), said
    assert _carriers(course.token) == []
    done = course.ledger()[-1]["round"]
    course.start()
    course.until(lambda e: e["event"] == "resumed")
    assert course.round()["round"] == done + 1
    course.whole()


def test_a_killed_command_is_cleaned_up_after_and_goes_on_from_its_last_round(course: Course) -> None:
    course.whole()
    course.process.kill()
    course.process.communicate()
    orphans = _carriers(course.token)
    assert orphans
    course.start()
    course.until(lambda e: e["event"] == "resumed")
    assert not [process for process in orphans if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    course.whole()


def test_every_round_is_on_record_once_and_nothing_is_left(course: Course) -> None:
    course.process.send_signal(signal.SIGINT)
    assert course.ended()[0] == 130
    assert _carriers(course.token) == []
    rounds = [body["round"] for body in course.ledger()]
    assert rounds == list(range(1, len(rounds) + 1))
    assert len({body["run"] for body in course.ledger()}) == 1
    verified = subprocess.run(
        [sys.executable, "-m", "koinon.cli", "ledger", "verify", str(course.out)], capture_output=True, text=True
    )
    assert (verified.returncode, "whole" in verified.stdout) == (0, True), verified.stdout + verified.stderr
