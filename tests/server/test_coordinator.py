"""The federation's course, with real partners in this process: who takes part, what goes wrong, what is resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from koinon.data import Tables, Vault
from koinon.errors import FederationError
from koinon.protos import federation_pb2 as wire
from koinon.server import FederationConfig, read_release
from koinon.server.checkpoints import Checkpoints

Make = Callable[..., Any]


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    return [make_shop(name, seed=seed, first=10 * seed) for seed, name in enumerate(("alpha", "beta", "gamma"))]


def only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_run_trains_publishes_and_lets_every_partner_choose(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    ran = coordinate(config, grid_of(config, adopting=True), tmp_path)
    assert [e["round"] for e in only(ran.events, "round")] == [1, 2]
    assert all(e["participants"] == ["alpha", "beta", "gamma"] for e in only(ran.events, "round"))
    assert {e["partner"] for e in only(ran.events, "adopted")} == {"alpha", "beta", "gamma"}
    release = read_release(tmp_path / "releases" / "0001")
    assert (release.recommender, release.number) == ("federated_popularity", 2)
    manifest = json.loads((tmp_path / "releases" / "0001" / "manifest.json").read_text())
    assert manifest["policy_sha256"] == config.policy_sha256()
    assert not (tmp_path / "scratch").exists()
    assert (shops[0] / "models" / "deployed.json").is_file()


def test_every_message_holds_only_declared_tensors_and_figures(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    ran = coordinate(config, grid_of(config, adopting=True), tmp_path)
    assert {m.metadata.message_type for m in ran.grid.received} == {
        "query.catalogue",
        "train.contribute",
        "train.adopt",
    }
    for message in ran.grid.received:
        content = message.content
        assert set(content) <= {"reply", "tensors"}
        assert list(content.config_records["reply"]) == ["reply"]
        reply = wire.Reply.FromString(content.config_records["reply"]["reply"])
        assert set(reply.metrics) <= set(config.metrics)
        assert not reply.code
        for name, array in content.array_records.get("tensors", {}).items():
            assert (name, array.dtype, array.shape) == ("counts", "float32", (40,))


def test_changing_events_changes_values_and_nothing_else(
    make_shop: Make, federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    def shapes_and_values(seed: int) -> tuple[list[object], list[bytes]]:
        folders = [make_shop("alpha", seed=seed, users=60 + seed), make_shop("beta", seed=1, first=5)]
        config = federation(folders)
        ran = coordinate(config, grid_of(config), tmp_path / str(seed))
        sent = [m for m in ran.grid.received if "tensors" in m.content]
        arrays = [(n, a) for m in sent for n, a in m.content.array_records["tensors"].items()]
        return [(n, a.dtype, a.shape, len(a.data)) for n, a in arrays], [a.data for _, a in arrays]

    shapes, values = shapes_and_values(0)
    other_shapes, other_values = shapes_and_values(40)
    assert shapes == other_shapes
    assert values != other_values


def test_a_partner_with_a_fault_is_left_out_and_named(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    (shops[2] / "vault" / "vault.json").write_text("{")
    ran = coordinate(config, grid_of(config), tmp_path)
    assert only(ran.events, "left_out")[0]["code"] == "K209"
    assert all(e["participants"] == ["alpha", "beta"] for e in only(ran.events, "round"))
    assert all(e["left_out"] == {"gamma": "K702"} for e in only(ran.events, "round"))


def test_a_partner_that_falls_silent_is_late_and_the_round_goes_on(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)

    def silent(node: int, message: Any) -> bool:
        return node == 102 and message.metadata.message_type == "train.contribute"

    ran = coordinate(config, grid_of(config, silent=silent), tmp_path)
    assert all(e["left_out"] == {"gamma": "K701"} for e in only(ran.events, "round"))


def test_final_releases_go_to_few_partners_at_a_time_where_they_share_a_machine(
    make_shop: Make, federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    shops = [make_shop(name, seed=seed) for seed, name in enumerate(("a", "b", "c", "d", "e"))]
    config = federation(shops, at_once=1, deadlines={"join": 0.5, "catalogue": 5, "contribute": 5, "adopt": 0.3})
    grid = grid_of(config)  # nobody answers, so a place is free after the deadline only
    ran = coordinate(config, grid, tmp_path)
    late = [e for e in only(ran.events, "left_out") if e["phase"] == "adopt"]
    assert [e["code"] for e in late] == ["K701"] * 5
    sent = [m.metadata.created_at for m in grid.sent if m.metadata.message_type == "train.adopt"]
    assert sent[1] - sent[0] < 0.3 <= sent[2] - sent[0]
    assert sent[4] - sent[0] >= 0.6


def test_too_few_answers_end_the_run_with_one_clear_error(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops, minimum_participants=3)
    with pytest.raises(FederationError, match=r"K704.*beta \(K701\)"):
        coordinate(
            config,
            grid_of(config, silent=lambda node, m: node == 101 and m.metadata.message_type == "train.contribute"),
            tmp_path,
        )
    assert not list(tmp_path.rglob("*.safetensors.*"))


def test_a_stranger_is_not_let_in(
    shops: list[Path], make_shop: Make, federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops[:2])
    grid = grid_of(config)
    stranger = make_shop("mallory")
    grid.nodes[500] = {"partner": "mallory", "folder": str(stranger), "policy": config.policy_sha256()}
    ran = coordinate(config, grid, tmp_path)
    assert only(ran.events, "left_out")[0]["code"] == "K705"
    assert all(e["participants"] == ["alpha", "beta"] for e in only(ran.events, "round"))


def test_an_interrupted_run_goes_on_and_ends_in_the_same_release(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    learners = [{"name": "federated_popularity", "settings": {"rounds": 5, "memory": 0.5}}]
    config: FederationConfig = federation(shops, learners=learners)
    coordinate(config, grid_of(config), tmp_path / "whole")

    class PowerCut(Exception):
        pass

    asked: list[object] = []

    def cut(node: int, message: Any) -> bool:
        asked.append(message)
        if len(asked) == 3 + 2 * 3 + 2:  # catalogues, two rounds, two of three answers of the third
            raise PowerCut
        return False

    with pytest.raises(PowerCut):
        coordinate(config, grid_of(config, silent=cut), tmp_path / "cut")
    assert Checkpoints(tmp_path / "cut").load("federated_popularity").release.number == 2  # type: ignore[union-attr]
    ran = coordinate(config, grid_of(config), tmp_path / "cut")
    assert only(ran.events, "resumed")
    assert [e["round"] for e in only(ran.events, "round")] == [1, 2, 3, 4, 5]
    whole, resumed = (read_release(tmp_path / name / "releases" / "0001") for name in ("whole", "cut"))
    assert {n: a.tobytes() for n, a in whole.arrays.items()} == {n: a.tobytes() for n, a in resumed.arrays.items()}


def test_another_policy_begins_another_run_and_keeps_earlier_releases(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    for weight in (0.25, 0.75):
        learners = [{"name": "federated_popularity", "settings": {"weight": weight}}]
        config = federation(shops, learners=learners)
        coordinate(config, grid_of(config), tmp_path)
    assert [folder.name for folder in sorted((tmp_path / "releases").iterdir())] == ["0001", "0002"]


def test_a_partner_refuses_a_policy_its_operator_has_not_accepted(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    config = federation(shops)
    grid = grid_of(config)
    grid.nodes[100]["policy"] = "0" * 64
    ran = coordinate(config, grid, tmp_path)
    assert only(ran.events, "left_out")[0]["code"] == "K611"
    assert "not the one accepted" in (shops[0] / "federation" / "errors.log").read_text()


def test_the_error_of_a_partner_reaches_nobody_but_the_partner(
    shops: list[Path], federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    reader = "beta-reader-13"
    vault = Vault(shops[1])
    tables = vault.tables()
    half_timed = tables.events.with_columns(
        pl.when(pl.col("user_id") == reader).then(pl.datetime(2020, 1, 1, time_zone="UTC")).alias("timestamp")
    ).with_columns(pl.col("timestamp").cast(tables.events.schema["timestamp"]))
    Vault.create(shops[1], vault.config, Tables(tables.items, half_timed, tables.users))
    config = federation(shops)
    ran = coordinate(config, grid_of(config), tmp_path)
    assert all(e["left_out"] == {"beta": "K251"} for e in only(ran.events, "round"))
    assert "K251" in (shops[1] / "federation" / "errors.log").read_text()
    assert not any("reader" in repr(message) for message in ran.grid.received)
    assert "reader" not in (tmp_path / "events.jsonl").read_text()


def test_keyed_catalogues_match_without_readable_keys(
    make_shop: Make, federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path
) -> None:
    folders = [make_shop("alpha", public=False), make_shop("beta", seed=1, first=10)]
    for folder in folders:
        (folder / "match.key").write_text("ab" * 32)
        (folder / "match.key").chmod(0o600)
    config = federation(folders, keyed_catalogues=True)
    ran = coordinate(config, grid_of(config), tmp_path)
    catalogues = [
        wire.Reply.FromString(m.content.config_records["reply"]["reply"]).catalogue for m in ran.grid.received
    ]
    alpha, beta = (next(c for c in catalogues if c.keys and c.public == public) for public in (False, True))
    assert not alpha.texts
    assert not any("work" in key for key in (*alpha.keys, *beta.keys))
    assert len(read_release(tmp_path / "releases" / "0001").arrays["counts"]) == 30
    assert not any(b"ab" * 32 in repr(m).encode() for m in ran.grid.received)


def test_sums_are_read_one_partner_at_a_time(tmp_path: Path) -> None:
    from koinon.recommenders.protocol import Contribution
    from koinon.server.gathering.opened import Contributions

    gathered = Contributions(tmp_path / "scratch")
    for name in ("b", "a"):
        gathered.put(name, Contribution({"x": np.full(3, ord(name), np.float32)}, 2, {"m": 1.0}))
    assert list(gathered) == ["a", "b"]
    assert gathered["a"].arrays["x"][0] == ord("a")
    assert gathered["a"] is not gathered["a"], "nothing is kept in memory"
    shutil.rmtree(tmp_path / "scratch")
