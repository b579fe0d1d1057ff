"""``koinon click``, run as a user runs it, in this process."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from koinon.cli.main import run
from koinon.data import PartnerConfig, Tables, Vault
from koinon.data.building import item_table
from koinon.data.tables import EVENT_SCHEMA


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory):
    """Thirty people, ten timed ratings each, of twenty items; even items are good."""
    rng = np.random.default_rng(0)
    names = [f"item-{n}" for n in range(20)]
    taken = np.concatenate([rng.permutation(20)[:10] for _ in range(30)])
    events = pl.DataFrame(
        {
            "user_id": [f"reader-{user}" for user in range(30) for _ in range(10)],
            "item_id": [names[item] for item in taken],
            "timestamp": [1_600_000_000_000 + 1000 * int(n) for n in rng.permutation(300)],
            "kind": ["rating"] * 300,
            "weight": [float(np.clip(rng.integers(1, 4) + 2 * (item % 2 == 0), 1, 5)) for item in taken],
        }
    ).cast(dict(EVENT_SCHEMA))
    people = pl.DataFrame({"user_id": [f"reader-{user}" for user in range(30)], "town": ["here", "there"] * 15})
    root = tmp_path_factory.mktemp("shops") / "shop"
    shop = PartnerConfig.model_validate({"name": "shop"})
    Vault.create(root, shop, Tables(item_table(names, names, names), events, people))
    return root


SMALL = "width = 4\nhidden = [8]\nepochs = 2\nbatch_rows = 64\n"


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_models_are_trained_measured_and_held_against_each_other(shop_folder, tmp_path, capsys):
    config = tmp_path / "small.toml"
    config.write_text(SMALL)
    train = ["click", "train", str(shop_folder), "--json"]
    assert run([*train, "-m", "dcnv2", "-c", str(config), "-o", str(tmp_path / "dcnv2")]) == 0
    *epochs, report = lines_of(capsys)
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert report["rows"]["test"] > 0
    assert 0 <= report["test"]["auc"]["mean"] <= 1
    assert json.loads((tmp_path / "dcnv2" / "report.json").read_text())["config"]["width"] == 4
    assert run([*train, "-m", "logistic", "-o", str(tmp_path / "logistic")]) == 0
    capsys.readouterr()
    compare = ["click", "compare", str(tmp_path / "logistic"), str(tmp_path / "dcnv2"), "--directory", str(shop_folder)]
    assert run([*compare, "--json"]) == 0
    (gains,) = lines_of(capsys)
    other = json.loads((tmp_path / "logistic" / "report.json").read_text())
    wanted = other["test"]["auc"]["mean"] - report["test"]["auc"]["mean"]
    assert gains["auc"]["gain"] == pytest.approx(wanted, abs=1e-9)
    assert run(compare) == 0
    assert "auc:" in capsys.readouterr().out


def test_another_configuration_on_the_same_folder_is_refused(shop_folder, tmp_path, capsys):
    config = tmp_path / "small.toml"
    config.write_text(SMALL)
    train = [
        "click",
        "train",
        str(shop_folder),
        "-m",
        "deepfm",
        "-c",
        str(config),
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    assert run(train) == 0
    config.write_text(SMALL.replace("width = 4", "width = 8"))
    capsys.readouterr()
    assert run(train) == 5
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "K471"


def test_people_without_both_labels_are_refused(shop_folder, tmp_path, capsys):
    train = ["click", "train", str(shop_folder), "-m", "logistic", "-o", str(tmp_path), "--liked-above", "5", "--json"]
    assert run(train) == 5
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "K421"


def test_a_model_that_was_not_trained_is_named(shop_folder, tmp_path, capsys):
    compare = ["click", "compare", str(tmp_path), str(tmp_path), "--directory", str(shop_folder), "--json"]
    assert run(compare) == 5
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "K410"


def test_an_unknown_model_is_refused_with_those_there_are(shop_folder, tmp_path, capsys):
    assert run(["click", "train", str(shop_folder), "-m", "oracle", "-o", str(tmp_path)]) == 2
    assert "autoint" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_shows_an_example(command, capsys):
    assert run(["click", command, "--help"]) == 0
    assert f"koinon click {command} " in " ".join(capsys.readouterr().out.split())
