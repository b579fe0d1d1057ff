"""A partner's copy of the ledger only ever grows; a server that takes back what it has shown is not believed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from koinon.clients.ledger_copy import LedgerCopy
from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, read_lines, verify
from koinon.privacy.signing import Signer


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.open(tmp_path_factory.mktemp("key") / "server.key")


def grown(signer: Signer, entries: list[Entry], count: int, subject: str = "books-de") -> list[Entry]:
    """A ledger with further entries."""
    entries = list(entries)
    for _ in range(count):
        body = {"forget": True}
        before = entries[-1] if entries else None
        entries.append(
            Entry.make(before, signer, time="2026-01-31T12:00:00.000Z", kind="left", subject=subject, body=body)
        )
    return entries


def news(entries: list[Entry]) -> bytes:
    return b"".join(entry.line() + b"\n" for entry in entries)


@pytest.fixture
def ledger(signer: Signer) -> list[Entry]:
    return grown(signer, [], 6)


@pytest.fixture
def copy(tmp_path: Path, signer: Signer) -> LedgerCopy:
    return LedgerCopy(tmp_path, signer.verifier)


def kept(copy: LedgerCopy) -> list[Entry | ValueError]:
    return list(read_lines(copy.path))


@pytest.mark.parametrize("first", range(1, 7))
@pytest.mark.parametrize("overlap", range(3))
def test_news_are_taken_over_once_whatever_they_repeat(
    first: int, overlap: int, copy: LedgerCopy, ledger: list[Entry]
) -> None:
    copy.extend(news(ledger[:first]))
    copy.extend(news(ledger[max(first - overlap, 0) :] or ledger[-1:]))
    copy.extend(news(ledger[-1:]))
    assert kept(copy) == ledger
    assert copy.path.stat().st_mode & 0o777 == 0o600


def code(copy: LedgerCopy, shown: bytes) -> str:
    before = copy.path.read_bytes() if copy.path.exists() else b""
    with pytest.raises(FederationError) as refused:
        copy.extend(shown)
    assert (copy.path.read_bytes() if copy.path.exists() else b"") == before
    return refused.value.code


@pytest.mark.parametrize("at", range(1, 4))
def test_another_history_is_refused_and_kept_as_evidence(
    at: int, copy: LedgerCopy, ledger: list[Entry], signer: Signer
) -> None:
    copy.extend(news(ledger[:4]))
    forked = grown(signer, ledger[:at], 6 - at, "books-fr")
    shown = news(forked[at - 1 :])
    assert code(copy, shown) == "K778"
    evidence = copy.path.with_name("ledger.conflict.jsonl")
    assert evidence.read_bytes() == shown
    assert "forked" in {fault.what for fault in verify(forked, signer.verifier, against=read_lines(copy.path)).faults}


def test_another_history_that_begins_where_the_copy_ends_is_refused(
    copy: LedgerCopy, ledger: list[Entry], signer: Signer
) -> None:
    copy.extend(news(ledger[:4]))
    assert code(copy, news(grown(signer, [*ledger[:3], *grown(signer, ledger[:3], 1, "x")], 1)[4:])) == "K778"


def test_a_ledger_that_has_become_shorter_is_refused(copy: LedgerCopy, ledger: list[Entry]) -> None:
    copy.extend(news(ledger))
    assert code(copy, news(ledger[:5])) == "K778"
    assert code(copy, news(ledger[4:5])) == "K778"


def test_a_gap_is_named_and_filled_by_sending_what_is_missing(copy: LedgerCopy, ledger: list[Entry]) -> None:
    assert code(copy, news(ledger[2:])) == "K779"
    copy.extend(news(ledger[:2]))
    assert code(copy, news(ledger[3:])) == "K779"
    copy.extend(news(ledger[2:]))
    assert kept(copy) == ledger


def test_what_the_server_has_not_signed_is_refused(copy: LedgerCopy, ledger: list[Entry], tmp_path: Path) -> None:
    other = Signer.open(tmp_path / "other.key")
    assert code(copy, news(grown(other, [], 3))) == "K778"
    assert code(copy, news([*ledger[:2], ledger[3]])) == "K778"
    assert code(copy, news(ledger).replace(b"books-de", b"books-fr", 1)) == "K778"
    assert code(copy, news(ledger)[:-1]) == "K778"
    assert code(copy, b"") == "K778"
    assert code(copy, b"\n") == "K778"
    assert code(copy, b"\xff\n") == "K778"


def test_a_half_line_of_a_killed_process_is_dropped(copy: LedgerCopy, ledger: list[Entry]) -> None:
    copy.extend(news(ledger[:3]))
    with copy.path.open("ab") as file:
        file.write(ledger[3].line()[:40])
    copy.extend(news(ledger[3:]))
    assert kept(copy) == ledger


def test_a_copy_that_was_edited_is_named(copy: LedgerCopy, ledger: list[Entry]) -> None:
    copy.extend(news(ledger[:3]))
    content = copy.path.read_bytes()
    copy.path.write_bytes(content.replace(b"books-de", b"books-fr"))
    assert code(copy, news(ledger[3:])) == "K780"
    copy.path.write_bytes(content[:-20] + b"\n")
    assert code(copy, news(ledger[3:])) == "K780"


def test_a_copy_of_many_blocks_is_read_from_its_end(copy: LedgerCopy, ledger: list[Entry], signer: Signer) -> None:
    many = grown(signer, ledger, 800)
    copy.extend(news(many[:600]))
    copy.extend(news(many[100:]))
    assert copy.path.stat().st_size > 4 * 65536
    assert kept(copy) == many


_EXTEND = """
import sys
from pathlib import Path
from koinon.clients.ledger_copy import LedgerCopy
from koinon.privacy.signing import Verifier
folder, key, shown = sys.argv[1:]
copy = LedgerCopy(Path(folder), Verifier(key))
lines = Path(shown).read_bytes().splitlines(keepends=True)
for at in range(len(lines)):
    copy.extend(lines[at])
    print(at + 1, flush=True)
"""


def test_a_killed_partner_keeps_all_it_has_taken_over(tmp_path: Path, signer: Signer, copy: LedgerCopy) -> None:
    ledger = grown(signer, [], 3000)
    (tmp_path / "shown").write_bytes(news(ledger))
    command = [sys.executable, "-c", _EXTEND, str(tmp_path), signer.key, str(tmp_path / "shown")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    taken = 20 + process.communicate()[0].count(b"\n")
    assert process.returncode == -signal.SIGKILL
    copy.extend(news(ledger[taken - 1 :]))
    assert kept(copy) == ledger


def test_a_release_counts_when_it_was_published_and_not_withdrawn(copy: LedgerCopy, signer: Signer) -> None:
    entries: list[Entry] = []
    for kind, number in (("release_published", 1), ("release_published", 2), ("release_rolled_back", 2)):
        body = {"manifest_sha256": str(number) * 64}
        before = entries[-1] if entries else None
        entries.append(Entry.make(before, signer, time="t", kind=kind, subject="gram", body=body))
    copy.extend(news(entries))
    assert [copy.counts(str(number) * 64) for number in (1, 2, 3)] == [True, False, False]
