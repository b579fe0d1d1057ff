"""A real host, with a real SuperLink, that starts what is due in a process of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from koinon.privacy.ledger.kinds import Kind
from koinon.server import hosting
from koinon.server.membership import open_registry
from koinon.server.membership.records import Applicant
from koinon.server.operation.runner import ProcessRun
from koinon.server.operation.schedule import Progress, Schedule
from koinon.server.processes import Processes
from tests.server.membership.conftest import _home
from tests.server.membership.test_hosting import Hosted, _pem


def _eventually(true: Callable[[], Any], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.2)


def test_a_run_in_a_process_of_its_own_tells_how_it_ended(tmp_path: Path) -> None:
    home = _home(tmp_path / "home")
    processes = Processes("a-mark-of-this-test", home.logs, {})
    run = ProcessRun(processes, home.folder)
    run.start()
    try:
        assert run.outcome() is None
        processes.running["scheduled-run"].wait(120)
        assert run.outcome() == "K704", "nobody is a member"
        run.start()
        processes.running["scheduled-run"].kill()
        processes.running["scheduled-run"].wait(30)
        assert run.outcome() == "K707", "it was killed"
    finally:
        processes.end()
    assert "K704" in (home.logs / "scheduled-run.log").read_text()


def test_a_host_starts_what_is_due_and_records_that_it_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = _home(tmp_path / "home")
    stopped, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=hosting.host, args=(home,), kwargs={"stopped": stopped, "ready": ready.set})
    key = ec.generate_private_key(ec.SECP384R1())
    with open_registry(home) as registry:
        secret, _ = registry.invite("alpha", days=1)
        registry.apply(secret, Applicant("alpha", _pem(key), b"m" * 32, "0" * 64, "0" * 64, "0.1.0", 1))
        registry.approve("alpha")
        # due a minute ago; the one member is enough to start, but not for the policy
        Schedule(every="5m", since=datetime.now(UTC) - timedelta(minutes=6), at_least=1).save(home.folder)
        thread.start()
        try:
            assert ready.wait(120)
            time.sleep(3)
            assert Progress.of(home.folder) == Progress(), "it waits for a member to connect"
            home.out.mkdir(exist_ok=True)
            assert Hosted(home, registry).activate(key).status == 200
            with (home.out / "progress.jsonl").open("a") as told:
                event = {"event": "alarm", "time": 0, "partner": "alpha", "learner": None, "code": "K714"}
                told.write(json.dumps(event) + "\n")
            _eventually(lambda: Progress.of(home.folder).failures == 1, 150)
        finally:
            stopped.set()
            thread.join(90)
        (entry,) = registry.book.entries(kind=Kind.REFUSAL)
    assert (entry.subject, entry.body["action"], entry.body["code"]) == ("shops", "scheduled_run", "K704")
    said = "\n".join(caplog.messages)
    assert "waits for members: 0 are connected, 1 are needed" in said
    assert "scheduled run failed (K704), attempt 1" in said
    assert "alarm K714: alpha" in said
    assert not [p for p in psutil.process_iter() if str(home.folder) in " ".join(_line(p))]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
