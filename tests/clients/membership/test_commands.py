"""``koinon partner …`` as a partner's operator types it."""

from __future__ import annotations

import json
import threading

import pytest

from koinon.cli.main import run
from koinon.clients.egress import read_egress, totals
from koinon.clients.membership import Membership
from koinon.clients.terms import difference, in_words
from koinon.errors import PrivacyError
from koinon.server.federation import Terms
from koinon.server.membership.records import State, key_sha256


@pytest.fixture
def partner(shop_folder, capsys):
    """Return a function that runs ``koinon partner …`` on the folder, and gives its status and what it printed."""

    def ask(command: str, *arguments: str, before: str = "") -> tuple[int, str]:
        status = run(["partner", command, *([before] if before else []), str(shop_folder), *arguments])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return ask


@pytest.fixture
def member(operator, partner):
    """The partner's commands, once it is a member."""
    status, said = partner("join", "--yes", "--no-start", "--wait", "0", before=operator.invite().encode())
    assert status == 0, said
    operator.registry.approve("buchladen")
    return partner


def test_join_shows_the_findings_and_the_policy_and_asks(operator, partner, shop_folder, monkeypatch):
    monkeypatch.setattr("typer.confirm", lambda question: False)
    status, said = partner("join", before=operator.invite().encode())
    assert status == PrivacyError.exit_code
    assert "[K646]" in said
    assert "✓ clock" in said
    assert "learner federated_popularity (rounds = 2)" in said
    assert "may leave, rounds 1 to 2: counts, float32[matched works], sum, one person adds at most 3 (L2 norm)" in said
    assert "figures that may leave: drift, harm/federated_adapters" in said
    assert "a round needs at least 3 partners" in said
    assert "aggregation: plain: the server sees what each partner sends" in said
    assert "privacy budget: none" in said
    assert "encoder: none" in said
    assert not Membership.file(shop_folder).exists()


def test_join_from_a_file_goes_on_until_the_operator_has_decided(operator, partner, tmp_path):
    (tmp_path / "invitation.txt").write_text(operator.invite().encode() + "\n")
    asked = ("--yes", "--no-start", "--wait", "0")
    status, said = partner("join", *asked, before=str(tmp_path / "invitation.txt"))
    assert (status, "Not approved yet" in said) == (0, True)
    assert f"with the key {key_sha256(operator.registry.member('buchladen').node_key)[:16]}" in said
    operator.registry.approve("buchladen")
    status, said = partner("join", *asked, before=str(tmp_path / "invitation.txt"))
    assert (status, "is a member of books" in said) == (0, True)


def test_join_waits_for_approval(operator, partner):
    approval = threading.Timer(1.0, lambda: operator.registry.approve("buchladen"))
    invitation = operator.invite()
    approval.start()
    status, said = partner("join", "--yes", "--no-start", "--wait", "60", before=invitation.encode())
    approval.join()
    assert (status, "is a member of books" in said) == (0, True)


def test_a_rejected_partner_is_told_so(operator, partner):
    invitation = operator.invite()
    partner("join", "--yes", "--no-start", "--wait", "0", before=invitation.encode())
    operator.registry.reject("buchladen")
    status, said = partner("join", "--yes", "--wait", "60", before=invitation.encode())
    assert status == 8
    assert "rejected" in said


def test_a_cut_invitation_is_one_clear_line(operator, partner):
    status, said = partner("join", before=operator.invite().encode()[:-30])
    assert status == 8
    assert said.count("\n") == 1
    assert "[K732] The invitation was cut or altered" in said


def test_preflight_refusals_stop_a_join_before_anything_is_made(operator, partner, shop_folder):
    operator.offer.koinon_version = "0.0.1"
    status, said = partner("join", "--yes", before=operator.invite().encode())
    assert status == 8
    assert "✗ koinon: The server runs Koinon 0.0.1, older than" in said
    assert "[K739]" in said
    assert not (shop_folder / "federation" / "keys").exists()


def test_preflight_prints_json(member, operator):
    status, said = member("preflight", "--json")
    assert status == 0
    assert {finding["level"] for finding in json.loads(said)} == {"ok"}
    assert {"check", "level", "said", "code", "remedy"} == set(json.loads(said)[0])
    operator.offer.app_sha256 = "0" * 64
    status, said = member("preflight")
    assert status == 8
    assert "✗ code" in said


def test_preflight_of_an_invitation_alone(operator, capsys):
    assert run(["partner", "preflight", operator.invite().encode()]) == 0
    assert "✓ join port" in capsys.readouterr().out
    assert operator.registry.members() == []


def test_standing_in_words_and_json(member, operator):
    assert member("standing") == (0, "buchladen in books: approved\n")
    operator.registry.suspend("buchladen")
    operator.set_policy(changed())
    status, said = member("standing", "--json")
    assert status == 0
    told = json.loads(said)
    assert (told["standing"], told["policy_accepted"]) == ("suspended", False)


def changed() -> Terms:
    said = {"name": "books", "encoder": "none", "minimum_participants": 2, "learners": [{"name": "federated_gram"}]}
    return Terms.from_dict(said)


def test_accept_shows_what_has_changed(member, operator, shop_folder):
    assert member("accept") == (0, "Nothing has changed.\n")
    operator.set_policy(changed())
    status, said = member("accept", "--yes")
    assert status == 0
    assert "  - a round needs at least 3 partners" in said
    assert "  + a round needs at least 2 partners" in said
    assert "  + learner federated_gram (default settings)" in said
    assert "split" not in said, "what has not changed is not shown"
    assert Membership.of(shop_folder).policy_sha256 == operator.offer.policy_sha256
    assert member("accept") == (0, "Nothing has changed.\n")


def test_rotate_and_leave(member, operator, shop_folder):
    before = operator.registry.member("buchladen").node_key
    assert member("rotate")[0] == 0
    assert operator.registry.member("buchladen").node_key != before
    status, said = member("leave", "--forget")
    assert (status, "You have left books" in said) == (0, True)
    assert operator.registry.member("buchladen").state == State.LEFT
    status, said = member("standing")
    assert (status, "[K736]" in said) == (8, True)


def test_the_log_says_what_left_and_how_much(member, operator, shop_folder):
    member("standing")
    status, said = member("log")
    assert status == 0
    assert "fields partner, time_ms, signature, federation" in said
    sent = sum(len(raw) for raw in operator.received)
    assert f"join: {len(operator.received)} times, {sent:,} bytes" in said
    status, said = member("log", "--json")
    told = json.loads(said)
    assert told["totals"] == {"join": {"times": len(operator.received), "bytes": sent}}
    assert [crossing["bytes"] for crossing in told["crossings"]] == [len(raw) for raw in operator.received]


def test_the_log_of_who_has_sent_nothing_is_empty(partner):
    status, said = partner("log")
    assert status == 0
    assert "in all: 0 times, 0 bytes" in said


def test_a_damaged_line_of_the_log_is_named(shop_folder):
    (shop_folder / "federation").mkdir()
    (shop_folder / "federation" / "egress.jsonl").write_text('{"time": "yesterday"}\n')
    with pytest.raises(PrivacyError, match=r"Line 1 of .*egress"):
        read_egress(shop_folder)
    assert totals([]) == {}


def test_a_policy_in_words_says_everything_that_is_in_it():
    """Any field of a policy that changes shows in its words: nobody accepts what was not shown."""
    policy = changed().policy()
    for field in policy.DESCRIPTOR.fields:
        other = type(policy)()
        other.CopyFrom(policy)
        if field.name == "split_json":
            other.split_json = policy.split_json.replace("{", '{"another": 1, ', 1)
        elif field.name == "learners":
            other.learners[0].settings["clip"].real = 1.0
        elif field.name == "metrics":
            other.metrics.append("more")
        elif field.type == field.TYPE_STRING:
            setattr(other, field.name, '{"a": 1}' if field.name.endswith("_json") else "e" * 64)
        else:
            setattr(other, field.name, not getattr(other, field.name) if field.type == field.TYPE_BOOL else 17)
        assert difference(policy, other), f"{field.name} is not shown"
        assert in_words(other) != in_words(policy)
