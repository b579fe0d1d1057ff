"""``koinon partner privacy``: the account in words and as JSON, and what a federation would cost."""

import json

from typer.testing import CliRunner

from koinon.cli.partner import app
from koinon.privacy.budget import Account, PrivacyConfig, events_of

BUDGET = {"epsilon": 2.0, "delta": 1e-5, "people": 1000, "partners": 2}


def shown(*words):
    result = CliRunner().invoke(app, ["privacy", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_it_shows_what_was_spent_and_for_what(make_shop):
    folder = make_shop("alpha")
    assert "spent ε = 0.0000" in shown(folder)
    privacy = PrivacyConfig(**BUDGET)
    Account(folder).charge(
        privacy, "run/x/1", "federated_popularity round 1", events_of(privacy, 9.0, 2), {"counts": 3.0}
    )
    assert "federated_popularity round 1" in shown(folder)
    said = json.loads(shown(folder, "--json", "--delta", "1e-5"))
    assert said["charges"][0]["epsilon_alone"] == said["spent"] == Account(folder).spent(1e-5)


def test_it_shows_what_a_federations_rounds_will_cost(make_shop, tmp_path):
    folders = {name: make_shop(name) for name in ("alpha", "beta")}
    lines = [
        'name = "shops"', "metrics = []", 'encoder = "none"', "[split]", "minimum_item_events = 1",
        "[privacy]", *(f"{key} = {value}" for key, value in BUDGET.items()),
        "[[learners]]", 'name = "federated_gram"',
        "[partners]", *(f'{name} = "{folder}"' for name, folder in folders.items()),
    ]  # fmt: skip
    (tmp_path / "shops.toml").write_text("\n".join(lines))
    said = json.loads(shown(folders["alpha"], "--federation", tmp_path / "shops.toml", "--json"))
    assert (said["epsilon"], said["spent"]) == (2.0, 0.0)
    counts, pairs = said["rounds"]
    assert (counts["round"], pairs["round"]) == ("federated_gram round 1", "federated_gram round 2")
    assert 0 < counts["epsilon_alone"] < pairs["epsilon_alone"] < 2.0
    assert "noise" in shown(folders["alpha"], "-f", tmp_path / "shops.toml")
