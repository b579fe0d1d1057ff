"""Joining: what is made here stays here, what is accepted is pinned, whatever ends it can be gone on with."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from koinon.clients import joining as client
from koinon.clients.joining import Member, Refused, join
from koinon.clients.keys import Keys
from koinon.clients.membership import Membership
from koinon.errors import FederationError, KoinonError, PrivacyError
from koinon.protos import joining_pb2 as joining
from koinon.server.federation import Terms

STATE = joining.Standing


def accept(_: joining.Offer) -> None:
    """The partner's operator says yes."""


def code(*arguments) -> str:
    with pytest.raises(KoinonError) as caught:
        join(*arguments)
    return caught.value.code


def joined(operator, folder: Path):
    """A member that the operator has approved, and the invitation that it came by."""
    invitation = operator.invite()
    join(invitation, folder, accept)
    operator.registry.approve("buchladen")
    return invitation


# what is sent, and what is pinned


def test_who_accepts_has_applied_and_pinned_what_was_offered(operator, shop_folder):
    assert join(operator.invite(), shop_folder, accept).state == STATE.APPLIED
    member = operator.registry.member("buchladen")
    said = Membership.of(shop_folder)
    assert member.member_key == Keys(shop_folder).member_public
    assert member.policy_sha256 == said.policy_sha256 == operator.offer.policy_sha256
    assert said.agreed == operator.offer.policy
    assert (said.ledger_key, said.fleet_address) == (operator.offer.ledger_key, operator.address)
    assert (said.code_sha256, said.app_sha256) == (operator.offer.code_sha256, operator.offer.app_sha256)


def test_no_private_key_leaves_and_every_byte_that_does_has_its_line(operator, shop_folder):
    joined(operator, shop_folder)
    with Member(shop_folder) as member:
        member.standing()
        member.rotate()
        member.standing(accepted=operator.offer.policy_sha256)
        member.describe()
        kept = [path.read_bytes() for path in member.keys.folder.iterdir()]
        numbers = member.keys.node.private_numbers().private_value.to_bytes(48, "big")
        kept += [member.keys.member.private_bytes_raw(), numbers]
        member.leave(forget=True)
    lines = [json.loads(line) for line in (shop_folder / "federation" / "egress.jsonl").read_text().splitlines()]
    assert [(line["bytes"], line["sha256"]) for line in lines] == [
        (len(raw), hashlib.sha256(raw).hexdigest()) for raw in operator.received
    ]
    assert {line["purpose"] for line in lines} == {"join"}
    sent = b"".join(operator.received)
    for secret in kept:
        body = secret.split(b"-----\n")[-2] if secret.startswith(b"-----") else secret
        assert len(body) >= 32
        assert body not in sent
        assert body.strip().split(b"\n")[-1] not in sent or not secret.startswith(b"-----")


def test_keys_and_their_folder_are_the_owners_alone(operator, shop_folder):
    join(operator.invite(), shop_folder, accept)
    for path in (shop_folder / "federation" / "keys").rglob("*"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_who_does_not_accept_sends_nothing_but_the_invitations_secret(operator, shop_folder):
    def decline(_: joining.Offer) -> None:
        raise PrivacyError("K646", "no")

    assert code(operator.invite(), shop_folder, decline) == "K646"
    (only,) = operator.received
    assert [field.name for field, _ in joining.DescribeRequest.FromString(only).ListFields()] == ["invitation"]
    assert not (shop_folder / "federation" / "keys").exists()
    assert not Membership.file(shop_folder).exists()
    assert operator.registry.members() == []


# going on


def test_the_same_invitation_goes_on_where_it_was(operator, shop_folder):
    invitation = operator.invite()
    join(invitation, shop_folder, accept)
    keys = Keys(shop_folder)
    before = (keys.node_public, keys.member_public)

    def never(_: joining.Offer) -> None:
        raise AssertionError("consent was given before")

    assert join(invitation, shop_folder, never).state == STATE.APPLIED
    operator.registry.approve("buchladen")
    assert join(invitation, shop_folder, never).state == STATE.APPROVED
    again = Keys(shop_folder)
    assert (again.node_public, again.member_public) == before


_KILLED = """
import hashlib, json, os, sys
from pathlib import Path
from koinon.clients import door, joining, keys, membership, pinning
from koinon.protos.invitation import Invitation
line, folder, code = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
calls = last = 0
def dying(function):
    def wrapped(*args, **kwargs):
        global calls
        for done in (False, True):
            calls += 1
            if calls == last:
                os._exit(9)
            if not done:
                result = function(*args, **kwargs)
        return result
    return wrapped
door.cross = dying(door.cross)
joining.JoiningService.ask = dying(joining.JoiningService.ask)
membership.Membership.save = dying(membership.Membership.save)
keys._make = dying(keys._make)
pinning.code_sha256 = lambda: code  # the tree may be edited while this test runs
ended, seen = [], set()
for last in range(1, 40):
    child = os.fork()  # nothing of gRPC runs yet: each child is a process that has just begun
    if not child:
        standing = joining.join(Invitation.decode(line), folder, lambda offer: None)
        os._exit(100 + standing.state)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    files = [folder / "federation" / "keys" / name for name in ("node", "member")]
    if all(path.exists() for path in files):
        seen.add(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    if ended[-1] != 9:
        break
print(json.dumps([ended, len(seen)]))
"""


def test_killed_at_any_point_it_goes_on_and_never_makes_second_keys(operator, shop_folder):
    """The process ends before and after every step in turn; each start goes on, the last is through."""
    invitation = operator.invite()
    command = [sys.executable, "-c", _KILLED, invitation.encode(), str(shop_folder), operator.offer.code_sha256]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (*kills, last), pairs_of_keys = json.loads(said)
    assert last == 100 + STATE.APPLIED
    assert set(kills) == {9}
    assert len(kills) >= 8
    assert pairs_of_keys == 1
    assert join(invitation, shop_folder, accept).state == STATE.APPLIED
    assert [member.name for member in operator.registry.members()] == ["buchladen"]
    assert operator.registry.member("buchladen").member_key == Keys(shop_folder).member_public


def test_an_answer_that_was_lost_does_no_harm(operator, shop_folder, monkeypatch):
    ask = client.JoiningService.ask

    def deaf(self, method, request, kind):
        ask(self, method, request, kind)
        if method in ("Apply", "RotateKey"):
            raise KeyboardInterrupt
        return ask

    invitation = operator.invite()
    offer = operator.offer
    monkeypatch.setattr(
        client.JoiningService, "ask", lambda s, m, r, k: deaf(s, m, r, k) if m != "Describe" else ask(s, m, r, k)
    )
    with pytest.raises(KeyboardInterrupt):
        join(invitation, shop_folder, accept)
    monkeypatch.setattr(client.JoiningService, "ask", ask)
    assert join(invitation, shop_folder, accept).state == STATE.APPLIED
    with Member(shop_folder) as member:
        monkeypatch.setattr(client.JoiningService, "ask", deaf)
        with pytest.raises(KeyboardInterrupt):
            member.rotate()
        monkeypatch.setattr(client.JoiningService, "ask", ask)
    following = (shop_folder / "federation" / "keys" / "node.next").read_bytes()
    with Member(shop_folder) as member:
        member.rotate()
        assert member.keys.node_file.read_bytes() == following
    assert offer.policy_sha256 == Membership.of(shop_folder).policy_sha256


def test_waiting_ends_with_approval_rejection_or_its_time(operator, shop_folder):
    join(operator.invite(), shop_folder, accept)
    told: list[int] = []
    with Member(shop_folder) as member:
        with pytest.raises(FederationError, match="K737"):
            member.wait(0.1, lambda answer: told.append(answer.state))

        def decide(answer: joining.Standing) -> None:
            told.append(answer.state)
            operator.registry.approve("buchladen")

        assert member.wait(30, decide).state == STATE.APPROVED
        assert told == [STATE.APPLIED]
        operator.registry.suspend("buchladen")
        with pytest.raises(Refused, match="suspended"):
            member.wait(30, decide)


# what a member does afterwards


def test_a_new_node_key_replaces_the_old_one_on_both_sides(operator, shop_folder):
    joined(operator, shop_folder)
    before = operator.registry.member("buchladen").node_key
    with Member(shop_folder) as member:
        member.rotate()
    assert operator.registry.member("buchladen").node_key != before
    assert not (shop_folder / "federation" / "keys" / "node.next").exists()
    with Member(shop_folder) as member:
        assert member.standing().state == STATE.APPROVED


def test_a_changed_policy_is_pinned_when_it_is_accepted_anew(operator, shop_folder):
    joined(operator, shop_folder)
    old = Membership.of(shop_folder)
    operator.set_policy(Terms.from_dict(old_terms() | {"metrics": ["ndcg@10"]}))
    with Member(shop_folder) as member:
        offer = member.describe()
        assert member.standing().policy_sha256 != old.policy_sha256
        member.accept(offer)
    new = Membership.of(shop_folder)
    assert new.policy_sha256 == operator.offer.policy_sha256 != old.policy_sha256
    assert new.invitation_sha256 == old.invitation_sha256
    assert operator.registry.member("buchladen").policy_sha256 == new.policy_sha256


def old_terms() -> dict:
    return tomllib.loads(
        'name = "books"\nencoder = "none"\nminimum_participants = 3\n[[learners]]\nname = "federated_popularity"'
    )


def test_who_leaves_keeps_data_and_log_but_no_key(operator, shop_folder):
    joined(operator, shop_folder)
    with Member(shop_folder) as member:
        assert member.leave(forget=True).state == STATE.LEFT
    assert operator.registry.member("buchladen").state == "left"
    assert not (shop_folder / "federation" / "keys").exists()
    assert (shop_folder / "vault" / "vault.json").exists()
    assert (shop_folder / "federation" / "egress.jsonl").exists()
    with pytest.raises(FederationError, match="K736"):
        Member(shop_folder)


def test_who_was_removed_can_be_invited_again(operator, shop_folder):
    joined(operator, shop_folder)
    first = Keys(shop_folder).node_public
    operator.registry.remove("buchladen")
    assert join(operator.invite(), shop_folder, accept).state == STATE.APPLIED
    assert Keys(shop_folder).node_public != first


# refusals


def test_a_server_of_another_authority_is_not_spoken_to(operator, stranger, shop_folder):
    """The wrong certificate authority in the invitation, or somebody else at the federation's address: the same."""
    forged = operator.invite(address=stranger.address)
    assert code(forged, shop_folder, accept) == "K828"
    assert stranger.received == [], "not even the invitation's secret was told"


def test_a_name_that_is_not_in_the_certificate_is_refused(operator, shop_folder):
    assert code(operator.invite(address=operator.unnamed_address), shop_folder, accept) == "K828"
    assert operator.received == []


@pytest.mark.parametrize(("address", "expected"), [("no-such-host.invalid:9440", "K826"), ("127.0.0.1:1", "K827")])
def test_name_and_port_are_named_apart(operator, shop_folder, address, expected):
    assert code(operator.invite(address=address), shop_folder, accept) == expected


def test_an_offer_for_somebody_else_is_refused(operator, shop_folder):
    assert code(operator.invite("bookshop").model_copy(update={"partner": "buchladen"}), shop_folder, accept) == "K645"
    assert code(operator.invite(federation="films"), shop_folder, accept) == "K645"


def test_a_policy_that_is_not_the_one_of_its_hash_is_refused(operator, shop_folder):
    operator.offer.policy.minimum_participants = 1
    assert code(operator.invite(), shop_folder, accept) == "K645"


def test_another_installed_koinon_is_refused(operator, shop_folder):
    operator.offer.code_sha256 = "0" * 64
    assert code(operator.invite(), shop_folder, accept) == "K642"


def test_another_app_is_refused(operator, shop_folder):
    operator.offer.app_sha256 = "0" * 64
    assert code(operator.invite(), shop_folder, accept) == "K643"


def test_a_key_that_is_no_ledger_key_is_refused(operator, shop_folder):
    operator.offer.ledger_key = "k"
    assert code(operator.invite(), shop_folder, accept) in ("K645", "K650")


@pytest.mark.parametrize(
    ("ends", "expected"), [("revoke", "K748"), ("use", "K747"), ("forge", "K745"), ("expire", "K746")]
)
def test_the_servers_refusal_keeps_its_code(operator, shop_folder, tmp_path, ends, expected):
    invitation = operator.invite(days=1e-9 if ends == "expire" else 1)
    if ends == "revoke":
        operator.registry.revoke("buchladen")
    elif ends == "use":
        join(invitation, tmp_path / "other", accept)
    elif ends == "forge":
        invitation = invitation.model_copy(update={"secret": "A" * 43})
    assert code(invitation, shop_folder, accept) == expected
    assert not Membership.file(shop_folder).exists()


def test_a_folder_belongs_to_one_federation(operator, stranger, shop_folder):
    joined(operator, shop_folder)
    assert code(stranger.invite(), shop_folder, accept) == "K735"
    assert Membership.of(shop_folder).join_address == operator.address


def test_an_accepted_federation_cannot_come_back_with_another_key(operator, stranger, shop_folder):
    joined(operator, shop_folder)
    with Member(shop_folder) as member:
        offer = member.describe()
        offer.ledger_key = stranger.offer.ledger_key
        with pytest.raises(PrivacyError, match="K645"):
            member.accept(offer)
    assert Membership.of(shop_folder).ledger_key == operator.offer.ledger_key


def test_a_refusals_words_cannot_write_to_the_terminal():
    said = str(Refused("K7; rm -rf", "\x1b[2Jyou are\nfine" + "x" * 1000))
    assert said.startswith("[K734] ")
    assert said.isprintable()
    assert len(said) < 400
