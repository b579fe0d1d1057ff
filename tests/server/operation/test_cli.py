"""``koinon federation schedule`` and ``health``, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koinon.cli.main import run
from koinon.server.federation import Terms
from koinon.server.membership import FederationHome, HostConfig
from koinon.server.operation.schedule import Progress, Schedule
from koinon.server.operation.watch import DRIFT, HARM, Alarm, History, RunSeen

Say = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> FederationHome:
    terms = Terms.from_dict({"name": "shops", "learners": [{"name": "federated_popularity"}], "encoder": "none"})
    settings = HostConfig(address="127.0.0.1", port=9440, join_port=9441)
    return FederationHome.create(tmp_path / "fed", terms, settings)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Say:
    def say(*arguments: str, status: int = 0) -> Any:
        assert run(["federation", *arguments]) == status
        captured = capsys.readouterr()
        return captured.out if status == 0 else captured.err

    return say


def test_a_schedule_is_set_shown_and_taken_off(home: FederationHome, said: Say) -> None:
    folder = str(home.folder)
    assert "Nothing is scheduled" in said("schedule", folder, "--show")
    out = said("schedule", folder, "--every", "7d", "--at-least", "5", "--until", "2099-01-01")
    assert all(word in out for word in ("7d", "5", "2099-01-01T00:00Z", "Next"))
    shown = json.loads(said("schedule", folder, "--show", "--json"))
    assert (shown["every"], shown["at_least"], shown["failures"]) == ("7d", 5, 0)
    plan = Schedule.of(home.folder)
    assert plan is not None
    assert shown["next"] == (plan.since + plan.interval).isoformat(timespec="minutes").replace("+00:00", "Z")
    said("schedule", folder, "--every", "daily 03:00")
    assert json.loads(said("schedule", folder, "--show", "--json"))["next"].endswith("T03:00Z")
    assert "Nothing is scheduled" in said("schedule", folder, "--off")
    assert Schedule.of(home.folder) is None


def test_failures_are_shown(home: FederationHome, said: Say) -> None:
    said("schedule", str(home.folder), "--every", "12h")
    Progress(failures=2, code="K704").save(home.folder)
    out = said("schedule", str(home.folder), "--show")
    assert "K704" in out
    assert "Failures in a row   2" in out


@pytest.mark.parametrize("wrong", [[], ["--every", "soon"], ["--show", "--off"], ["--off", "--at-least", "3"]])
def test_what_makes_no_sense_is_refused(home: FederationHome, said: Say, wrong: list[str]) -> None:
    assert "K797" in said("schedule", str(home.folder), *wrong, status=8)


def test_health_shows_each_partners_gain_and_what_stood_out(home: FederationHome, said: Say) -> None:
    folder = str(home.folder)
    assert "No run" in said("health", folder)
    home.out.mkdir()
    good = {"ndcg@10/local_space": 0.2, "ndcg@10/federated": 0.25}
    History(home.out).add(RunSeen("one", "2027-01-01T03:00:00+00:00", {"gram": 1}, {"alpha": good}, {"beta": "K701"}))
    seen = (Alarm("alpha", HARM, "gram"), Alarm("beta", DRIFT))
    worse = {"alpha": {**good, "ndcg@10/federated": 0.2}, "beta": {}}
    History(home.out).add(RunSeen("two", "2027-01-08T03:00:00+00:00", {"gram": 2}, worse, {}, seen, ("gram",)))
    out = said("health", folder)
    first, second, third, fourth = out.splitlines()[1:]
    assert all(word in first for word in ("2027-01-01 03:00", "1 gram", "alpha", "0.2000", "0.2500", "+25.0%"))
    assert "left out (K701)" in second
    assert all(word in third for word in ("2 gram (withdrawn)", "+0.0%", "the release harms it"))
    assert "its data have drifted" in fourth
    told = json.loads(said("health", folder, "--json", "--last", "1"))
    assert [seen["run"] for seen in told] == ["two"]
    assert told[0]["alarms"][0] == {"partner": "alpha", "code": HARM, "learner": "gram"}
    assert told[0]["gain"] == {"alpha": 0.0, "beta": None}


def test_schedule_and_history_are_in_a_backup(home: FederationHome, said: Say, tmp_path: Path) -> None:
    said("schedule", str(home.folder), "--every", "7d")
    home.out.mkdir()
    History(home.out).add(RunSeen("one", "t", {}, {}))
    said("backup", str(home.folder), str(tmp_path / "fed.backup"))
    said("restore", str(tmp_path / "fed.backup"), str(tmp_path / "again"))
    assert Schedule.of(tmp_path / "again") == Schedule.of(home.folder)
    assert [seen.run for seen in History(tmp_path / "again" / "training").runs()] == ["one"]
