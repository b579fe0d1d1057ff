"""An audit of a created federation: offered, accepted, asked, entered, withdrawn; members answer in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from koinon.cli.main import run
from koinon.clients.terms import difference
from koinon.errors import EvaluationError
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.report import REPORT_FILE, RESULTS_FILE
from koinon.fairness.results import AuditResults
from koinon.privacy.ledger.kinds import Kind
from koinon.protos.installed import code_sha256
from koinon.server import FederationConfig
from koinon.server.auditing_members import members_of, propose_audit, usual_terms, withdraw_audit
from koinon.server.federation import Terms
from koinon.server.membership import FederationHome, HostConfig, open_registry
from koinon.server.membership.records import Applicant
from tests.server.test_audit_round import MANIFEST, NAMES, described, home, shops  # noqa: F401

Make = Callable[..., Any]
GROUPS = ("--group", "taste=steady,roaming", "--group", "age=young,old", "--basis", "the works council agreed")


def approve(fed: FederationHome, name: str) -> None:
    with open_registry(fed) as registry:
        secret, _ = registry.invite(name, days=1)
        node = ec.generate_private_key(ec.SECP384R1()).public_key()
        applicant = Applicant(
            partner=name,
            node_key=node.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
            member_key=Ed25519PrivateKey.generate().public_key().public_bytes_raw(),
            policy_sha256=fed.terms().policy_sha256(),
            code_sha256=code_sha256(),
            koinon_version="0.1.0",
            time_ms=1,
        )
        registry.apply(secret, applicant)
        registry.approve(name)


@pytest.fixture
def fed(home: Path, monkeypatch: pytest.MonkeyPatch) -> FederationHome:  # noqa: F811
    """A created federation with four approved members, whose folders lie in the same place by chance."""
    monkeypatch.chdir(home)
    terms = Terms.model_validate({name: value for name, value in described().items() if name != "partners"})
    created = FederationHome.create(home / "fed", terms, HostConfig(address="127.0.0.1", port=9440, join_port=9441))
    for name in NAMES:
        approve(created, name)
    return created


@pytest.fixture
def answering(fed: FederationHome, grid_of: Make, coordinate: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Members' nodes, started for the policy each of them has accepted."""

    def answer(**accepted: str) -> None:
        def hosted(asked: FederationHome) -> None:
            with open_registry(asked):
                terms = asked.terms()
            config = FederationConfig.model_validate(
                {**dict(terms), "partners": {name: fed.folder.parent / name for name in NAMES}}
            )
            grid = grid_of(config)
            for node in grid.nodes.values():
                node["policy"] = accepted.get(node["partner"], node["policy"])
            coordinate(config, grid, asked.out)

        monkeypatch.setattr("koinon.server.auditing.run_hosted", hosted)

    return answer


def planned(fed: FederationHome, **changes: Any) -> Path:
    assert run(["audit", "plan", "whole", "--federated", "fed", *GROUPS]) == 0
    path = fed.folder.parent / "whole" / PLAN_FILE
    text = path.read_text(encoding="utf-8").replace("draws = 2000", "draws = 300").replace("10,\n    50,", "8,")
    path.write_text(text.replace("release = {}", f'release = {{ federated_gram = "{MANIFEST}" }}'), encoding="utf-8")
    plan = AuditPlan.read(path)[0]
    if not plan.system.release:  # nothing has been trained: what the shops deploy is named by hand
        raw = plan.model_dump(mode="json")
        raw["system"]["release"] = {"federated_gram": MANIFEST}
        path.write_text(AuditPlan.from_dict(raw | changes).to_toml(), encoding="utf-8")
    return path.parent


def test_members_accept_an_audit_as_any_policy_and_it_is_in_their_ledger(
    fed: FederationHome, answering: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = planned(fed)
    before = fed.terms()
    answering()
    assert run(["audit", "run", "whole"]) == 6
    assert "K514" in capsys.readouterr().err  # nobody has been asked to accept it
    assert run(["audit", "propose", "whole"]) == 0
    offered = fed.terms()
    assert offered.policy_sha256() != before.policy_sha256()
    assert usual_terms(fed) == before
    lines = difference(before.policy(), offered.policy())
    assert any(line.startswith("+ learner federated_audit") and "taste" in line for line in lines)
    assert any("may leave" in line and "figures" in line for line in lines)
    assert any(line.startswith("- learner federated_gram") for line in lines)

    assert run(["audit", "run", "whole"]) == 0
    results = AuditResults.read(folder / RESULTS_FILE)
    assert {one.partner: one.code for one in results.federated.partners} == dict.fromkeys(NAMES)
    assert results.record.kind == "federation"
    assert {one.group for one in results.comparisons if one.verdict} == {"taste", "age", "activity"}
    assert run(["audit", "verify", "whole"]) == 0
    assert (folder / REPORT_FILE).is_file()

    assert run(["audit", "withdraw", "whole"]) == 0
    assert fed.terms() == before
    assert run(["audit", "run", "whole"]) == 0  # judged again; nobody is asked
    assert run(["ledger", "verify", "fed"]) == 0
    with open_registry(fed) as registry:
        kinds = [entry.kind for entry in registry.book.entries()]
    assert kinds.count(Kind.POLICY_CHANGED) == 2
    assert kinds.index(Kind.AUDIT_PLAN) < kinds.index(Kind.POLICY_CHANGED) < kinds.index(Kind.AUDIT)


def test_a_member_that_has_not_accepted_tells_nothing_and_nothing_passes(fed: FederationHome, answering: Make) -> None:
    folder = planned(fed)
    before = fed.terms().policy_sha256()
    propose_audit(folder)
    answering(beta=before)
    assert run(["audit", "run", "whole"]) == 0
    assert "K611" in (fed.folder.parent / "beta" / "federation" / "egress.jsonl").read_text()
    results = AuditResults.read(folder / RESULTS_FILE)
    assert [one.partner for one in results.federated.partners if one.code is not None] == ["beta"]
    assert "beta" in (folder / REPORT_FILE).read_text(encoding="utf-8")
    assert "pass" not in {one.verdict for one in results.comparisons}


def test_one_audit_is_on_offer_at_a_time_and_withdrawing_restores_the_policy(fed: FederationHome) -> None:
    folder = planned(fed)
    usual = fed.terms().policy_sha256()
    assert propose_audit(folder) == propose_audit(folder)
    other = folder.parent / "other"
    other.mkdir()
    text = (folder / PLAN_FILE).read_text(encoding="utf-8").replace('name = "whole"', 'name = "other"')
    (other / PLAN_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match="K515"):
        propose_audit(other)
    assert withdraw_audit(folder) == usual
    assert propose_audit(other) != usual


def test_a_policy_or_members_that_changed_since_the_plan_are_refused(fed: FederationHome) -> None:
    folder = planned(fed)
    with open_registry(fed) as registry:
        registry.suspend("delta")
    assert list(members_of(fed).partners) == ["alpha", "beta", "gamma"]
    with pytest.raises(EvaluationError, match="K551"):
        propose_audit(folder)
    with open_registry(fed) as registry:
        registry.resume("delta")
    text = fed.policy_file.read_text(encoding="utf-8")
    fed.policy_file.write_text(text.replace("seed = 7", "seed = 8", 1), encoding="utf-8")
    with pytest.raises(EvaluationError, match="K552"):
        propose_audit(folder)


def test_a_plan_of_one_partner_is_offered_to_nobody(fed: FederationHome, tmp_path: Path) -> None:
    assert run(["audit", "plan", "mine", "--partner", "alpha", "--attribute", "age", "-r", "popularity"]) == 0
    with pytest.raises(EvaluationError, match="K515"):
        propose_audit(Path("mine"))


@pytest.mark.parametrize(
    "asked",
    [
        ["--federated", "fed", "--released", "out"],
        ["--federated", "fed", "--group", "age=young"],
        ["--federated", "fed", "--partner", "alpha"],
    ],
)
def test_what_cannot_be_planned_is_said(fed: FederationHome, asked: list[str]) -> None:
    assert run(["audit", "plan", "whole", *asked]) == 2
    assert not Path("whole").exists()


def test_the_plan_is_in_the_federations_ledger_before_anybody_is_asked(
    fed: FederationHome, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(fed)
    capsys.readouterr()
    assert run(["ledger", "show", "fed", "--json"]) == 0
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert kinds[-1] == "audit_plan"
