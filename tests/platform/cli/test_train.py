"""``koinon train`` and ``koinon tune``, run as a user runs them, in this process."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from koinon.cli.main import run
from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA
from koinon.recommenders.sequential import HSTUConfig, SASRecConfig


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory):
    """Thirty people, six timed events each, of twenty items."""
    rng = np.random.default_rng(0)
    names = [f"item-{n}" for n in range(20)]
    events = pl.DataFrame(
        {
            "user_id": [f"reader-{user}" for user in range(30) for _ in range(6)],
            "item_id": [names[item] for _ in range(30) for item in rng.permutation(20)[:6]],
            "timestamp": [1_600_000_000_000 + 1000 * n for n in range(180)],
            "kind": ["visit"] * 180,
            "weight": [1.0] * 180,
        }
    ).cast(dict(EVENT_SCHEMA))
    people = pl.DataFrame({"user_id": [f"reader-{user}" for user in range(30)]})
    root = tmp_path_factory.mktemp("shops") / "shop"
    Vault.create(
        root, PartnerConfig.model_validate({"name": "shop"}), Tables(item_table(names, names, names), events, people)
    )
    return root


SMALL = "length = 8\nwidth = 8\nepochs = 2\nbatch_users = 16\nnegatives = 4\n"


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", ["hstu", "sasrec"])
def test_a_network_is_trained_measured_and_kept(shop_folder, tmp_path, capsys, name):
    config, out = tmp_path / "small.toml", tmp_path / "out"
    config.write_text(SMALL)
    command = ["train", str(shop_folder), "-r", name, "-c", str(config), "-o", str(out)]
    command += ["--protocol", "leave-last-out", "--json"]
    assert run(command) == 0
    *epochs, report = lines_of(capsys)
    assert [line["epoch"] for line in epochs if line["phase"] == "early stop"] == [1, 2]
    assert all(line["metric"] is not None for line in epochs if line["phase"] == "early stop")
    assert report["config"]["epochs"] == report["best_epoch"]
    assert report["counts"]["events"] == 30 * 5  # all but the test
    assert 0 <= report["test"]["ndcg@10"]["mean"] <= 1
    assert report["test_at_target_time"]["ndcg@10"]["n"] == 30
    assert json.loads((out / "report.json").read_text())["test"] == report["test"]
    assert (out / "recommender.json").exists()
    assert run(command) == 0  # once more: everything is there already
    again = lines_of(capsys)
    assert [line["event"] for line in again] == ["report"]
    assert again[0]["test"] == report["test"]


def test_a_closed_form_goes_the_same_way(shop_folder, tmp_path, capsys):
    assert run(["train", str(shop_folder), "-r", "ease", "-o", str(tmp_path / "ease")]) == 0
    said = capsys.readouterr().out
    assert "ease on shop" in said
    assert "at the time of the request" in said


def test_another_configuration_in_the_same_folder_is_refused(shop_folder, tmp_path, capsys):
    command = ["train", str(shop_folder), "-r", "sasrec", "-o", str(tmp_path), "--once", "--protocol", "leave-last-out"]
    assert run([*command, "--epochs", "1"]) == 0
    assert run([*command, "--epochs", "1", "--seed", "1"]) == 5
    assert "K471" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["-r", "sasrek", "--dataset", "ml-100k"], ["-r", "sasrec"], ["-r", "ease", "--epochs", "3", "--dataset", "x"]],
)
def test_a_wrong_command_line_is_said_to_be_wrong(tmp_path, wrong):
    assert run(["train", "-o", str(tmp_path), *wrong]) == 2


def test_tuning_gives_every_recommender_its_trials_and_keeps_the_command(shop_folder, tmp_path, capsys):
    out = tmp_path / "tuned"
    command = ["tune", str(shop_folder), "-r", "popularity", "-r", "sasrec", "-r", "hstu", "--budget", "2"]
    assert run([*command, "--epochs", "1", "--protocol", "leave-last-out", "-o", str(out), "--json"]) == 0
    *trials, result = lines_of(capsys)
    assert [trial["recommender"] for trial in trials] == ["popularity"] * 2 + ["sasrec"] * 2 + ["hstu"] * 2
    assert result["recommenders"]["sasrec"]["value"] == max(t["value"] for t in trials[2:4])
    for name, kind in (("sasrec", SASRecConfig), ("hstu", HSTUConfig)):
        assert "# Found by: koinon" in (out / f"{name}.toml").read_text()
        assert kind.from_toml(out / f"{name}.toml").epochs == 1
    assert len(pl.read_json(out / "trials.json")) == 6


def test_tuning_goes_on_where_it_was_interrupted(shop_folder, tmp_path, capsys):
    command = ["tune", str(shop_folder), "-r", "ials", "-r", "bpr", "-o", str(tmp_path), "--json"]
    assert run([*command, "--budget", "2"]) == 0
    first = lines_of(capsys)[:-1]
    assert [trial["recommender"] for trial in first] == ["ials"] * 2 + ["bpr"] * 2
    assert run([*command, "--budget", "3"]) == 0
    *second, result = lines_of(capsys)
    assert [second[n] for n in (0, 1, 3, 4)] == first, "a trial that was kept has the seconds it took then"
    assert {name: found["trials"] for name, found in result["recommenders"].items()} == {"ials": 3, "bpr": 3}
    assert len(list((tmp_path / "trials").iterdir())) == 6
