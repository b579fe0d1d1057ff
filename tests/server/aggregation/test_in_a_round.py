"""What a coordinator does with a partner that sends something else than its people's sums: out, named, on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord

from koinon.protos import federation_pb2 as wire
from koinon.server import read_release
from koinon.server.record import LEDGER_FILE
from koinon.server.state.store import open_store

Make = Callable[..., Any]
Tamper = Callable[[np.ndarray], "np.ndarray | dict[str, np.ndarray]"]


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]


def gamma_sends(grid: Any, tamper: Tamper | None = None, reply: Callable[[wire.Reply], None] | None = None) -> None:
    """From now on gamma's node changes its tensors, or what it says beside them."""
    pull = grid.pull_messages

    def changed(ids: Any) -> Any:
        found = pull(ids)
        for message in found:
            said = wire.Reply.FromString(message.content.config_records["reply"]["reply"])
            if said.partner != "gamma" or "tensors" not in message.content:
                continue
            if tamper is not None:
                sent = tamper(message.content.array_records["tensors"]["counts"].numpy().copy())
                arrays = sent if isinstance(sent, dict) else {"counts": sent}
                message.content["tensors"] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
            if reply is not None:
                reply(said)
                message.content["reply"] = ConfigRecord({"reply": said.SerializeToString()})
        return found

    grid.pull_messages = changed


def with_one(index: int, value: float) -> Tamper:
    def tamper(array: np.ndarray) -> np.ndarray:
        array[index] = value
        return array

    return tamper


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (with_one(20, np.nan), "K786"),
        (with_one(20, -np.inf), "K786"),
        (with_one(20, 61.0), "K787"),
        (with_one(20, -1.0), "K787"),
        (lambda a: (a * 1e9).astype(np.float32), "K787"),
        (with_one(0, 1.0), "K789"),
        (lambda a: a[:-1], "K785"),
        (lambda a: a.reshape(2, -1), "K785"),
        (lambda a: a.astype(np.float64), "K785"),
        (lambda a: {"other": a}, "K785"),
        (lambda a: {"counts": a, "more": a}, "K785"),
        (lambda a: {}, "K785"),
    ],
    ids=[
        "nan",
        "inf",
        "too-many",
        "negative",
        "huge",
        "unlisted",
        "short",
        "reshaped",
        "dtype",
        "name",
        "one-more",
        "none",
    ],
)
def test_sums_that_cannot_be_are_left_out_and_named(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path, tamper: Tamper, code: str
) -> None:
    config = federation(shops, learners=[{"name": "federated_popularity"}])
    grid = grid_of(config)
    gamma_sends(grid, tamper)
    ran = coordinate(config, grid, tmp_path)
    (finished,) = [event for event in ran.events if event["event"] == "round"]
    assert finished["left_out"] == {"gamma": code}
    assert finished["participants"] == ["alpha", "beta"]
    honest = coordinate(
        config, grid_of(config, silent=lambda node, m: node == 102 and "train" in str(m.metadata)), tmp_path / "2"
    )
    one, two = (read_release(out / "releases" / "0001") for out in (ran.out, honest.out))
    assert np.array_equal(one.arrays["counts"], two.arrays["counts"])


def test_an_answer_to_another_round_is_stale(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    grid = grid_of(config)
    gamma_sends(grid, reply=lambda said: setattr(said, "round", 1))
    rounds = [e for e in coordinate(config, grid, tmp_path).events if e["event"] == "round"]
    assert [event["left_out"] for event in rounds] == [{}, {"gamma": "K790"}]


def test_a_partner_may_not_claim_more_people_later(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    grid = grid_of(config)
    gamma_sends(grid, reply=lambda said: setattr(said, "users", said.users * said.round))
    rounds = [e for e in coordinate(config, grid, tmp_path).events if e["event"] == "round"]
    assert [event["left_out"] for event in rounds] == [{}, {"gamma": "K788"}]


def test_who_was_refused_is_in_the_ledger(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    grid = grid_of(config)
    gamma_sends(grid, with_one(20, 1e6))
    coordinate(config, grid, tmp_path)
    from koinon.privacy.ledger.kinds import Kind
    from koinon.privacy.signing import Signer
    from koinon.server.record import KEY_FILE
    from koinon.server.state.ledger_book import LedgerBook

    book = LedgerBook(open_store(tmp_path / LEDGER_FILE), Signer.open(tmp_path / KEY_FILE))
    entry = book.last(Kind.ANOMALY, "gamma")
    assert entry is not None
    assert (entry.body["code"], entry.body["learner"], entry.body["round"]) == ("K787", "federated_popularity", 2)
    assert book.last(Kind.ANOMALY, "alpha") is None


@pytest.mark.parametrize("rule", ["bounded", "median", "trimmed_mean", "krum"])
def test_every_rule_runs_and_says_who_looks_odd(
    make_shop: Make, federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path, rule: str
) -> None:
    alike = [make_shop(name, seed=seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]
    config = federation(alike, aggregation=rule, learners=[{"name": "federated_gram"}])
    ran = coordinate(config, grid_of(config), tmp_path)
    rounds = [event for event in ran.events if event["event"] == "round"]
    assert [event["participants"] for event in rounds] == [["alpha", "beta", "gamma"]] * 2
    looked_at = {(a["partner"], a["tensor"]) for event in rounds for a in event["anomalies"]}
    assert {("beta", "counts"), ("beta", "pairs")} <= looked_at
    assert not any(a["codes"] for event in rounds for a in event["anomalies"])


def test_a_shop_whose_people_take_other_works_is_flagged_and_stays_in(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    """Each of these shops sells best what the others hardly sell: that is for the operator to look at."""
    config = federation(shops, learners=[{"name": "federated_popularity"}])
    ran = coordinate(config, grid_of(config), tmp_path)
    (finished,) = [event for event in ran.events if event["event"] == "round"]
    assert finished["participants"] == ["alpha", "beta", "gamma"]
    assert any(a["codes"] for a in finished["anomalies"])


def test_rules_that_compare_partners_are_refused_under_a_privacy_budget(shops: list[Path], federation: Make) -> None:
    with pytest.raises(ValueError, match="noise drowns"):
        federation(
            shops,
            aggregation="krum",
            metrics=[],
            privacy={"epsilon": 4.0, "delta": 1e-6, "people": 1000, "partners": 3},
        )
