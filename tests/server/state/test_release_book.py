"""Releases: signed, linked, on record, held against their tensors, withdrawn and found again after a killed server."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from koinon.errors import FederationError, ResourceError
from koinon.privacy.ledger import verify
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.manifest import FIRST, ReleasedBudget, read_manifest
from koinon.privacy.signing import Signer
from koinon.recommenders.protocol import Release
from koinon.server.checkpoints import Checkpoint, RunState
from koinon.server.state import LedgerBook, open_store, read_book
from koinon.server.state.release_book import ReleaseBook, read_release

POLICY = "a" * 64
ENCODER = "b" * 64
BUDGET = ReleasedBudget(epsilon=2.0, delta=1e-6, mechanism="distributed", safe=True, spent=0.5)


@pytest.fixture
def ledger(tmp_path: Path) -> LedgerBook:
    book = LedgerBook(open_store(tmp_path / "ledger.sqlite"), Signer.open(tmp_path / "server.key"))
    book.begin("shops", POLICY)
    return book


@pytest.fixture
def book(tmp_path: Path, ledger: LedgerBook) -> ReleaseBook:
    return ReleaseBook(tmp_path, "shops", ledger, encoder_sha256=ENCODER)


def checkpoint(value: float = 1.0) -> Checkpoint:
    arrays = {"counts": np.full((2, 3), value, dtype=np.float32), "hashes": np.array([2**63], dtype=np.uint64)}
    release = Release(2, "popularity", arrays, {"rate": 0.5, "bound": float("inf"), "n": 3})
    return Checkpoint(release, {}, ("alpha", "beta"), {"ndcg@10": 0.25})


def published(book: ReleaseBook, run: str, learner: str = "popularity", value: float = 1.0) -> Path:
    return book.publish(learner, checkpoint(value), RunState(run, POLICY)).folder


def test_a_release_states_what_it_is_under_the_servers_signature(book: ReleaseBook, ledger: LedgerBook) -> None:
    release = book.publish("popularity", checkpoint(), RunState("run1", POLICY), privacy=BUDGET)
    verifier = ledger.signer.verifier
    manifest = read_manifest(release.signed.statement, release.signed.signature, verifier)
    assert (manifest.number, manifest.round, manifest.participants, manifest.names) == (1, 2, 2, ["alpha", "beta"])
    assert (manifest.policy_sha256, manifest.encoder_sha256) == (POLICY, ENCODER)
    assert (manifest.metrics, manifest.privacy, manifest.previous_sha256) == ({"ndcg@10": 0.25}, BUDGET, FIRST)
    assert manifest.tensors["counts"].shape == [2, 3]
    assert len(manifest.code_sha256) == 64
    assert np.array_equal(read_release(release.folder, verifier).arrays["counts"], np.ones((2, 3)))
    on_record = ledger.last(Kind.RELEASE_PUBLISHED, "popularity")
    assert on_record is not None
    assert on_record.body["manifest_sha256"] == release.sha256


def test_releases_are_numbered_and_linked_whatever_their_learner(book: ReleaseBook) -> None:
    for run, learner in (("run1", "popularity"), ("run1", "gram"), ("run2", "popularity")):
        published(book, run, learner)
    listed = book.releases()
    assert [release.manifest.number for release in listed] == [1, 2, 3]
    assert [release.manifest.previous_sha256 for release in listed[1:]] == [release.sha256 for release in listed[:2]]


def test_where_names_are_not_to_be_known_only_their_count_is_stated(tmp_path: Path, ledger: LedgerBook) -> None:
    release = ReleaseBook(tmp_path, "shops", ledger, anonymous=True).publish(
        "popularity", checkpoint(), RunState("run1", POLICY)
    )
    assert (release.manifest.participants, release.manifest.names) == (2, None)
    assert b"alpha" not in release.signed.statement


def test_a_server_killed_after_writing_and_before_recording_records_once_when_it_goes_on(
    tmp_path: Path, book: ReleaseBook, ledger: LedgerBook
) -> None:
    folder = published(ReleaseBook(tmp_path, "shops", ledger), "run1")
    for entry in ledger.entries(kind=Kind.RELEASE_PUBLISHED):
        with ledger.store.session() as session:  # as if it had been killed before this entry
            session.connection().exec_driver_sql(f"DELETE FROM ledger WHERE sequence = {entry.sequence}")
    assert published(book, "run1") == folder
    assert published(book, "run1") == folder
    assert len(ledger.entries(kind=Kind.RELEASE_PUBLISHED)) == 1
    assert verify(read_book(ledger.store), ledger.signer.verifier).whole


def change(folder: Path, what: str) -> None:
    manifest, signature, tensors = (folder / n for n in ("manifest.json", "manifest.sig", "tensors.safetensors"))
    match what:
        case "manifest":
            said = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**said, "participants": 7}))
        case "field added":
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "note": "x"}))
        case "signature":
            signature.write_text("00" * 64 + "\n")
        case "signature missing":
            signature.unlink()
        case "manifest cut off":
            manifest.write_bytes(manifest.read_bytes()[:-9])
        case "tensor":
            content = bytearray(tensors.read_bytes())
            content[-1] ^= 1
            tensors.write_bytes(bytes(content))
        case "tensors cut off":
            tensors.write_bytes(tensors.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("manifest", "K776"),
        ("field added", "K776"),
        ("signature", "K776"),
        ("signature missing", "K710"),
        ("manifest cut off", "K710"),
        ("tensor", "K711"),
        ("tensors cut off", "K710"),
    ],
)
def test_a_release_that_was_changed_is_refused(what: str, code: str, book: ReleaseBook, ledger: LedgerBook) -> None:
    folder = published(book, "run1")
    change(folder, what)
    with pytest.raises(FederationError) as refused:
        read_release(folder, ledger.signer.verifier)
    assert refused.value.code == code


def test_another_servers_release_is_refused(book: ReleaseBook, tmp_path: Path) -> None:
    folder = published(book, "run1")
    with pytest.raises(FederationError, match="K776"):
        read_release(folder, Signer.open(tmp_path / "other.key").verifier)


def test_withdrawing_goes_back_to_the_last_good_release_of_the_learner(book: ReleaseBook, ledger: LedgerBook) -> None:
    for number, learner in enumerate(("popularity", "gram", "popularity", "popularity")):
        published(book, f"run{number}", learner, value=number)
    withdrawn, counts = book.withdraw("popularity", "harm")
    assert (withdrawn.manifest.number, counts and counts.manifest.number) == (4, 3)
    withdrawn, counts = book.withdraw("popularity")
    assert (withdrawn.manifest.number, counts and counts.manifest.number) == (3, 1)
    assert [release.withdrawn for release in book.releases()] == [False, False, True, True]
    good = book.last_good("popularity")
    assert good is not None
    assert good.manifest.number == 1
    assert book.withdraw("popularity")[1] is None
    assert book.last_good("popularity") is None
    with pytest.raises(FederationError, match="K777"):
        book.withdraw("popularity")
    assert [(e.body["number"], e.body["back_to"]) for e in ledger.entries(kind=Kind.RELEASE_ROLLED_BACK)] == [
        (4, 3),
        (3, 1),
        (1, 0),
    ]
    assert not book.releases()[1].withdrawn


def test_a_file_that_cannot_be_written_whole_leaves_no_half_release(book: ReleaseBook) -> None:
    large = Checkpoint(Release(2, "popularity", {"counts": np.ones(2**20, dtype=np.float32)}), {}, ())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(ResourceError, match="K801"):
            book.publish("popularity", large, RunState("run1", POLICY))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(book.folder.iterdir()) == []
    assert published(book, "run1").name == "0001"


def test_a_state_between_rounds_is_signed_but_no_release(book: ReleaseBook, ledger: LedgerBook) -> None:
    signed = book.sign("popularity", replace(checkpoint(), participants=()), RunState("run1", POLICY))
    assert read_manifest(signed.statement, signed.signature, ledger.signer.verifier).number == 0
    assert book.releases() == []
