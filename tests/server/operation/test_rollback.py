"""A release that harms a partner is deployed by nobody, withdrawn by itself, and the last good one counts again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koinon.data import Vault
from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, read_lines
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.recommenders.federated.identities import catalogue_of, look_up
from koinon.recommenders.federated.popularity import PopularityPlan
from koinon.recommenders.protocol import Release
from koinon.server import FederationConfig
from koinon.server.operation.watch import DRIFT, GAIN, HARM, Alarm, History, RunSeen, Watch, alarms, gain, harmful
from koinon.server.place import Place
from koinon.server.record import KEY_FILE

Make = Callable[..., Any]
LEARNER = "federated_popularity"


@pytest.fixture
def shops(make_shop: Make) -> list[Path]:
    """Two large shops, and a small one that has much to gain from them."""
    sizes = {"alpha": (0, 600), "beta": (1, 600), "gamma": (4, 40)}
    return [make_shop(name, seed=seed, users=users, works=120) for name, (seed, users) in sizes.items()]


@pytest.fixture
def train(federation: Make, grid_of: Make, coordinate: Make, tmp_path: Path) -> Callable[..., Any]:
    """Train once more with all shops, which have pinned the server's key; gives the run's events."""

    def once(shops: list[Path]) -> list[dict[str, Any]]:
        deadlines = {"join": 0.5, "catalogue": 30, "contribute": 30, "adopt": 60}
        config: FederationConfig = federation(shops, deadlines=deadlines)
        before, grid = _events(tmp_path), grid_of(config, adopting=True)
        for node in grid.nodes.values():
            node["ledger_key"] = Signer.open(tmp_path / KEY_FILE).key
        events: list[dict[str, Any]] = coordinate(config, grid, tmp_path).events
        return events[before:]

    return once


def _events(out: Path) -> int:
    path = out / "events.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def _deployed(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((folder / "models" / "deployed.json").read_text())
    return said


def _poison(patch: pytest.MonkeyPatch, works: Callable[[Release], Any] = lambda _: slice(None)) -> None:
    """Let the server publish the counts of works upside down: what most people take is recommended last."""
    honest = PopularityPlan.aggregate

    def upside_down(self: PopularityPlan, release: Release, total: Any) -> Release:
        made = honest(self, release, total)
        counts, chosen = made.arrays["counts"].copy(), works(made)
        counts[chosen] = counts[chosen].max() - counts[chosen]
        return Release(made.number, made.recommender, {**made.arrays, "counts": counts}, made.info)

    patch.setattr(PopularityPlan, "aggregate", upside_down)


def _only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_poisoned_release_is_withdrawn_and_a_good_one_is_kept(
    shops: list[Path], train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gamma = shops[2]
    assert not _only(train(shops), "alarm")
    assert _deployed(gamma)["arm"] == LEARNER, "the small shop gains"
    assert not _only(train(shops), "alarm"), "an equal release harms nobody"
    good = _deployed(gamma)
    values = json.loads((gamma / "models" / good["folder"] / "arm.json").read_text())["validation"]

    with monkeypatch.context() as patch:
        _poison(patch)
        events = train(shops)
    assert {e["partner"] for e in _only(events, "alarm") if e["code"] == HARM} == {"alpha", "beta", "gamma"}
    assert [(e["learner"], e["release"], e["back_to"]) for e in _only(events, "withdrawn")] == [(LEARNER, 3, 2)]
    after = _deployed(gamma)
    assert (after["arm"], after["folder"]) == (LEARNER, f"good/{LEARNER}"), "what was deployed still is"
    assert json.loads((gamma / "models" / after["folder"] / "arm.json").read_text())["validation"] == values
    with Place.find(tmp_path).books() as (ledger, releases):
        (entry,) = ledger.entries(kind=Kind.RELEASE_ROLLED_BACK)
        assert (entry.subject, entry.body["number"], entry.body["reason"]) == (LEARNER, 3, "harm")
        codes = {(e.subject, e.body["code"]) for e in ledger.entries(kind=Kind.ANOMALY)}
        assert codes >= {("alpha", HARM), ("beta", HARM), ("gamma", HARM)}
        last = releases.last_good(LEARNER)
        assert last is not None
        assert last.manifest.number == 2

    # an honest release comes after it and is adopted as ever
    assert not _only(train(shops), "withdrawn")
    assert [seen.withdrawn for seen in History(tmp_path).runs()] == [(), (), (LEARNER,), ()]
    assert not json.loads((gamma / "models" / LEARNER / "arm.json").read_text())["spoiled"]


def test_a_partner_that_a_harmful_release_did_no_harm_goes_back_too(
    make_shop: Make, train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poisoned are the works of delta and epsilon alone; gamma, which shares none of them, has deployed the release."""
    described = {"alpha": (0, 600, 0), "gamma": (4, 40, 0), "delta": (5, 300, 1000), "epsilon": (6, 300, 1000)}
    shops = [make_shop(n, seed=s, users=u, first=f, works=120) for n, (s, u, f) in described.items()]
    gamma = shops[1]
    train(shops)
    train(shops)
    good = _deployed(gamma)
    assert (good["arm"], good["folder"]) == (LEARNER, LEARNER)
    keys = catalogue_of("delta", Vault(shops[2]).tables().items, public=True).keys
    with monkeypatch.context() as patch:
        _poison(patch, lambda release: look_up(release.arrays["hashes"], release.arrays["identity"], keys))
        events = train(shops)
    assert {e["partner"] for e in _only(events, "alarm")} == {"delta", "epsilon"}
    assert [e["release"] for e in _only(events, "withdrawn")] == [3]
    after = _deployed(gamma)
    assert (after["arm"], after["folder"]) == (LEARNER, f"good/{LEARNER}")
    with Place.find(tmp_path).books() as (_, releases):
        assert after["release"] == releases.releases()[1].sha256 == good["release"]
        assert after["went_back_from"] == releases.releases()[2].sha256
    last = list(read_lines(gamma / "federation" / "ledger.jsonl"))[-1]
    assert isinstance(last, Entry)
    assert last.kind == "release_rolled_back", "the partner's own copy says why"


def test_one_harmed_partner_is_enough_unless_the_operator_asks_for_more() -> None:
    seen = (Alarm("alpha", HARM, "a"), Alarm("alpha", HARM, "b"), Alarm("beta", HARM, "b"), Alarm("beta", DRIFT))
    assert harmful(seen, Watch()) == ("a", "b")
    assert harmful(seen, Watch(harmed_partners=2)) == ("b",)
    assert harmful(seen, Watch(roll_back=False)) == ()


def test_alarms_are_raised_for_harm_drift_and_a_lost_gain() -> None:
    before = {"alpha": {"ndcg@10/local_space": 0.2, "ndcg@10/federated": 0.26}}
    now = {
        "alpha": {"ndcg@10/local_space": 0.2, "ndcg@10/federated": 0.21, "drift": 1.0, "harm/a": 0.0},
        "beta": {"ndcg@10/local": 0.2, "ndcg@10/federated": 0.2, "drift": 0.0, "harm/a": 1.0},
    }
    assert alarms(now, before, Watch()) == (Alarm("alpha", GAIN), Alarm("alpha", DRIFT), Alarm("beta", HARM, "a"))
    assert alarms(now, {}, Watch(gain_fall=0.5)) == (Alarm("alpha", DRIFT), Alarm("beta", HARM, "a"))
    assert alarms({"alpha": {}}, before, Watch()) == ()


def test_gain_is_what_is_deployed_over_the_partners_own_arm() -> None:
    assert gain({"ndcg@10/local": 0.1, "ndcg@10/local_space": 0.2, "ndcg@10/federated": 0.25}) == pytest.approx(0.25)
    assert gain({"ndcg@10/local": 0.2, "ndcg@10/federated": 0.1}) == pytest.approx(-0.5)
    assert gain({"ndcg@10/local": 0.0, "ndcg@10/federated": 0.1}) is None
    assert gain({}) is None


def test_history_survives_a_kill_and_names_damage(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.runs() == []
    history.add(RunSeen("one", "t1", {"a": 1}, {"alpha": {"drift": 1.0}}, {}, (Alarm("alpha", DRIFT),)))
    history.add(RunSeen("two", "t2", {"a": 2}, {}))
    history.add(RunSeen("one", "t3", {"a": 1}, {}, {"beta": "K701"}, (), ("a",)))
    with history.path.open("ab") as file:
        file.write(b'{"run": "thr')
    found = history.runs()
    assert [(seen.run, seen.time, seen.withdrawn) for seen in found] == [("two", "t2", ()), ("one", "t3", ("a",))]
    history.path.write_bytes(b'{"run": 1}\n')
    with pytest.raises(FederationError, match="K710"):
        history.runs()
