"""A created federation is trained and then audited as a whole, by commands alone and with every member's own node."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from koinon.protos.running import free_port
from tests.end_to_end.conftest import TOKEN, _carriers
from tests.end_to_end.test_joined_federation import TERMS, eventually, koinon, running


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_members_accept_an_audit_answer_it_and_go_back_to_training(
    tmp_path: Path, make_shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = uuid4().hex
    monkeypatch.setenv(TOKEN, token)
    monkeypatch.chdir(tmp_path)
    fed = tmp_path / "fed"
    shops = {
        name: make_shop(name, seed=seed, first=10 * seed, users=150)
        for seed, name in enumerate(("alpha", "beta", "gamma"))
    }
    (tmp_path / "terms.toml").write_text(TERMS.format(more="").replace("= 60", "= 240"))
    address = f"127.0.0.1:{free_port()}"
    koinon("federation", "create", fed, "--name", "shops", "--address", address, "--policy", tmp_path / "terms.toml")

    def members() -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in json.loads(koinon("federation", "members", fed, "--json"))}

    def started(stack: ExitStack, again: str) -> None:
        for name, folder in shops.items():
            stack.enter_context(running(tmp_path / f"{name}{again}.log", "partner", "node", folder))
        eventually(lambda: all(member["connected"] for member in members().values()))

    with ExitStack() as hosted:
        hosted.enter_context(running(tmp_path / "host.log", "federation", "host", fed))
        eventually((fed / "control.json").exists)
        for name, folder in shops.items():
            invitation = tmp_path / f"{name}.invitation"
            invitation.write_text(koinon("federation", "invite", fed, name))
            koinon("partner", "join", invitation, folder, "--yes", "--wait", 0, "--no-start")
            koinon("federation", "approve", fed, name)
        with ExitStack() as nodes:
            started(nodes, "")
            koinon("federation", "run", fed)

        koinon("audit", "plan", "whole", "--federated", fed)
        plan = tmp_path / "whole" / "plan.toml"
        plan.write_text(plan.read_text().replace("draws = 2000", "draws = 200"))
        assert "K514" in koinon("audit", "run", "whole", code=6)
        koinon("audit", "propose", "whole")
        assert not any(member["accepts_policy"] for member in members().values())
        shown = koinon("partner", "accept", shops["alpha"], "--yes")
        assert "federated_audit" in shown
        assert "figures" in shown
        for name in ("beta", "gamma"):
            koinon("partner", "accept", shops[name], "--yes")
        assert all(member["accepts_policy"] for member in members().values())
        with ExitStack() as nodes:
            started(nodes, "-audited")
            results = json.loads(koinon("audit", "run", "whole", "--json"))
            assert {one["partner"]: one["code"] for one in results["federated"]["partners"]} == dict.fromkeys(shops)
            assert results["people"] > 100
            koinon("audit", "verify", "whole")

        koinon("audit", "withdraw", "whole")
        for folder in shops.values():
            koinon("partner", "accept", folder, "--yes")
        with ExitStack() as nodes:
            started(nodes, "-after")
            assert "federated_popularity" in koinon("federation", "run", fed, "--json")

    assert not _carriers(token)
    assert "whole" in koinon("ledger", "verify", fed)
    kinds = [json.loads(line)["kind"] for line in koinon("ledger", "show", fed, "--json").splitlines()]
    assert kinds.index("audit_plan") < kinds.index("policy_changed") < kinds.index("audit")
    assert "federated_audit" in (shops["beta"] / "federation" / "egress.jsonl").read_text()
