"""``koinon partner``: from files to a checked vault, from an id to a receipt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from koinon.cli.main import run
from koinon.data import PartnerConfig, Vault

Shop = Callable[..., Path]


def test_init_check_and_forget_work_on_a_strangers_files(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, folder = shop(more_events="k1,b77,2024-03-01 10:00:00,1\n"), tmp_path / "buecher"
    line = ["partner", "init", str(folder), "--sensitive", "geschlecht", "--time-zone", "Europe/Berlin"]
    for table in ("items", "events", "users"):
        line += [f"--{table}", str(files / f"{table}.csv")]
    assert run(line) == 0
    said = capsys.readouterr().out
    assert 'title = "titel"  # by its name' in said
    assert f"koinon partner check {folder}" in said
    assert PartnerConfig.load(folder).sensitive == ("geschlecht",)

    page = tmp_path / "report.html"
    assert run(["partner", "check", str(folder), "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert "K216 unknown-item" in said
    assert "quarantine-" in said
    assert page.read_text().startswith("<!doctype html>")

    assert run(["partner", "check", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["events"] == 5

    assert run(["partner", "forget", str(folder), "--user", "k1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"events": 2, "users": 1, "quarantine": 1}
    assert "k1" not in Vault(folder).tables().events["user_id"]


def test_init_does_not_overwrite_unasked(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shop()
    before = (folder / "partner.toml").read_bytes()
    line = [
        "partner",
        "init",
        str(folder),
        "--items",
        str(folder / "items.csv"),
        "--events",
        str(folder / "events.csv"),
    ]
    assert run(line) == 2
    assert "K105" in capsys.readouterr().err
    assert (folder / "partner.toml").read_bytes() == before
    assert run([*line, "--force"]) == 0


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (["init", "{shop}", "--force", "--items", "{shop}/none.csv", "--events", "{shop}/events.csv"], 3, "K200"),
        (
            [
                "init",
                "{shop}",
                "--force",
                "--items",
                "{shop}/items.csv",
                "--events",
                "{shop}/events.csv",
                "--column",
                "x",
            ],
            2,
            "K103",
        ),
        (["check", "{shop}/nowhere"], 2, "K101"),
        (["forget", "{shop}", "--user", "k1"], 3, "K209"),
    ],
)
def test_errors_are_one_line_with_code_and_status(
    shop: Shop, capsys: pytest.CaptureFixture[str], line: list[str], status: int, code: str
) -> None:
    folder = shop()
    assert run(["partner", *(part.replace("{shop}", str(folder)) for part in line)]) == status
    assert code in capsys.readouterr().err


@pytest.mark.parametrize("command", ["init", "check", "forget"])
def test_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["partner", command, "--help"]) == 0
    assert f"koinon partner {command}" in " ".join(capsys.readouterr().out.split())
