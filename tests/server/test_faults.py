"""What may go wrong between messages: real partners in this process, and a connection that is not perfect."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from koinon.data import Tables, Vault
from koinon.errors import FederationError
from koinon.server import read_release
from koinon.server.control import InnerPort

Make = Callable[..., Any]


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    names = ("alpha", "beta", "delta", "gamma")
    return [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(names)]


@pytest.fixture(params=["plain", "secure"])
def config(request: pytest.FixtureRequest, shops: list[Path], federation: Make) -> Any:
    settings = {"rounds": 3, "memory": 0.5}
    learners = [{"name": "federated_popularity", "settings": settings}]
    return federation(shops, learners=learners, aggregation=request.param, minimum_participants=3)


def rounds(ran: Any) -> list[dict[str, Any]]:
    return [event for event in ran.events if event["event"] == "round"]


def one_person_fewer(folder: Path) -> None:
    vault = Vault.open(folder)
    tables = vault.tables()
    last = tables.users["user_id"][-1]
    events = tables.events.filter(tables.events["user_id"] != last)
    Vault.create(folder, vault.config, Tables(tables.items, events, tables.users))


def test_a_vault_that_changes_during_training_costs_a_round_and_is_asked_for_anew(
    config: Any, shops: list[Path], grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    asked = []

    def changing(node: int, message: Message) -> bool:
        if message.metadata.message_type == "train.contribute" and node == 103:
            asked.append(node)
            if len(asked) == 2:
                one_person_fewer(shops[3])
        return False

    ran = coordinate(config, grid_of(config, silent=changing), tmp_path)
    assert [event["left_out"] for event in rounds(ran)] == [{}, {"gamma": "K726"}, {}]
    joined = [event["partner"] for event in ran.events if event["event"] == "joined"]
    assert sorted(joined) == ["alpha", "beta", "delta", "gamma", "gamma"]
    assert "changed while the federation trained" in (shops[3] / "federation" / "errors.log").read_text()


def test_a_node_that_was_away_for_a_round_and_comes_back_under_its_id_takes_part_again(
    config: Any, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    grid = grid_of(config)
    told, asked = grid.nodes[103], []

    def away(node: int, message: Message) -> bool:
        if message.metadata.message_type == "train.contribute" and node == 100:
            asked.append(node)
            grid.nodes = {number: each for number, each in grid.nodes.items() if number != 103}
            if len(asked) > 1:
                grid.nodes[103] = told
        return node == 103 and 103 not in grid.nodes

    grid.silent = away
    ran = coordinate(config, grid, tmp_path)
    assert [list(event["left_out"]) for event in rounds(ran)] == [["gamma"], ["gamma"], []]


def test_what_comes_twice_or_late_is_not_counted_again(
    config: Any, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    once = coordinate(config, grid_of(config), tmp_path / "once")
    grid = grid_of(config)
    pull, before = grid.pull_messages, []

    def again(asked: Iterable[str]) -> list[Message]:
        new = list(pull(asked))
        said = [*before, *new, *new]
        before.extend(new)
        return said

    grid.pull_messages = again
    twice = coordinate(config, grid, tmp_path / "twice")
    assert [event["left_out"] for event in rounds(twice)] == [{}] * 3
    found = [read_release(ran.out / "releases" / "0001").arrays["counts"].tobytes() for ran in (once, twice)]
    assert found[0] == found[1]


def test_flower_keeps_a_message_for_longer_than_its_answer_is_waited_for(
    config: Any, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    grid = grid_of(config)
    coordinate(config, grid, tmp_path)
    given = {m.metadata.message_type: m.metadata.ttl for m in grid.sent}
    assert given["train.contribute"] > config.deadlines.contribute
    assert given["query.catalogue"] > config.deadlines.catalogue


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_secure_sum_that_too_few_have_keys_for_is_tried_again_and_then_says_who_was_missing(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path, attempts: int
) -> None:
    deadlines = {"join": 0.5, "catalogue": 0.5, "contribute": 0.5, "adopt": 0.2}
    config = federation(shops, aggregation="secure", minimum_participants=3, deadlines=deadlines)
    missed = []

    def silent(node: int, message: Message) -> bool:
        if message.metadata.message_type == "query.keys" and node >= 102 and len(missed) < 2 * attempts:
            missed.append(node)
            return True
        return False

    if attempts == 1:
        ran = coordinate(config, grid_of(config, silent=silent), tmp_path)
        assert [len(event["participants"]) for event in rounds(ran)] == [4, 4]
        return
    with pytest.raises(FederationError, match=r"K740.*Left out: delta \(K701\), gamma \(K701\)"):
        coordinate(config, grid_of(config, silent=silent), tmp_path)


def test_a_host_that_was_killed_leaves_a_note_that_nobody_believes(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        inner = InnerPort(listening.getsockname()[1], "")
        inner.write(tmp_path / "control.json")
        assert InnerPort.read(tmp_path / "control.json") == inner
    with pytest.raises(FederationError, match="K765"):
        InnerPort.read(tmp_path / "control.json")
