"""What a partner deploys from release to release, and what it goes back to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koinon.clients.standby import Fit, Standby, harms, paired

USERS = 200
RNG = np.random.default_rng(11)
OWN = RNG.beta(0.3, 1.2, USERS)


def fit(values: np.ndarray, data: str = "now", own: np.ndarray = OWN) -> Fit:
    return Fit("good/gram", {"run": "1", "manifest": "m1", "data": data}, values, *paired(values, own), False)


class TestHarm:
    """When a new release harms a partner."""

    def test_a_clear_loss_on_the_same_users_does(self) -> None:
        good = OWN + 0.05
        assert harms(good * 0.7, OWN, "now", fit(good))

    def test_a_clear_loss_of_gain_does_where_the_data_have_changed(self) -> None:
        then, own_now = fit(OWN + 0.1, data="then"), RNG.beta(0.3, 1.2, 300)
        assert harms(own_now - 0.05, own_now, "now", then)
        assert not harms(own_now + 0.1, own_now, "now", then)

    def test_a_loss_that_is_sure_but_small_does_not(self) -> None:
        assert not harms((OWN + 0.05) * 0.98, OWN, "now", fit(OWN + 0.05))

    def test_few_users_cannot_tell(self) -> None:
        few = OWN[:29]
        assert not harms(few * 0.1, few, "now", fit(few, own=few))

    def test_a_first_release_cannot_be_told(self) -> None:
        assert not harms(OWN * 0, OWN, "now", None)

    @pytest.mark.parametrize("data", ["now", "then"])
    @pytest.mark.parametrize("users", [30, 200])
    def test_honest_fluctuation_is_rarely_taken_for_it(self, data: str, users: int) -> None:
        """Two releases equally good on the whole, that rank every second user's item a little differently."""
        rng = np.random.default_rng(users)
        false = 0
        for _ in range(2000):
            own, then, now = (_figures(rng, users) for _ in range(3))
            moved = rng.random(users) < 0.5
            # on the same data the same users are asked twice; on others two samples of people are
            new = np.where(moved, now, then) if data == "now" else now
            own_then = np.where(rng.random(users) < 0.5, own, then)
            own_now = np.where(rng.random(users) < 0.5, own, new)
            good = Fit("good/gram", {"data": data}, then, *paired(then, own_then), False)
            false += harms(new, own_now, "now", good)
        assert false / 2000 < 0.005

    def test_a_tenth_lost_on_a_thousand_users_is_found(self) -> None:
        rng = np.random.default_rng(5)
        found = 0
        for _ in range(200):
            then = _figures(rng, 1000)
            new = np.where(rng.random(1000) < 0.2, then * 0.5, then)
            found += harms(new, then, "now", fit(then, own=then))
        assert found / 200 > 0.95


def _figures(rng: np.random.Generator, users: int) -> np.ndarray:
    """NDCG@10 as it is: nought for most, high for few."""
    hit = rng.random(users) < 0.3
    return np.where(hit, 1 / np.log2(2 + rng.integers(0, 10, users)), 0.0)


def write_fit(models: Path, folder: str, **made_of: str) -> None:
    (models / folder).mkdir(parents=True)
    (models / folder / "model.bin").write_text(made_of["run"])
    note = {"made_of": {"data": "d", **made_of}, "validation": [0.1, 0.2], "gain": 0.1, "error": 0.01, "spoiled": False}
    (models / folder / "arm.json").write_text(json.dumps(note))


def deployed(models: Path) -> dict[str, Any]:
    return Standby(models).deployed()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Release 1's model is deployed."""
    write_fit(tmp_path, "gram", run="1", manifest="m1")
    said = {"arm": "gram", "instead_of": "local", "folder": "gram", "release": "m1", "data": "d"}
    Standby(tmp_path).deploy(said)
    return tmp_path


def test_what_is_deployed_makes_room_and_still_answers(models: Path) -> None:
    Standby(models).make_room("gram", "2")
    assert deployed(models)["folder"] == "good/gram"
    assert (models / "good" / "gram" / "model.bin").read_text() == "1"


def test_a_run_asked_again_makes_no_room_for_itself(models: Path) -> None:
    Standby(models).make_room("gram", "1")
    assert deployed(models)["folder"] == "gram"
    assert not (models / "good").exists()


def _second(models: Path, *, deploy: bool) -> None:
    """Release 2 has been fitted; release 1's model stands by."""
    Standby(models).make_room("gram", "2")
    note = json.loads((models / "gram" / "arm.json").read_text())
    note["made_of"] |= {"run": "2", "manifest": "m2"}
    (models / "gram" / "arm.json").write_text(json.dumps(note))
    (models / "gram" / "model.bin").write_text("2")
    if deploy:
        Standby(models).deploy({**deployed(models), "folder": "gram", "release": "m2"})


def test_a_withdrawn_release_gives_way_to_the_last_good_one(models: Path) -> None:
    _second(models, deploy=True)
    assert Standby(models).go_back(lambda manifest: manifest != "m2")
    said = deployed(models)
    assert (said["arm"], said["folder"], said["release"], said["went_back_from"]) == ("gram", "good/gram", "m1", "m2")
    assert not Standby(models).go_back(lambda manifest: manifest != "m2"), "it is heard once"
    Standby(models).make_room("gram", "3")  # what was withdrawn never becomes the good one
    assert (models / "good" / "gram" / "model.bin").read_text() == "1"


def test_where_both_are_withdrawn_the_own_arm_answers(models: Path) -> None:
    _second(models, deploy=True)
    assert Standby(models).go_back(lambda manifest: False)
    assert (deployed(models)["arm"], deployed(models)["folder"]) == ("local", "local")


def test_a_model_of_other_data_is_not_gone_back_to(models: Path) -> None:
    _second(models, deploy=True)
    Standby(models).deploy({**deployed(models), "data": "newer"})
    assert Standby(models).go_back(lambda manifest: manifest != "m2")
    assert deployed(models)["folder"] == "local"


def test_a_withdrawal_of_what_is_not_deployed_changes_nothing(models: Path) -> None:
    _second(models, deploy=False)
    assert not Standby(models).go_back(lambda manifest: manifest != "m2")
    assert deployed(models)["folder"] == "good/gram"


def test_the_deployed_one_stays_the_good_one_while_newer_ones_are_not_better(models: Path) -> None:
    _second(models, deploy=False)
    Standby(models).make_room("gram", "3")
    assert (models / "good" / "gram" / "model.bin").read_text() == "1"


def test_after_a_kill_while_room_was_made_something_whole_is_deployed(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception): ...

    def die(*_: object, **__: object) -> None:
        raise Killed

    for call in ("shutil.copytree", "Path.rename", "shutil.rmtree", "Standby.deploy"):
        with monkeypatch.context() as patch:
            patch.setattr(f"koinon.clients.standby.{call}", die)
            with pytest.raises(Killed):
                Standby(models).make_room("gram", "2")
        assert (models / deployed(models)["folder"] / "model.bin").read_text() == "1"
    Standby(models).make_room("gram", "2")
    assert deployed(models)["folder"] == "good/gram"
