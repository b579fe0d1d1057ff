"""Three companies over TLS: a run that is due trains by itself, a withdrawn release is let go of, health tells."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from koinon.protos.running import free_port
from koinon.server.operation.schedule import Progress, Schedule
from tests.end_to_end.conftest import TOKEN, _carriers
from tests.end_to_end.test_joined_federation import TERMS, eventually, koinon, running


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_due_trains_by_itself(tmp_path: Path, make_shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = uuid4().hex
    monkeypatch.setenv(TOKEN, token)
    fed = tmp_path / "fed"
    shops = {
        name: make_shop(name, seed=seed, users=users, works=120)
        for name, seed, users in (("alpha", 0, 600), ("beta", 1, 600), ("gamma", 4, 40))
    }
    (tmp_path / "terms.toml").write_text(TERMS.format(more=""))
    address = f"127.0.0.1:{free_port()}"
    koinon("federation", "create", fed, "--name", "shops", "--address", address, "--policy", tmp_path / "terms.toml")

    def due(slots: int) -> None:
        """Set a schedule whose so-manieth run is due now."""
        Schedule(every="1d", since=datetime.now(UTC) - timedelta(days=slots, seconds=1), at_least=3).save(fed)

    def health() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = json.loads(koinon("federation", "health", fed, "--json") or "[]")
        return told

    with ExitStack() as started:
        host = started.enter_context(running(tmp_path / "host.log", "federation", "host", fed))
        eventually((fed / "control.json").exists)
        for name, folder in shops.items():
            invitation = tmp_path / f"{name}.invitation"
            invitation.write_text(koinon("federation", "invite", fed, name))
            koinon("partner", "join", invitation, folder, "--yes", "--wait", 0, "--no-start")
            koinon("federation", "approve", fed, name)
        due(1)
        for name, folder in shops.items():
            started.enter_context(running(tmp_path / f"{name}.log", "partner", "node", folder))
        eventually(lambda: Progress.of(fed).slot is not None, 400)
        assert Progress.of(fed).failures == 0
        (first,) = health()
        assert first["releases"] == {"federated_popularity": 1}
        assert sorted(first["figures"]) == ["alpha", "beta", "gamma"]
        koinon("federation", "rollback", fed, "federated_popularity", "--reason", "harm")

        before = Progress.of(fed).slot
        due(2)
        eventually(lambda: Progress.of(fed).slot != before, 400)
        assert [seen["releases"] for seen in health()] == [{"federated_popularity": 1}, {"federated_popularity": 2}]
        assert [seen["withdrawn"] for seen in health()] == [["federated_popularity"], []]
        assert host.poll() is None
    assert host.returncode == 0
    assert not _carriers(token)
    said = (tmp_path / "host.log").read_text()
    assert said.count("scheduled run ended well") == 2
    for folder in shops.values():
        deployed = json.loads((folder / "models" / "deployed.json").read_text())
        assert deployed["folder"] in ("local", "federated_popularity"), "nobody keeps what was withdrawn"
        assert not (folder / "models" / "good").exists()
    assert "whole" in koinon("ledger", "verify", fed)
