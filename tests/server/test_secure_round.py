"""Rounds as secure sums, with real partners in this process: the same release, and a server that sees totals alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koinon.clients.keys import Keys as MemberKeys
from koinon.errors import FederationError
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.protos import federation_pb2 as wire
from koinon.server import read_release
from koinon.server.record import KEY_FILE, Record

Make = Callable[..., Any]
PARTNERS = ("alpha", "beta", "gamma", "delta")


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(PARTNERS)]


@pytest.fixture
def secure(federation: Make, shops: list[Path]) -> Any:
    return federation(shops, aggregation="secure", minimum_participants=3)


def rounds(ran: Any) -> list[dict[str, Any]]:
    return [event for event in ran.events if event["event"] == "round"]


def sums(out: Path) -> np.ndarray:
    return read_release(out / "releases" / "0001").arrays["counts"]


def test_the_release_is_that_of_open_sums(
    secure: Any, shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    opened = federation(shops)
    coordinate(opened, grid_of(opened), tmp_path / "open")
    ran = coordinate(secure, grid_of(secure), tmp_path / "secure")
    assert [event["participants"] for event in rounds(ran)] == [sorted(PARTNERS)] * 2
    np.testing.assert_allclose(sums(tmp_path / "secure"), sums(tmp_path / "open"), atol=1e-4)
    assert sums(tmp_path / "open").sum() > 100


def test_nothing_but_masked_words_and_the_protocols_messages_reaches_the_server(
    secure: Any, shops: list[Path], grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    ran = coordinate(secure, grid_of(secure), tmp_path)
    masked = []
    for message in ran.grid.received:
        reply = wire.Reply.FromString(message.content.config_records["reply"]["reply"])
        assert (reply.users, reply.code) == (0, "")
        assert set(reply.metrics) <= {"work_seconds", "ndcg@10"}
        tensors = message.content.array_records.get("tensors", {})
        if message.metadata.message_type == "train.contribute":
            assert list(tensors) == ["masked"]
            masked.append(tensors["masked"].numpy()[80:])
        else:
            assert not tensors
    assert len(masked) == 8
    together = np.concatenate(masked)
    found = np.bincount(together, minlength=256)
    expected = len(together) / 256
    assert ((found - expected) ** 2 / expected).sum() < 255 + 5 * np.sqrt(2 * 255)
    log = [json.loads(line) for line in (shops[0] / "federation" / "egress.jsonl").read_text().splitlines()]
    assert [line["purpose"].split()[0] for line in log[1:5]] == ["keys", "share", "contribute", "unmask"]
    assert all(line["users"] == 0 for line in log)
    assert not list((shops[0] / "federation").rglob("*.state"))


def test_keys_and_shares_travel_beside_the_round_before(
    secure: Any, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    ran = coordinate(secure, grid_of(secure), tmp_path)
    kinds = [message.metadata.message_type for message in ran.grid.sent]
    assert [kinds.count(kind) for kind in ("query.keys", "query.share", "train.contribute", "query.unmask")] == [
        4,
        4,
        8,
        8,
    ]


def test_somebody_who_comes_back_is_in_the_next_sum(
    federation: Make, shops: list[Path], grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(
        shops,
        aggregation="secure",
        minimum_participants=3,
        deadlines={"join": 0.5, "catalogue": 0.6, "contribute": 0.6, "adopt": 0.2},
    )
    missed: list[int] = []

    def silent(node: int, message: Any) -> bool:
        if node == 103 and message.metadata.message_type == "train.contribute" and not missed:
            missed.append(node)
            return True
        return False

    ran = coordinate(config, grid_of(config, silent=silent), tmp_path)
    assert [len(event["participants"]) for event in rounds(ran)] == [3, 4]


@pytest.mark.parametrize("when", ["query.keys", "query.share", "train.contribute", "query.unmask"])
def test_a_partner_that_drops_out_at_any_step_costs_only_itself(
    when: str, secure: Any, shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    def silent(node: int, message: Any) -> bool:
        return node == 103 and message.metadata.message_type == when

    config = federation(
        shops,
        aggregation="secure",
        minimum_participants=3,
        deadlines={"join": 0.5, "catalogue": 0.6, "contribute": 0.6, "adopt": 0.2},
    )
    ran = coordinate(config, grid_of(config, silent=silent), tmp_path / "secure")
    there = sorted(PARTNERS) if when == "query.unmask" else sorted(set(PARTNERS) - {"delta"})
    assert [event["participants"] for event in rounds(ran)] == [there] * 2
    assert [event["left_out"] for event in rounds(ran)] == [{} if when == "query.unmask" else {"delta": "K701"}] * 2
    opened = federation([shop for shop in shops if shop.name in there], deadlines=config.deadlines)
    if when == "query.unmask":
        coordinate(opened, grid_of(opened), tmp_path / "open")
        np.testing.assert_allclose(sums(tmp_path / "secure"), sums(tmp_path / "open"), atol=1e-4)


def test_too_few_end_in_an_error_and_no_total(
    federation: Make, shops: list[Path], grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(
        shops,
        aggregation="secure",
        minimum_participants=3,
        deadlines={"join": 0.5, "catalogue": 0.4, "contribute": 0.4, "adopt": 0.2},
    )

    def silent(node: int, message: Any) -> bool:
        return node >= 102 and message.metadata.message_type == "train.contribute"

    with pytest.raises(FederationError, match=r"K74[01]"):
        coordinate(config, grid_of(config, silent=silent), tmp_path)
    assert not (tmp_path / "releases").exists()


def test_a_server_that_asks_in_the_clear_is_refused(
    secure: Any, grid_of: Make, coordinate: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from koinon.server.wire import Order

    monkeypatch.setattr(Order, "with_steps", lambda self, steps: self)
    grid = grid_of(secure)
    with pytest.raises(FederationError, match="K740"):
        coordinate(secure, grid, tmp_path)
    codes = {wire.Reply.FromString(m.content.config_records["reply"]["reply"]).code for m in grid.received}
    assert codes == {"", "K613"}


def test_members_who_do_not_all_see_each_other_sign_one_list_of_who_is_in_the_sum(
    federation: Make, make_shop: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    names = [f"shop{number:02}" for number in range(27)]
    shops = [make_shop(name, seed=seed, works=10, users=9) for seed, name in enumerate(names)]
    learners = [{"name": "federated_popularity", "settings": {"rounds": 2, "memory": 0.5}}]
    config = federation(
        shops,
        aggregation="secure",
        minimum_participants=3,
        learners=learners,
        deadlines={"join": 2, "catalogue": 30, "contribute": 30, "adopt": 0.2},
    )
    server = Signer.open(tmp_path / KEY_FILE)
    record = Record.open(tmp_path, config)
    for shop in shops:
        member = hashlib.sha256(MemberKeys.make(shop).member_public).hexdigest()
        told = {"node_key_sha256": "0" * 64, "policy_sha256": config.policy_sha256(), "code_sha256": "0" * 64}
        record.book.append(Kind.APPLIED, shop.name, member_key_sha256=member, koinon_version="0.1.0", **told)
        record.book.append(Kind.APPROVED, shop.name, node_key_sha256="0" * 64)
    grid = grid_of(config)
    for node in grid.nodes.values():
        node["ledger_key"] = server.key
    ran = coordinate(config, grid, tmp_path)
    assert [(event["participants"], event["left_out"]) for event in rounds(ran)] == [(names, {})] * 2
    kinds = [message.metadata.message_type for message in grid.sent]
    assert [kinds.count(kind) for kind in ("query.keys", "query.agree", "query.unmask")] == [27, 54, 54]
    log = [json.loads(line) for line in (shops[0] / "federation" / "egress.jsonl").read_text().splitlines()]
    assert [line["purpose"].split()[0] for line in log if line["round"] == 1][-3:] == ["contribute", "agree", "unmask"]
