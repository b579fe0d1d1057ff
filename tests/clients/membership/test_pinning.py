"""Before any work the installed Koinon is held against the pinned one; what crosses of a mismatch is its code."""

from __future__ import annotations

import json

import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from koinon.clients import pinning
from koinon.clients.answering import answer
from koinon.clients.home import Home
from koinon.clients.partner_state import PartnerState
from koinon.clients.wire import read_policy
from koinon.data import Vault
from koinon.errors import PrivacyError
from koinon.protos import federation_pb2 as wire


def asked(folder, code: str) -> wire.Reply:
    instruction = ConfigRecord({"instruction": b"no instruction"})
    content = RecordDict({"instruction": instruction, "tensors": ArrayRecord()})
    node = {"partner": "buchladen", "folder": str(folder), "policy": "0" * 64, "code": code}
    said = answer("catalogue", content, node, {}).config_records["reply"]["reply"]
    assert isinstance(said, bytes)
    return wire.Reply.FromString(said)


def test_another_koinon_than_the_pinned_one_does_no_work(shop_folder, monkeypatch):
    monkeypatch.setattr("koinon.clients.answering._compute", lambda *_: pytest.fail("it worked"))
    assert asked(shop_folder, "0" * 64) == wire.Reply(partner="buchladen", code="K642")
    line = json.loads((shop_folder / "federation" / "egress.jsonl").read_text())
    assert line["code"] == "K642"
    assert "not the one that was accepted" in (shop_folder / "federation" / "errors.log").read_text()


def test_the_pinned_one_goes_on_and_without_a_pin_nothing_is_held(shop_folder):
    assert asked(shop_folder, pinning.code_sha256()).code == "K720"
    assert asked(shop_folder, "").code == "K720"


def test_another_app_is_named():
    pinning.check_app(pinning.app_sha256())
    with pytest.raises(PrivacyError, match="K643"):
        pinning.check_app("0" * 64)


def test_another_encoder_than_the_pinned_one_makes_no_vectors(shop_folder):
    policy = wire.Policy(encoder="use-multilingual", encoder_sha256="0" * 64, split_json="{}")
    state = PartnerState(Home(shop_folder, "buchladen", ""), Vault(shop_folder), read_policy(policy))
    with pytest.raises(PrivacyError, match="K644"):
        _ = state.space
    policy.encoder_sha256 = ""
    unpinned = PartnerState(Home(shop_folder, "buchladen", ""), Vault(shop_folder), read_policy(policy)).space
    policy.encoder_sha256 = unpinned.fingerprint
    assert PartnerState(Home(shop_folder, "buchladen", ""), Vault(shop_folder), read_policy(policy)).space is unpinned
