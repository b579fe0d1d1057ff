"""What a federation's course leaves on record, at the server and at partners that have pinned the server's key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message

from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, read_lines, verify
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.protos import federation_pb2 as wire
from koinon.server.record import KEY_FILE, LEDGER_FILE, Record
from koinon.server.state import LedgerBook, open_store, read_book
from koinon.server.state.release_book import read_release

Make = Callable[..., Any]


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]


def key_of(out: Path) -> str:
    """The server's public key; made if there is none."""
    return Signer.open(out / KEY_FILE).key


def book_of(out: Path) -> LedgerBook:
    return LedgerBook(open_store(out / LEDGER_FILE), Signer.open(out / KEY_FILE))


def pinned(grid: Any, key: str) -> Any:
    """The same grid, with nodes whose partners have pinned a key."""
    for node in grid.nodes.values():
        node["ledger_key"] = key
    return grid


def only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def copy_of(shop: Path) -> list[Entry | ValueError]:
    return list(read_lines(shop / "federation" / "ledger.jsonl"))


def test_a_run_its_rounds_and_its_release_go_on_record(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    coordinate(config, grid_of(config), tmp_path)
    book = book_of(tmp_path)
    # three small shops stand out from each other; who is flagged is another test's affair
    entries = [entry for entry in book.entries() if entry.kind != Kind.ANOMALY]
    assert [(entry.kind, entry.subject) for entry in entries] == [
        ("federation_created", "shops"),
        ("run_started", "shops"),
        ("round_finished", "federated_popularity"),
        ("round_finished", "federated_popularity"),
        ("release_published", "federated_popularity"),
    ]
    assert entries[0].body == {"key": book.signer.key, "policy_sha256": config.policy_sha256()}
    assert entries[2].body["names"] == ["alpha", "beta", "gamma"]
    assert verify(read_book(book.store), book.signer.verifier).whole
    assert read_release(tmp_path / "releases" / "0001", book.signer.verifier).number == 2


def test_who_was_left_out_is_recorded_by_code_and_count_and_names_only_where_they_may_be_known(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops, anonymous=True)

    def silent(node: int, message: Message) -> bool:
        return node == 102 and message.metadata.message_type == "train.contribute"

    ran = coordinate(config, grid_of(config, silent=silent), tmp_path)
    rounds = book_of(tmp_path).entries(kind=Kind.ROUND_FINISHED)
    assert [entry.body["left_out"] for entry in rounds] == [{"K701": 1}, {"K701": 1}]
    assert [(entry.body["participants"], "names" in entry.body) for entry in rounds] == [(2, False), (2, False)]
    sent = b"".join(m.content.config_records["instruction"]["instruction"] for m in ran.grid.sent)
    assert not [name for name in (b"alpha", b"beta", b"gamma") if name in sent]


def test_partners_with_a_pinned_key_keep_copies_that_end_as_the_servers_ledger(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    grid = pinned(grid_of(config, adopting=True), key_of(tmp_path))
    ran = coordinate(config, grid, tmp_path)
    assert {event["partner"] for event in only(ran.events, "adopted")} == {"alpha", "beta", "gamma"}
    book = book_of(tmp_path)
    for shop in shops:
        assert copy_of(shop) == book.entries()
    coordinate(config, pinned(grid_of(config), key_of(tmp_path)), tmp_path)
    for shop in shops:
        assert verify(read_book(book.store), book.signer.verifier, against=copy_of(shop)).whole
        assert [entry.kind for entry in copy_of(shop)].count("run_started") == 2  # type: ignore[union-attr]


def test_a_partner_is_sent_only_what_it_lacks_and_all_of_it_when_its_copy_is_lost(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    learners = [{"name": "federated_popularity", "settings": {"rounds": 4, "memory": 0.5}}]
    config = federation(shops, learners=learners, anonymous=True)  # records no flags of single partners
    grid = pinned(grid_of(config), key_of(tmp_path))
    coordinate(config, grid, tmp_path)
    shown = [m.content.config_records["instruction"]["ledger"].count(b"\n") for m in grid.sent[3:]]
    assert shown == [2] * 3 + [1] * 9 + [2] * 3  # a round each time; at the end a round and the release
    (shops[1] / "federation" / "ledger.jsonl").unlink()
    again = coordinate(config, pinned(grid_of(config), key_of(tmp_path)), tmp_path)
    rounds = only(again.events, "round")[4:]
    assert [event["left_out"] for event in rounds] == [{"beta": "K779"}, {}, {}, {}]
    assert len(copy_of(shops[1])) == len(book_of(tmp_path).entries()) - 2


def test_a_server_that_shows_another_history_is_refused_by_all_and_they_write_it_down(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    coordinate(config, pinned(grid_of(config), key_of(tmp_path)), tmp_path)
    before = [copy_of(shop) for shop in shops]
    for name in ("", "-wal", "-shm"):
        (tmp_path / (LEDGER_FILE + name)).unlink(missing_ok=True)
    with pytest.raises(FederationError, match=r"K704.*alpha \(K778\), beta \(K778\), gamma \(K778\)"):
        coordinate(config, pinned(grid_of(config), key_of(tmp_path)), tmp_path)
    assert [copy_of(shop) for shop in shops] == before
    for shop in shops:
        assert "[K778] The server's ledger cannot be believed" in (shop / "federation" / "errors.log").read_text()


def test_a_server_with_another_key_than_the_pinned_one_gets_a_code_and_nothing_else(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    grid = grid_of(config)
    grid.nodes[102]["ledger_key"] = key_of(tmp_path / "another")
    ran = coordinate(config, grid, tmp_path)
    assert all(event["left_out"] == {"gamma": "K778"} for event in only(ran.events, "round"))
    assert not (shops[2] / "federation" / "ledger.jsonl").exists()


Tamper = Callable[[wire.Instruction], None]


def _unsigned(said: wire.Instruction) -> None:
    said.releases[0].signature = b"\0" * 64


def _another_round(said: wire.Instruction) -> None:
    said.releases[0].number += 1


def _another_tensor(said: wire.Instruction) -> None:
    said.releases[0].tensors[0].sha256 = "0" * 64


def _another_run(said: wire.Instruction) -> None:
    said.run = "anotherrun"


@pytest.mark.parametrize("tamper", [_unsigned, _another_round, _another_tensor, _another_run])
def test_a_partner_works_only_on_what_the_server_has_signed(
    tamper: Tamper,
    shops: list[Path],
    federation: Make,
    grid_of: Make,
    coordinate: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody between server and partner changes what gamma is told."""
    config = federation(shops)
    grid = pinned(grid_of(config), key_of(tmp_path))
    push = grid.push_messages

    def between(messages: list[Message]) -> Any:
        for message in messages:
            if message.metadata.dst_node_id == 102 and message.metadata.message_type == "train.contribute":
                record = message.content.config_records["instruction"]
                said = wire.Instruction.FromString(record["instruction"])
                tamper(said)
                changed = {**record, "instruction": said.SerializeToString(deterministic=True)}
                message.content["instruction"] = ConfigRecord(changed)
        return push(messages)

    monkeypatch.setattr(grid, "push_messages", between)
    ran = coordinate(config, grid, tmp_path)
    assert all(event["left_out"] == {"gamma": "K776"} for event in only(ran.events, "round"))


def test_a_release_that_was_withdrawn_is_not_adopted(
    shops: list[Path],
    federation: Make,
    grid_of: Make,
    coordinate: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even from a server that goes on delivering it."""
    published = Record.published
    monkeypatch.setattr(Record, "published", lambda *said: replace(published(*said), withdrawn=False))
    config = federation(shops)
    coordinate(config, pinned(grid_of(config), key_of(tmp_path)), tmp_path)
    record = Record.open(tmp_path, config)
    record.releases.withdraw("federated_popularity", "harm")
    unfinished = {**json.loads((tmp_path / "state" / "run.json").read_text()), "finished": False}
    (tmp_path / "state" / "run.json").write_text(json.dumps(unfinished))  # so that the same release is delivered
    ran = coordinate(config, pinned(grid_of(config, adopting=True), key_of(tmp_path)), tmp_path)
    left_out = [event for event in only(ran.events, "left_out") if event["phase"] == "adopt"]
    assert {(event["partner"], event["code"]) for event in left_out[-3:]} == {
        ("alpha", "K776"), ("beta", "K776"), ("gamma", "K776"),
    }  # fmt: skip


def test_a_server_killed_between_saving_a_round_and_recording_it_records_it_when_it_goes_on(
    shops: list[Path],
    federation: Make,
    grid_of: Make,
    coordinate: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = federation(shops)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(Record, "round_finished", killed)
        with pytest.raises(KeyboardInterrupt):
            coordinate(config, grid_of(config), tmp_path)
    assert book_of(tmp_path).entries(kind=Kind.ROUND_FINISHED) == []
    coordinate(config, grid_of(config), tmp_path)
    entries = book_of(tmp_path).entries()
    assert [entry.body["resumed"] for entry in entries if entry.kind == "run_started"] == [False, True]
    assert [entry.body["round"] for entry in entries if entry.kind == "round_finished"] == [1, 2]
