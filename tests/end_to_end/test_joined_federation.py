"""Three companies join a federation over TLS, train, and one is kept out: by the commands of docs/join.md alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from koinon.protos.running import free_port
from tests.end_to_end.conftest import TOKEN, _carriers

TERMS = """
name = "shops"
encoder = "none"
aggregation = "secure"
minimum_participants = 3
{more}
[deadlines]
join = 60
catalogue = 60

[[learners]]
name = "federated_popularity"
settings = {{ rounds = 2, memory = 0.5 }}
"""


def koinon(*said: object, code: int = 0) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "koinon.cli", *map(str, said)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


@contextmanager
def running(log: Path, *said: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside the test, and end it as a service manager does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "koinon.cli", *map(str, said)], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


def eventually(true: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_companies_join_train_and_one_is_kept_out(
    tmp_path: Path, make_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = uuid4().hex
    monkeypatch.setenv(TOKEN, token)
    fed = tmp_path / "fed"
    shops = {name: make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))}
    (tmp_path / "terms.toml").write_text(TERMS.format(more=""))
    address = f"127.0.0.1:{free_port()}"
    koinon("federation", "create", fed, "--name", "shops", "--address", address, "--policy", tmp_path / "terms.toml")

    def members() -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in json.loads(koinon("federation", "members", fed, "--json"))}

    def train(code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in koinon("federation", "run", fed, "--json", code=code).splitlines()]

    with ExitStack() as started:
        host = started.enter_context(running(tmp_path / "host.log", "federation", "host", fed))
        eventually((fed / "control.json").exists)
        for name, folder in shops.items():
            invitation = tmp_path / f"{name}.invitation"
            invitation.write_text(koinon("federation", "invite", fed, name))
            koinon("partner", "join", invitation, folder, "--yes", "--wait", 0, "--no-start")
            assert members()[name]["state"] == "applied"
            koinon("federation", "approve", fed, name)
        nodes = {
            name: started.enter_context(running(tmp_path / f"{name}.log", "partner", "node", folder))
            for name, folder in shops.items()
        }
        eventually(lambda: all(member["connected"] for member in members().values()))

        result = train()[-1]
        assert sorted(result["adopted"]) == ["alpha", "beta", "gamma"]
        assert list(result["releases"]) == ["federated_popularity"]

        koinon("federation", "suspend", fed, "gamma", "--reason", "anomaly")
        eventually(lambda: "gamma" not in json.loads((fed / "nodes.json").read_text()))
        assert "K704" in koinon("federation", "run", fed, code=8)
        assert nodes["gamma"].wait(120) == 8, "a node that is shut out ends"
        assert "K738" in (tmp_path / "gamma.log").read_text()
        koinon("federation", "resume", fed, "gamma")
        eventually(lambda: "gamma" in json.loads((fed / "nodes.json").read_text()))
        started.enter_context(running(tmp_path / "gamma-again.log", "partner", "node", shops["gamma"]))
        eventually(lambda: "SuperNode ID" in (tmp_path / "gamma-again.log").read_text())
        assert members()["gamma"]["connected"]

        # other terms: whoever has not accepted them works for nobody
        (tmp_path / "terms.toml").write_text(TERMS.format(more="seed = 8"))
        koinon("federation", "policy", fed, "--set", tmp_path / "terms.toml")
        assert not any(member["accepts_policy"] for member in members().values())
        refused = koinon("federation", "run", fed, code=8)
        assert "K704" in refused
        said = [json.loads(line) for line in (fed / "training" / "progress.jsonl").read_text().splitlines()]
        assert [event["code"] for event in said if event["event"] == "left_out"][-3:] == ["K611"] * 3
        assert host.poll() is None

    assert host.returncode == 0
    assert not _carriers(token)
    assert "whole" in koinon("ledger", "verify", fed)
    kinds = [json.loads(line)["kind"] for line in koinon("ledger", "show", fed, "--json").splitlines()]
    assert {"applied", "approved", "suspended", "policy_changed", "release_published"} <= set(kinds)
    assert os.listdir(fed / "authority")
