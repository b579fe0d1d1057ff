"""``koinon data``: what a person types, and what is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from koinon.cli.main import run
from koinon.data.vault import Vault


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    (folder / "movies.csv").write_text("movieId,title,genres\n1,Toy Story (1995),Comedy\n2,Heat (1995),Action\n")
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,4.5,964982703\n2,2,3,964982704\n2,9,3,964982704\n"
    )
    return folder


def test_list_names_sets_terms_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    by_name = {dataset["name"]: dataset for dataset in listed["datasets"]}
    assert "GroupLens" in by_name["ml-1m"]["licence"]
    assert by_name["book-crossing-de"]["download_bytes"] == by_name["book-crossing"]["download_bytes"]
    assert [entry["name"] for entry in listed["formats"]] == ["amazon-2023", "movielens", "lastfm", "mind", "steam"]
    assert run(["data", "list"]) == 0
    assert "book-crossing" in capsys.readouterr().out


def test_import_leaves_a_partners_folder(movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "My Films"
    assert run(["data", "import", "movielens", str(movielens), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2 items, 2 events, 2 users" in printed
    assert "1 of 3 events are of items without a record" in printed
    vault = Vault(out)
    assert vault.name == "my-films"
    assert vault.config.catalogue == "secret"
    assert vault.tables().items["title"].to_list() == ["Toy Story (1995)", "Heat (1995)"]


def test_import_answers_programs_in_json_and_may_be_repeated(
    movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "import", "movielens", str(movielens), "--out", str(tmp_path / "p"), "--name", "films", "--json"]
    for _ in range(2):
        assert run(command) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["events"], len(answer["notes"])) == (2, 1)


def test_import_leaves_a_folder_with_other_things_alone(
    movielens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(movielens.iterdir())
    assert run(["data", "import", "movielens", str(movielens), "--out", str(movielens)]) == 3
    assert "[K244]" in capsys.readouterr().err
    assert sorted(movielens.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["data", "get", "netflix"], 3, "K232"),
        (["data", "import", "netflix", ".", "--out", "x"], 3, "K243"),
        (["data", "import", "movielens", "nowhere", "--out", "x"], 3, "K240"),
        (["data", "import", "movielens", ".", "--out", "x", "--set", "novalue"], 2, "KEY=VALUE"),
        (["data", "import", "movielens", ".", "--out", "x", "--set", "items=track"], 3, "K243"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == status
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_offline_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert run(["data", "get", "ml-100k", "--cache-dir", str(tmp_path / "cache"), "--json"]) == 9
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "K811"


@pytest.mark.parametrize("command", ["list", "get", "import"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", command, "--help"]) == 0
    assert f"Example: koinon data {command}" in " ".join(capsys.readouterr().out.split())
