"""The door: what is declared crosses, nothing else does, and every crossing leaves one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.clients import door
from koinon.errors import DataError, KoinonError, PrivacyError
from koinon.protos import federation_pb2 as wire
from koinon.protos import joining_pb2 as joining
from koinon.recommenders.protocol import Catalogue, Contribution, TensorSpec

COUNTS = TensorSpec("counts", (3,), "float32", "sum", clip=2.0)
UPDATE = TensorSpec("update", (2, 2), "float32", "mean", clip=1.0)
POLICY = door.Policy("books-de", "contribute learner", 4, (COUNTS, UPDATE), frozenset({"ndcg@10"}))


def contribution(**changes: object) -> Contribution:
    arrays = {"counts": np.ones(3, np.float32), "update": np.full((2, 2), 0.1, np.float32)}
    return Contribution(arrays | changes, n_users=5, metrics={"ndcg@10": 0.25})


def reply(records: RecordDict) -> wire.Reply:
    said = records.config_records["reply"]["reply"]
    assert isinstance(said, bytes)
    return wire.Reply.FromString(said)


def refused(payload: door.Payload, policy: door.Policy, log: Path) -> str:
    with pytest.raises(PrivacyError) as caught:
        door.cross(payload, policy, log)
    assert not log.exists(), "what was refused is not logged as a crossing"
    return caught.value.code


def test_declared_tensors_and_figures_cross(tmp_path: Path) -> None:
    records = door.cross(contribution(), POLICY, tmp_path / "egress.jsonl")
    assert set(records) == {"reply", "tensors"}
    assert {n: a.shape for n, a in records.array_records["tensors"].items()} == {"counts": (3,), "update": (2, 2)}
    assert reply(records) == wire.Reply(partner="books-de", round=4, users=5, metrics={"ndcg@10": 0.25})


def test_every_crossing_leaves_one_line_that_names_it(tmp_path: Path) -> None:
    log = tmp_path / "federation" / "egress.jsonl"
    door.cross(contribution(), POLICY, log)
    door.cross(DataError("K203", "row 7"), POLICY, log)
    first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert (first["names"], first["shapes"], first["round"]) == (["counts", "update"], [[3], [2, 2]], 4)
    assert first["bytes"] > 28
    assert len(first["sha256"]) == 64
    assert (second["code"], second["names"]) == ("K203", [])
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"extra": np.ones(1, np.float32)}, "K601"),
        ({"counts": np.ones(4, np.float32)}, "K602"),
        ({"counts": np.ones(3, np.float64)}, "K602"),
        ({"counts": np.array(["a", "b", "c"])}, "K602"),
        ({"counts": np.array([1, 2, {"user": 7}], dtype=object)}, "K602"),
        ({"counts": np.array([1, np.nan, 1], np.float32)}, "K603"),
        ({"counts": np.array([1, np.inf, 1], np.float32)}, "K603"),
        ({"counts": np.full(3, 6.0, np.float32)}, "K604"),
        ({"update": np.ones((2, 2), np.float32)}, "K604"),
    ],
)
def test_undeclared_tensors_do_not_cross(tmp_path: Path, changes: dict[str, object], code: str) -> None:
    assert refused(contribution(**changes), POLICY, tmp_path / "log") == code


def test_a_missing_tensor_does_not_go_unnoticed(tmp_path: Path) -> None:
    only = Contribution({"counts": np.ones(3, np.float32)}, 5)
    assert refused(only, POLICY, tmp_path / "log") == "K601"


def test_nobody_adds_nothing(tmp_path: Path) -> None:
    alone = door.Policy("p", "contribute", 1, (COUNTS,))
    assert refused(Contribution({"counts": np.ones(3, np.float32)}, 0), alone, tmp_path / "log") == "K604"
    assert refused(Contribution({"counts": np.zeros(3, np.float32)}, -1), alone, tmp_path / "log") == "K608"
    door.cross(Contribution({"counts": np.zeros(3, np.float32)}, 0), alone, tmp_path / "log")


@pytest.mark.parametrize("metrics", [{"user-17": 1.0}, {"ndcg@10": float("nan")}, {"ndcg@10": "0.2"}])
def test_undeclared_figures_do_not_cross(tmp_path: Path, metrics: dict[str, float]) -> None:
    assert refused(door.Adopted(metrics), POLICY, tmp_path / "log") == "K605"


def test_texts_cross_only_when_the_partner_has_declared_its_catalogue_public(tmp_path: Path) -> None:
    told = Catalogue("p", ("a|b",), ("A. B",), ("en",))
    assert refused(told, door.Policy("p", "catalogue"), tmp_path / "log") == "K606"
    records = door.cross(told, door.Policy("p", "catalogue", catalogue_public=True), tmp_path / "log")
    assert list(reply(records).catalogue.texts) == ["A. B"]


def test_a_secret_catalogue_crosses_as_keyed_hashes_only(tmp_path: Path) -> None:
    assert refused(Catalogue("p", ("a|b",), None, None), door.Policy("p", "catalogue"), tmp_path / "log") == "K607"
    keyed = door.Policy("p", "catalogue", catalogue_public=True, keyed=True)
    assert refused(Catalogue("p", ("a|b",), ("A",), ("en",)), keyed, tmp_path / "log") == "K607"
    hashed = Catalogue("p", ("0" * 32,), None, None)
    assert not reply(door.cross(hashed, door.Policy("p", "catalogue"), tmp_path / "log")).catalogue.public


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("K203", "row 12: user anna@example.org"), "K203"),
        (ValueError("user anna@example.org"), "K799"),
        (KeyError("anna@example.org"), "K799"),
        (SystemExit("anna@example.org"), "K799"),
    ],
)
def test_an_error_crosses_as_its_code_alone(tmp_path: Path, error: BaseException, code: str) -> None:
    records = door.cross(error, POLICY, tmp_path / "log")
    assert reply(records) == wire.Reply(partner="books-de", round=4, code=code)
    assert "anna" not in repr(records)
    assert "anna" not in (tmp_path / "log").read_text()


def test_a_forged_code_cannot_carry_a_message() -> None:
    error = KoinonError("K0", "x")
    error.code = "K203 anna@example.org"
    assert door.error_code(error) == "K799"


def test_what_cannot_be_logged_does_not_leave(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(PrivacyError) as caught:
        door.cross(contribution(), POLICY, tmp_path / "log")
    assert caught.value.code == "K609"


def test_something_that_is_no_payload_does_not_cross(tmp_path: Path) -> None:
    assert refused({"anything": 1}, POLICY, tmp_path / "log") == "K610"  # type: ignore[arg-type]


def test_a_view_does_not_carry_its_base_along(tmp_path: Path) -> None:
    whole = np.arange(1000, dtype=np.float32) / 1e4
    records = door.cross(contribution(counts=whole[5:8]), POLICY, tmp_path / "log")
    assert len(records.array_records["tensors"]["counts"].data) < 200


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3))
def test_values_change_nothing_but_values(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    log = tmp_path_factory.mktemp("door") / "log"
    other = door.cross(contribution(counts=np.array(values, np.float32)), POLICY, log)
    same = door.cross(contribution(), POLICY, log)
    shapes = [
        {n: (a.dtype, a.shape, len(a.data)) for n, a in r.array_records["tensors"].items()} for r in (same, other)
    ]
    assert shapes[0] == shapes[1]
    assert reply(same) == reply(other)


ASKS = door.Policy("books-de", "join")
NODE_KEY = b"ecdsa-sha2-nistp384 " + b"A" * 182 + b"=="


def application(**changes: object) -> joining.Application:
    said = {
        "invitation": "i" * 43, "partner": "books-de", "node_key": NODE_KEY, "member_key": bytes(range(10, 42)),
        "policy_sha256": "a" * 64, "code_sha256": "b" * 64, "koinon_version": "0.1.0", "federation": "k" * 43 + "=",
        "time_ms": 5, "signature": b"\n" * 64,
    }  # fmt: skip
    return joining.Application(**{**said, **changes})


def test_a_join_request_crosses_as_the_bytes_that_are_logged(tmp_path: Path) -> None:
    records = door.cross(application(), ASKS, tmp_path / "log")
    said = records.config_records["request"]["request"]
    assert isinstance(said, bytes)
    assert joining.Application.FromString(said) == application()
    line = json.loads((tmp_path / "log").read_text())
    assert (line["purpose"], line["bytes"]) == ("join", len(said))
    assert set(line["fields"]) == {field.name for field, _ in application().ListFields()}
    assert line["sha256"] == hashlib.sha256(said).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"partner": "somebody-else"},
        {"invitation": "anna@example.org"},
        {"node_key": b"-----BEGIN OPENSSH PRIVATE KEY-----"},
        {"node_key": NODE_KEY + b" anna@laptop"},
        {"node_key": NODE_KEY + b"\n"},
        {"member_key": b"k" * 33},
        {"koinon_version": "0.1.0 on anna's laptop"},
        {"policy_sha256": "A" * 64},
        {"signature": b"s" * 65},
        {"federation": "books"},
    ],
)
def test_a_join_request_says_nothing_but_keys_hashes_and_names(tmp_path: Path, changes: dict[str, object]) -> None:
    assert refused(application(**changes), ASKS, tmp_path / "log") == "K650"


def test_what_no_contract_names_is_not_carried_along(tmp_path: Path) -> None:
    smuggled = joining.LeaveRequest.FromString(
        joining.LeaveRequest(partner="books-de", forget=True).SerializeToString() + b"\xa2\x06\x04anna"
    )
    assert b"anna" in smuggled.SerializeToString()
    said = door.cross(smuggled, ASKS, tmp_path / "log").config_records["request"]["request"]
    assert said == joining.LeaveRequest(partner="books-de", forget=True).SerializeToString()
