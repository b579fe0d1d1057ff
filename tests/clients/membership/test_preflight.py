"""The preflight: each thing that would go wrong is named, with its code and how to mend it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import namedtuple
from importlib.metadata import version

import pytest

from koinon.clients import preflight
from koinon.clients.joining import Member, join
from koinon.clients.membership import Membership, policy_sha256
from koinon.clients.preflight import check_invitation, check_member, offer_findings, partner_findings, refuse_if_any
from koinon.errors import FederationError
from koinon.privacy import write_match_key
from koinon.server.federation import Terms


def looked_at(operator, folder, **offered):
    """Findings on an offer that differs from the operator's in what is given, by what was looked at."""
    offer = type(operator.offer)()
    offer.CopyFrom(operator.offer)
    offer.partner, offer.server_time_ms = "buchladen", time.time_ns() // 10**6
    for name, value in offered.items():
        setattr(offer, name, value)
    authority = operator.authority.ca_file.read_text()
    found = offer_findings(offer, "books", "buchladen", authority, folder, time.time_ns() // 10**6)
    return {finding.check: finding for finding in found}


def said(finding):
    return finding.level, finding.code


def test_where_all_is_well_nothing_refuses(operator, shop_folder):
    found = check_invitation(operator.invite(), shop_folder, shop_folder / "federation" / "egress.jsonl")
    assert {finding.level for finding in found} == {"ok"}, found
    assert [finding.check for finding in found] == [
        "python", "folder", "disk", "vault", "local port", "join port",
        "policy", "catalogue", "clock", "koinon", "flower", "code", "encoder", "fleet port",
    ]  # fmt: skip
    refuse_if_any(found)


def test_a_member_is_looked_at_as_well(operator, shop_folder):
    join(operator.invite(), shop_folder, lambda offer: None)
    assert {finding.level for finding in check_member(shop_folder)} == {"ok"}


def test_who_is_no_member_yet_is_told_so(shop_folder):
    *_, last = check_member(shop_folder)
    assert (last.check, said(last)) == ("membership", ("refuse", "K736"))


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (0, ("ok", "")),
        (31, ("warn", "K829")),
        (-4, ("ok", "")),
        (-6, ("refuse", "K829")),
        (121, ("refuse", "K829")),
        (-9e5, ("refuse", "K829")),
    ],
)
def test_clock(operator, shop_folder, ahead, expected):
    server = int((time.time() + ahead) * 1000)
    assert said(looked_at(operator, shop_folder, server_time_ms=server)["clock"]) == expected


@pytest.mark.parametrize(
    ("check", "offered", "expected"),
    [
        ("koinon", {"koinon_version": "0.0.9"}, ("refuse", "K830")),
        ("koinon", {"koinon_version": "99.0"}, ("refuse", "K830")),
        ("flower", {"flower_version": "1.40.0"}, ("refuse", "K831")),
        ("flower", {"flower_version": version("flwr") + ".1"}, ("warn", "K831")),
        ("code", {"code_sha256": "0" * 64}, ("refuse", "K839")),
        ("code", {"app_sha256": "0" * 64}, ("refuse", "K839")),
        ("policy", {"policy_sha256": "0" * 64}, ("refuse", "K838")),
        ("policy", {"partner": "somebody"}, ("refuse", "K838")),
        ("fleet port", {"fleet_address": "127.0.0.1:1"}, ("refuse", "K827")),
        ("fleet port", {"fleet_address": "no-such-host.invalid:9"}, ("refuse", "K826")),
        ("fleet port", {"fleet_address": "nonsense"}, ("refuse", "K826")),
    ],
)
def test_what_the_server_offers(operator, shop_folder, check, offered, expected):
    finding = looked_at(operator, shop_folder, **offered)[check]
    assert said(finding) == expected
    assert finding.remedy


def test_who_answers_at_the_port_but_is_somebody_else(operator, stranger, shop_folder):
    assert said(looked_at(operator, shop_folder, fleet_address=stranger.address)["fleet port"]) == ("refuse", "K828")


def test_who_answers_but_speaks_no_tls(operator, shop_folder):
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.sendall(b"220 hello\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{plain.getsockname()[1]}"
        assert said(looked_at(operator, shop_folder, fleet_address=address)["fleet port"]) == ("refuse", "K828")
        thread.join()


def test_an_unknown_learner_is_named(operator, shop_folder):
    operator.offer.policy.learners[0].name = "federated_gossip"
    digest = policy_sha256(operator.offer.policy)
    finding = looked_at(operator, shop_folder, policy_sha256=digest)["policy"]
    assert said(finding) == ("refuse", "K838")
    assert "federated_gossip" in finding.said


def encoder_terms(**changes) -> Terms:
    learners = [{"name": "federated_gram"}]
    return Terms.from_dict({"name": "books", "learners": learners, "minimum_participants": 3, **changes})


@pytest.mark.parametrize(
    ("pinned", "expected"), [("0" * 64, ("refuse", "K833")), ("", ("warn", "K833")), ("own", ("ok", ""))]
)
def test_encoder(operator, shop_folder, monkeypatch, pinned, expected):
    class Encoder:
        fingerprint = "e" * 64

    monkeypatch.setattr("koinon.space.open_encoder", lambda uri: Encoder())
    pinned = Encoder.fingerprint if pinned == "own" else pinned
    terms = encoder_terms(encoder="use-multilingual", encoder_sha256=pinned)
    operator.set_policy(terms)
    assert said(looked_at(operator, shop_folder, encoder_sha256=pinned)["encoder"]) == expected


def test_the_installed_encoder_has_the_hash_that_koinon_space_gives_it(operator, shop_folder):
    from koinon.space import open_encoder

    found = open_encoder("use-multilingual").fingerprint
    operator.set_policy(encoder_terms(encoder="use-multilingual", encoder_sha256=found))
    assert said(looked_at(operator, shop_folder, encoder_sha256=found)["encoder"]) == ("ok", "")


def test_an_encoder_that_is_not_here(operator, shop_folder):
    operator.set_policy(encoder_terms(encoder="hf:/no/such/folder"))
    assert said(looked_at(operator, shop_folder)["encoder"]) == ("refuse", "K833")


def test_a_secret_catalogue_needs_keyed_hashes(operator, shop_folder):
    description = (shop_folder / "partner.toml").read_text().replace('"public"', '"secret"')
    (shop_folder / "partner.toml").write_text(description)
    assert said(looked_at(operator, shop_folder)["catalogue"]) == ("refuse", "K838")
    operator.set_policy(encoder_terms(encoder="none", keyed_catalogues=True))
    assert said(looked_at(operator, shop_folder)["catalogue"]) == ("refuse", "K620")
    write_match_key([shop_folder])
    assert said(looked_at(operator, shop_folder)["catalogue"]) == ("ok", "")


def test_a_changed_policy_is_refused_until_it_is_accepted(operator, shop_folder):
    join(operator.invite(), shop_folder, lambda offer: None)
    operator.set_policy(encoder_terms(encoder="none"))
    changed = {finding.check: finding for finding in check_member(shop_folder)}["policy"]
    assert said(changed) == ("refuse", "K838")
    with pytest.raises(FederationError, match=r"K739.*K838"):
        refuse_if_any([changed])
    with Member(shop_folder) as member:
        member.accept(member.describe())
    assert {finding.level for finding in check_member(shop_folder)} == {"ok"}


def test_a_server_that_went_back_to_an_older_version(operator, shop_folder):
    join(operator.invite(), shop_folder, lambda offer: None)
    accepted = Membership.of(shop_folder)
    accepted.model_copy(update={"koinon_version": "7.0"}).save(shop_folder)
    back = {finding.check: finding for finding in check_member(shop_folder)}["koinon"]
    assert said(back) == ("refuse", "K830")
    assert "went back" in back.said


def test_a_revoked_invitation_is_told_with_the_servers_code(operator, shop_folder):
    invitation = operator.invite()
    operator.registry.revoke("buchladen")
    *_, last = check_invitation(invitation, shop_folder, shop_folder / "federation" / "egress.jsonl")
    assert said(last) == ("refuse", "K748")


# this machine


def local(folder):
    return {finding.check: finding for finding in partner_findings(folder)}


def test_rights_of_the_folder(shop_folder, tmp_path):
    shop_folder.chmod(0o755)
    assert said(local(shop_folder)["folder"]) == ("warn", "K835")
    shop_folder.chmod(0o777)
    assert said(local(shop_folder)["folder"]) == ("refuse", "K835")
    assert said(local(tmp_path / "nowhere")["folder"]) == ("refuse", "K835")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(shop_folder):
    shop_folder.chmod(0o500)
    assert said(local(shop_folder)["folder"]) == ("refuse", "K835")
    shop_folder.chmod(0o700)


@pytest.mark.parametrize(
    ("free", "expected"), [(10 << 30, ("ok", "")), (1 << 30, ("warn", "K834")), (1 << 20, ("refuse", "K834"))]
)
def test_disk(shop_folder, monkeypatch, free, expected):
    usage = namedtuple("usage", "total used free")(1 << 40, 0, free)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert said(local(shop_folder)["disk"]) == expected


def test_vault(shop_folder):
    (shop_folder / "vault" / "vault.json").write_text("{")
    assert said(local(shop_folder)["vault"]) == ("refuse", "K836")
    (shop_folder / "vault" / "vault.json").unlink()
    assert said(local(shop_folder)["vault"]) == ("refuse", "K836")
    (shop_folder / "partner.toml").unlink()
    assert said(local(shop_folder)["vault"]) == ("refuse", "K836")


def test_python(shop_folder, monkeypatch):
    monkeypatch.setattr(preflight, "PYTHON", ((3, 8), (3, 9)))
    assert said(local(shop_folder)["python"]) == ("refuse", "K832")
