"""A real simulation on Flower and Ray: what reaches the server, and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from koinon.clients.door import UNFORESEEN
from koinon.protos import federation_pb2 as wire
from koinon.server import read_release

if TYPE_CHECKING:
    from conftest import Simulated

READERS = b"-reader-"


def reply_of(message: object) -> wire.Reply:
    said = message.content.config_records["reply"]["reply"]  # type: ignore[attr-defined]
    return wire.Reply.FromString(said)


def test_the_federation_trains_and_the_sound_partners_choose(simulated: Simulated) -> None:
    rounds = simulated.result.rounds
    assert [event["participants"] for event in rounds] == [["alpha", "gamma"]] * 3
    assert set(simulated.result.adopted) >= {"alpha", "gamma"}
    assert "ndcg@10/federated" in simulated.result.adopted["alpha"]
    release = read_release(simulated.result.releases["federated_popularity"])
    assert release.arrays["counts"].shape == (40,)


def test_every_message_that_reached_the_server_holds_only_what_is_declared(simulated: Simulated) -> None:
    assert len(simulated.messages) == 3 + 3 * 3 + 3
    for message in simulated.messages:
        assert not message.has_error()
        assert set(message.content) <= {"reply", "tensors"}
        assert list(message.content["reply"]) == ["reply"]
        reply = reply_of(message)
        assert set(reply.metrics) <= set(simulated.config.metrics)
        arrays = message.content.array_records.get("tensors", {})
        assert [(name, a.dtype, a.shape) for name, a in arrays.items()] in ([], [("counts", "float32", (40,))])


def test_each_message_is_a_line_in_its_partners_egress_log(simulated: Simulated) -> None:
    for name, folder in simulated.config.partners.items():
        lines = [json.loads(line) for line in (folder / "federation" / "egress.jsonl").read_text().splitlines()]
        replies = [reply_of(m) for m in simulated.messages if reply_of(m).partner == name]
        assert sorted(line["code"] for line in lines) == sorted(reply.code for reply in replies)


def test_a_failing_learner_is_a_code_at_the_server_and_a_full_account_at_home(simulated: Simulated) -> None:
    assert all(event["left_out"] == {"beta": UNFORESEEN} for event in simulated.result.rounds)
    home = simulated.config.partners["beta"] / "federation" / "errors.log"
    assert b"the events of beta-reader-" in home.read_bytes()


def test_no_readers_id_reaches_the_servers_messages_logs_database_or_folder(simulated: Simulated) -> None:
    assert not any(READERS in repr(message).encode() for message in simulated.messages)
    files = [simulated.record, *Path(f"{simulated.record}").parent.glob("flower.db*")]
    files += [path for path in simulated.result.out.rglob("*") if path.is_file()]
    assert any(path.name == "superlink.log" for path in files)
    assert simulated.record.stat().st_size > 0
    for path in files:
        assert READERS not in path.read_bytes(), path


def test_nothing_is_left_running(simulated: Simulated, carriers: Callable[[str], list[psutil.Process]]) -> None:
    assert simulated.events[-1]["event"] == "finished"
    assert carriers(simulated.token) == []
    assert (simulated.result.out / ".lock").read_text() == ""
