"""A hosted federation over TLS whose network, clocks and server fail: four members, one of them behind a cable.

Sums are secure, so that every fault also falls between the steps of a secure sum. The server's address lies on a
bridge; beta's node lives in a network namespace whose cable into that bridge can be pulled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from koinon.protos.running import free_port
from koinon.server.progress import ProgressReader
from tests.end_to_end.conftest import TOKEN, _carriers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ("alpha", "beta", "delta", "gamma")
LATE = 30
TERMS = f"""
name = "shops"
encoder = "none"
aggregation = "secure"
minimum_participants = 3
[deadlines]
join = 120
catalogue = {LATE}
contribute = {LATE}
[[learners]]
name = "federated_popularity"
settings = {{ rounds = 2000, memory = 0.5 }}
"""

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long skew(void) { const char *said = getenv("TEST_CLOCK_SKEW"); return said ? atol(said) : 0; }

int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(which, now);
    if (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE) now->tv_sec += skew();
    return status;
}

time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept) *kept = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
"""
"""A clock that is off, for one process and all that it starts."""


def koinon(*said: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "koinon.cli", *map(str, said)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ip(*said: str) -> None:
    subprocess.run(["ip", *said], check=True, capture_output=True)


def eventually(true: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.3)


class Cable:
    """A bridge that carries the server's address, and a namespace on the other end of a cable into it."""

    def __init__(self) -> None:
        name = uuid4().hex[:6]
        self.bridge, self.near, self.far, self.space = f"kb{name}", f"kn{name}", f"kf{name}", f"kns{name}"
        third = int(name[:2], 16)
        self.address = f"10.213.{third}.1"
        self.laid: list[tuple[str, ...]] = []
        try:
            self._lay(f"10.213.{third}.2/24")
        except (OSError, subprocess.CalledProcessError) as error:
            self.take_up()
            pytest.skip(f"no network namespace can be made here: {error}")

    def _lay(self, far: str) -> None:
        ip("netns", "add", self.space)
        self.laid.append(("netns", "del", self.space))
        ip("link", "add", self.bridge, "type", "bridge")
        self.laid.append(("link", "del", self.bridge))
        ip("link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.space)
        ip("addr", "add", f"{self.address}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        ip("link", "set", self.near, "master", self.bridge, "up")
        ip("-n", self.space, "link", "set", "lo", "up")
        ip("-n", self.space, "addr", "add", far, "dev", self.far)
        ip("-n", self.space, "link", "set", self.far, "up")

    def pull(self) -> None:
        """Packets vanish from now on; nobody is told."""
        ip("link", "set", self.near, "nomaster")

    def plug(self) -> None:
        """Put the cable back."""
        ip("link", "set", self.near, "master", self.bridge)

    def take_up(self) -> None:
        """Remove all of it."""
        for said in reversed(self.laid):
            subprocess.run(["ip", *said], check=False, capture_output=True)


class Hosted:
    """A hosted federation and its members' nodes."""

    def __init__(self, root: Path, shops: Mapping[str, Path], cable: Cable) -> None:
        self.root, self.shops, self.cable = root, shops, cable
        self.fed = root / "fed"
        self.token = uuid4().hex
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: list[dict[str, Any]] = []

    def found(self) -> None:
        """Create it, let all join, and begin to train."""
        (self.root / "terms.toml").write_text(TERMS)
        address = f"{self.cable.address}:{free_port()}"
        said = ["--name", "shops", "--address", address, "--policy", self.root / "terms.toml"]
        koinon("federation", "create", self.fed, *said)
        self.start("host", "federation", "host", self.fed)
        eventually((self.fed / "control.json").exists)
        for name, folder in self.shops.items():
            invitation = self.root / f"{name}.invitation"
            invitation.write_text(koinon("federation", "invite", self.fed, name))
            koinon("partner", "join", invitation, folder, "--yes", "--wait", 0, "--no-start")
            koinon("federation", "approve", self.fed, name)
        for name in self.shops:
            self.start_node(name)
        self.train()

    def start(self, name: str, *said: object, before: tuple[str, ...] = (), **more: str) -> None:
        """Begin a command that goes on."""
        command = [*before, sys.executable, "-m", "koinon.cli", *map(str, said)]
        with (self.root / f"{name}.log").open("ab") as output:
            environment = {**os.environ, TOKEN: self.token, **more}
            self.running[name] = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def start_node(self, name: str, **more: str) -> None:
        """Start a member's node; beta's on its own end of the cable."""
        before = ("ip", "netns", "exec", self.cable.space) if name == "beta" else ()
        self.start(name, "partner", "node", self.shops[name], before=before, **more)

    def train(self) -> None:
        """Begin to train, or go on."""
        self.start("run", "federation", "run", self.fed, "--json")
        self.reader = ProgressReader(self.fed / "training" / "progress.jsonl")
        list(self.reader.new())

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End a command."""
        self.running[name].send_signal(how)
        return self.running[name].wait(60)

    def said(self, name: str) -> str:
        """What a command has printed."""
        return (self.root / f"{name}.log").read_text()

    def until(self, true: Callable[[dict[str, Any]], object], seconds: float = 400) -> dict[str, Any]:
        """Wait for the next event of which something is true."""
        deadline = time.monotonic() + seconds
        while True:
            for event in self.reader.new():
                self.seen.append(dict(event))
                if true(event):
                    return dict(event)
            assert time.monotonic() < deadline, self.seen[-6:]
            assert self.running["run"].poll() is None, self.said("run")[-2000:]
            time.sleep(0.05)

    def round(self, true: Callable[[dict[str, Any]], object] = lambda _: True) -> dict[str, Any]:
        """Wait for the end of the next round of which something is true."""
        return self.until(lambda event: event["event"] == "round" and true(event))

    def whole(self) -> dict[str, Any]:
        """Wait for a round that begins from now on and has everybody in it."""
        list(self.reader.new())
        began = time.time()
        return self.round(lambda e: not e["left_out"] and e["time"] - e["seconds"] > began - 1)

    def rounds(self) -> list[dict[str, Any]]:
        """Rounds on record, in order."""
        shown = koinon("ledger", "show", self.fed, "--json").splitlines()
        return [entry["body"] for entry in map(json.loads, shown) if entry["kind"] == "round_finished"]

    def close(self) -> None:
        """End what is left."""
        for process in self.running.values():
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        for process in _carriers(self.token):
            with suppress(psutil.Error):
                process.kill()


@pytest.fixture(scope="module")
def hosted(make_shop: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """Four members that train until they are told to end."""
    shops = {name: make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(NAMES)}
    cable = Cable()
    hosted = Hosted(tmp_path_factory.mktemp("hosted"), shops, cable)
    try:
        hosted.found()
        yield hosted
    finally:
        hosted.close()
        cable.take_up()


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that puts a process's clock off."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / "clock.so"), str(folder / "clock.c"), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler for the clock: {error}")
    return folder / "clock.so"


def test_a_cut_network_costs_its_partner_the_round_and_healed_it_is_back(hosted: Hosted) -> None:
    hosted.whole()
    node = hosted.running["beta"].pid
    hosted.cable.pull()
    hurt = hosted.round(lambda e: e["left_out"])
    assert set(hurt["left_out"]) == {"beta"}
    assert hurt["left_out"]["beta"] in {"K701", "K702"}
    assert hurt["participants"] == ["alpha", "delta", "gamma"]
    hosted.round(lambda e: e["left_out"])
    hosted.cable.plug()
    hosted.whole()
    assert psutil.pid_exists(node)
    assert hosted.running["beta"].poll() is None


@pytest.mark.parametrize("seconds", [3600, -3600, 20])
def test_a_node_whose_clock_is_off_is_told_so_and_comes_back_when_it_is_right(
    hosted: Hosted, clock: Path, seconds: int
) -> None:
    hosted.whole()
    hosted.end("gamma")
    (hosted.root / "gamma.log").unlink()
    hosted.start_node("gamma", LD_PRELOAD=str(clock), TEST_CLOCK_SKEW=str(seconds))
    hurt = hosted.round(lambda e: e["left_out"])
    assert set(hurt["left_out"]) == {"gamma"}
    assert hosted.running["gamma"].wait(120) != 0
    assert "K829" in hosted.said("gamma"), hosted.said("gamma")
    hosted.start_node("gamma")
    hosted.whole()


def test_a_killed_host_is_told_of_and_its_nodes_find_the_next_one_by_themselves(hosted: Hosted) -> None:
    hosted.whole()
    nodes = {name: hosted.running[name].pid for name in NAMES}
    hosted.running["host"].kill()
    hosted.running["host"].wait()
    for process in _carriers(hosted.token):
        with suppress(psutil.Error):
            if "koinon.server.superlink" in " ".join(process.cmdline()):
                process.kill()
    assert hosted.running["run"].wait(120) == 8
    assert "K707" in hosted.said("run")
    done = hosted.rounds()[-1]["round"]
    refused = subprocess.run(
        [sys.executable, "-m", "koinon.cli", "federation", "run", str(hosted.fed)], capture_output=True, text=True
    )
    assert (refused.returncode, "K765" in refused.stderr) == (8, True), refused.stdout + refused.stderr
    (hosted.fed / "control.json").unlink()
    hosted.start("host", "federation", "host", hosted.fed)
    eventually((hosted.fed / "control.json").exists)
    hosted.train()
    hosted.until(lambda e: e["event"] == "resumed")
    assert hosted.round()["round"] == done + 1
    hosted.whole()
    assert all(hosted.running[name].poll() is None and hosted.running[name].pid == nodes[name] for name in NAMES)


def test_every_round_is_on_record_once_and_nothing_is_left(hosted: Hosted) -> None:
    hosted.end("run", signal.SIGINT)
    for name in NAMES:
        assert hosted.end(name) == 0
    assert hosted.end("host") == 0
    assert _carriers(hosted.token) == []
    rounds = [body["round"] for body in hosted.rounds()]
    assert rounds == list(range(1, len(rounds) + 1))
    assert "whole" in koinon("ledger", "verify", hosted.fed)
