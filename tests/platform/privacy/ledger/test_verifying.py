"""Whatever is done to a ledger is found and named: exhaustively, for a small one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from koinon.errors import FederationError
from koinon.privacy.ledger import Entry, read_lines, verify
from koinon.privacy.signing import Signer

Grow = Callable[..., list[Entry]]


def export(entries: list[Entry]) -> bytes:
    return b"".join(entry.line() + b"\n" for entry in entries)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], list[Entry | ValueError]]:
    def _read(content: bytes) -> list[Entry | ValueError]:
        path = tmp_path / "ledger.jsonl"
        path.write_bytes(content)
        return list(read_lines(path))

    return _read


def what(ledger: list[Entry], signer: Signer, **more: list[Entry]) -> list[tuple[str, int | None]]:
    return [(fault.what, fault.sequence) for fault in verify(ledger, signer.verifier, **more).faults]


def test_a_whole_ledger_has_no_faults(
    ledger: list[Entry], signer: Signer, read: Callable[[bytes], list[Entry]]
) -> None:
    findings = verify(read(export(ledger)), signer.verifier, against=ledger)
    assert findings.whole
    assert (findings.entries, findings.head) == (4, ledger[-1])


def test_an_empty_ledger_is_whole_unless_somebody_has_a_copy(ledger: list[Entry], signer: Signer) -> None:
    assert verify([], signer.verifier).whole
    assert what([], signer, against=ledger[:1]) == [("truncated", None)]


def damages(content: bytes) -> Iterator[bytes]:
    for at in range(len(content)):
        for flip in (0x01, 0x20, 0x80):
            yield content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
        yield content[:at] + content[at + 1 :]
        yield content[:at] + b" " + content[at:]


def test_every_single_byte_that_is_changed_taken_out_or_put_in_is_found(ledger: list[Entry], signer: Signer) -> None:
    """Changes to the line's end are covered too: a line that is cut off is no entry."""
    two = ledger[:2]
    for damaged in damages(export(two)):
        lines = damaged.split(b"\n")
        found = [entry for line in lines[:-1] for entry in [_of(line)]] + ([ValueError("cut off")] if lines[-1] else [])
        assert not verify(found, signer.verifier, against=two).whole, damaged


def _of(line: bytes) -> Entry | ValueError:
    try:
        return Entry.of_line(line)
    except ValueError as error:
        return error


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("field", ["time", "kind", "subject", "body", "previous", "hash", "signature"])
def test_an_edit_is_found_at_its_entry(at: int, field: str, ledger: list[Entry], signer: Signer) -> None:
    value: object = {"forget": False} if field == "body" else str(getattr(ledger[at], field))[::-1] + "x"
    edited = [*ledger[:at], replace(ledger[at], **{field: value}), *ledger[at + 1 :]]
    faults = what(edited, signer)
    assert faults[0] in {("edited", at + 1), ("forged", at + 1)}
    assert {sequence for _, sequence in faults} <= {at + 1, at + 2}


@pytest.mark.parametrize("at", range(4))
def test_an_edit_that_is_hashed_and_linked_anew_is_found_by_the_signature(
    at: int, ledger: list[Entry], signer: Signer, other: Signer
) -> None:
    entries = ledger[:at]
    for number, entry in enumerate(ledger[at:]):
        subject = "mallory" if number == 0 else entry.subject
        before = entries[-1] if entries else None
        made = Entry.make(before, other, time=entry.time, kind=entry.kind, subject=subject, body=entry.body)
        entries = [*entries, replace(made, signature=entry.signature)]
    assert what(entries, signer) == [("forged", sequence) for sequence in range(at + 1, 5)]


@pytest.mark.parametrize("at", range(3))
def test_a_removal_is_found_and_says_what_is_missing(at: int, ledger: list[Entry], signer: Signer) -> None:
    assert what(ledger[:at] + ledger[at + 1 :], signer) == [("missing", at + 2)]
    message = verify(ledger[:1] + ledger[3:], signer.verifier).faults[0].message
    assert message == "Entries 2 to 3 are missing before entry 4."


@pytest.mark.parametrize("left", range(4))
def test_a_removal_from_the_end_is_found_with_a_copy_or_its_last_entry_alone(
    left: int, ledger: list[Entry], signer: Signer
) -> None:
    assert what(ledger[:left], signer) == []
    for copy in (ledger, ledger[-1:]):
        assert what(ledger[:left], signer, against=copy) == [("truncated", left or None)]


def test_every_reordering_is_found(ledger: list[Entry], signer: Signer) -> None:
    for order in permutations(ledger):
        if list(order) != ledger:
            assert what(list(order), signer), order


@pytest.mark.parametrize("at", range(5))
def test_every_insertion_is_found(at: int, ledger: list[Entry], signer: Signer, other: Signer, grow: Grow) -> None:
    for again in ledger:
        assert what([*ledger[:at], again, *ledger[at:]], signer)
    forged = grow(other, ledger[:at], "mallory")[-1]
    assert ("forged", at + 1) in what([*ledger[:at], forged, *ledger[at:]], signer)


def test_another_key_is_found_at_every_entry(ledger: list[Entry], other: Signer) -> None:
    assert what(ledger, other) == [("forged", sequence) for sequence in (1, 2, 3, 4)]


@pytest.mark.parametrize("at", range(4))
def test_two_histories_signed_by_the_server_itself_are_a_fork(
    at: int, ledger: list[Entry], signer: Signer, grow: Grow
) -> None:
    history = grow(signer, ledger[:at], *["books-it"] * (4 - at))
    assert what(history, signer) == []
    assert what(history, signer, against=ledger) == [("forked", sequence) for sequence in range(at + 1, 5)]


def test_a_copy_that_the_server_has_not_signed_accuses_nobody(
    ledger: list[Entry], signer: Signer, other: Signer, grow: Grow
) -> None:
    copy = [*ledger[:3], grow(other, ledger[:3], "mallory")[-1], ValueError("no entry")]
    findings = verify(ledger, signer.verifier, against=copy)
    assert [fault.message for fault in findings.faults] == [
        "The copy's entry 4 is not the server's.",
        "The copy's entry 5 is not the server's.",
    ]


def test_a_file_that_is_not_there_gives_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="K773"):
        list(read_lines(tmp_path / "none.jsonl"))
