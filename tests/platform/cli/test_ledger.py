"""``koinon ledger`` and the commands about releases, on a real ledger."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from koinon.cli.main import run
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.recommenders.protocol import Release
from koinon.server.checkpoints import Checkpoint, RunState
from koinon.server.record import KEY_FILE, LEDGER_FILE
from koinon.server.state import LedgerBook, open_store
from koinon.server.state.release_book import ReleaseBook

POLICY = "a" * 64


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output folder of a run with two releases."""
    folder = tmp_path / "out"
    book = LedgerBook(open_store(folder / LEDGER_FILE), Signer.open(folder / KEY_FILE))
    book.begin("shops", POLICY)
    book.append(Kind.LEFT, "books-de", forget=True)
    releases = ReleaseBook(folder, "shops", book)
    for number in (1, 2):
        release = Release(number, "gram", {"counts": np.full(3, number, dtype=np.float32)})
        checkpoint = Checkpoint(release, {}, ("alpha", "beta"), {"ndcg@10": number / 10})
        releases.publish("gram", checkpoint, RunState(f"run{number}", POLICY))
    return folder


def koinon(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def edit(database: Path, statement: str) -> None:
    connection = sqlite3.connect(database)
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_whole_ledger_verifies_as_database_folder_url_and_export(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export.jsonl"
    assert koinon(capsys, "ledger", "export", out, export)[:2] == (0, f"4 entries in {export}.\n")
    key = Signer.open(out / KEY_FILE).key
    (tmp_path / "server.pub").write_text(key + "\n")
    for ledger in (out, out / LEDGER_FILE, f"sqlite:///{out / LEDGER_FILE}", export):
        status, said, _ = koinon(capsys, "ledger", "verify", ledger, "--key", key, "--against", export)
        assert (status, said.splitlines()[0]) == (0, "4 entries, whole, and in line with the copy.")
    for arguments in ((), ("--key", tmp_path / "server.pub")):
        found = json.loads(koinon(capsys, "ledger", "verify", export, *arguments, "--json")[1])
        assert (found["whole"], found["entries"], found["key"], found["faults"]) == (True, 4, key, [])
        assert found["head"]["sequence"] == 4
        assert found["key_given"] == bool(arguments)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE ledger SET subject = 'books-fr' WHERE sequence = 2", "Entry 2 has been edited"),
        ("UPDATE ledger SET body = '{\"forget\": true}' WHERE sequence = 2", "Entry 2 cannot be read"),
        ("UPDATE ledger SET body = x'ff' WHERE sequence = 2", "Entry 2 cannot be read"),
        ("UPDATE ledger SET subject = CAST(x'ff' AS TEXT) WHERE sequence = 2", "Entry 2 has been edited"),
        ("DELETE FROM ledger WHERE sequence = 2", "Entry 2 is missing before entry 3"),
        ("UPDATE ledger SET sequence = 9 WHERE sequence = 2", "Entry 2 is missing before entry 3"),
        ("DELETE FROM ledger WHERE sequence = 4", "The copy goes on to entry 4, the ledger ends with entry 3"),
    ],
)
def test_what_was_done_to_a_database_is_named(
    statement: str, says: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    koinon(capsys, "ledger", "export", out, tmp_path / "copy.jsonl")
    edit(out / LEDGER_FILE, statement)
    status, said, error = koinon(capsys, "ledger", "verify", out, "--against", tmp_path / "copy.jsonl")
    assert status == 8
    assert says in said
    assert "K781" in error
    status, said, _ = koinon(capsys, "ledger", "verify", out, "--against", tmp_path / "copy.jsonl", "--json")
    assert status == 8
    assert says in " ".join(fault["message"] for fault in json.loads(said)["faults"])


def test_a_damaged_database_file_is_no_whole_ledger(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    koinon(capsys, "ledger", "show", out)
    content = bytearray((out / LEDGER_FILE).read_bytes())
    for at in range(4096, len(content), 512):
        content[at : at + 64] = b"\xff" * 64
    (out / LEDGER_FILE).write_bytes(bytes(content))
    status, _, error = koinon(capsys, "ledger", "verify", out)
    assert status == 8
    assert "K771" in error or "K781" in error


def test_another_key_than_the_ledgers_own_is_noticed(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Signer.open(tmp_path / "other.key").key
    status, said, _ = koinon(capsys, "ledger", "verify", out, "--key", other)
    assert status == 8
    assert said.count("does not carry the server's signature") == 4
    assert koinon(capsys, "ledger", "verify", out, "--key", "none")[0] == 8


def test_entries_are_shown_by_kind_subject_and_number(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = koinon(capsys, "ledger", "show", out)[1].splitlines()
    assert len(shown) == 4
    assert shown[1].split()[2:] == ["left", "books-de", "forget", "true"]
    (line,) = koinon(capsys, "ledger", "show", out, "--kind", "release_published", "-n", "1", "--json")[1].splitlines()
    assert (json.loads(line)["sequence"], json.loads(line)["body"]["number"]) == (4, 2)
    assert koinon(capsys, "ledger", "show", out, "--subject", "books-de")[1].count("\n") == 1


def test_a_partners_folder_stands_for_its_copy(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    koinon(capsys, "ledger", "export", out, tmp_path / "partner" / "federation" / "ledger.jsonl")
    assert koinon(capsys, "ledger", "verify", tmp_path / "partner")[0] == 0


def test_what_is_no_ledger_gives_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no ledger\n")
    for ledger, code in ((tmp_path, "K784"), (tmp_path / "none", "K773"), (tmp_path / "text", "K781")):
        status, _, error = koinon(capsys, "ledger", "verify", ledger)
        assert (status, code in error) == (8, True)


def test_releases_are_listed_and_the_newest_can_be_withdrawn(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = koinon(capsys, "federation", "releases", out)[1]
    assert "ndcg@10 0.2000" in listed
    assert "withdrawn" not in listed
    status, said, _ = koinon(capsys, "federation", "rollback", out, "gram", "--reason", "harm")
    assert (status, said) == (0, "Release 2 of gram is withdrawn. Release 1 counts again.\n")
    rows = json.loads(koinon(capsys, "federation", "releases", out, "--json")[1])
    assert [(row["number"], row["withdrawn"], row["participants"]) for row in rows] == [(1, False, 2), (2, True, 2)]
    assert "withdrawn" in koinon(capsys, "federation", "releases", out)[1]
    koinon(capsys, "federation", "rollback", out, "gram")
    status, _, error = koinon(capsys, "federation", "rollback", out, "gram")
    assert (status, "K777" in error) == (8, True)
    assert koinon(capsys, "ledger", "verify", out)[0] == 0


def test_a_backup_restores_to_a_folder_whose_ledger_verifies(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said, warned = koinon(capsys, "federation", "backup", out, tmp_path / "shops.backup")
    assert (status, said.startswith(f"{tmp_path / 'shops.backup'}: shops, ")) == (0, True)
    assert "private keys" in warned
    koinon(capsys, "federation", "rollback", out, "gram")
    koinon(capsys, "ledger", "export", out, tmp_path / "copy.jsonl")
    again = tmp_path / "again"
    status, said, _ = koinon(
        capsys, "federation", "restore", tmp_path / "shops.backup", again, "--ledger", tmp_path / "copy.jsonl"
    )
    assert status == 0
    assert koinon(capsys, "ledger", "verify", again, "--against", tmp_path / "copy.jsonl")[0] == 0
    listed = json.loads(koinon(capsys, "federation", "releases", again, "--json")[1])
    assert [row["withdrawn"] for row in listed] == [False, True]
    status, _, error = koinon(capsys, "federation", "restore", tmp_path / "shops.backup", again)
    assert (status, "K783" in error) == (8, True)
