"""The gate in front of Flower's SuperNode: it signs the pinned bundle, as Flower's own check sees it, and no other."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from hashlib import sha256

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run
from flwr.supernode.start_client_internal import _verify_fab

from koinon.clients.supernode import BundleGate
from koinon.protos.thin_app import APP_ID, APP_VERSION, THIN_APP, app_sha256


def bundle(files: dict[str, str]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's way with pathspec
        return build_fab_from_files({name: content.encode() for name, content in files.items()})[0]


@pytest.fixture(scope="module")
def right() -> bytes:
    return bundle({"pyproject.toml": THIN_APP})


@pytest.fixture(scope="module")
def other() -> bytes:
    return bundle({"pyproject.toml": THIN_APP, "koinon/clients/app.py": "app = 1"})


class Sent:
    """A server that sends one bundle, and what the gate makes of it."""

    def __init__(
        self, content: bytes, *, named: str = "", run: Run | None = None, verified: dict | None = None
    ) -> None:
        self.refused: list[str] = []
        self.gate = BundleGate(app_sha256(), self.refused.append)
        named = named or sha256(content).hexdigest()

        @contextmanager
        def connect():
            sent = Fab(named, content, verified or {})
            yield 1, None, None, lambda run_id: run, lambda fab_hash, run_id: sent, None, None, None

        with self.gate.around(connect)() as parts:
            self.run = parts[3](7) if run else None
            self.fab = parts[4](sha256(content).hexdigest(), 7)

    @property
    def trusted(self) -> bool:
        """What Flower's SuperNode decides, in its two steps."""
        entities = json.loads(self.gate.trusted_entities())
        return bool(self.fab.verifications.get("valid_license", "")) and _verify_fab(self.fab, entities)


def test_flower_trusts_the_pinned_bundle(right: bytes):
    sent = Sent(right)
    assert sent.trusted
    assert sent.refused == []


def test_flower_trusts_no_other(other: bytes):
    sent = Sent(other)
    assert not sent.trusted
    assert len(sent.refused) == 1


def test_what_the_server_says_of_signatures_counts_for_nothing(right: bytes, other: bytes):
    forged = Sent(right).fab.verifications
    assert not Sent(other, verified=forged).trusted


def test_a_signature_holds_for_one_node_and_one_content(right: bytes, other: bytes):
    sent = Sent(right)
    entities = json.loads(Sent(right).gate.trusted_entities())
    assert not _verify_fab(sent.fab, entities), "another node's key"
    sent.fab.content = other
    assert not sent.trusted


def test_the_right_bundle_under_another_ones_hash_is_refused(right: bytes, other: bytes):
    """Flower looks for an app's folder under the hash that the server names."""
    assert not Sent(right, named=sha256(other).hexdigest()).trusted


def test_what_is_no_bundle_is_refused():
    assert not Sent(b"").trusted
    assert not Sent(b"PK\x03\x04" + b"\0" * 100).trusted


def test_where_an_app_lies_and_what_kind_it_is_does_not_come_from_the_server(right: bytes):
    run = Run.create_empty(7)
    run.fab_id, run.fab_version, run.primary_task_type = "../../evil", "9", TaskType.AGENT_APP
    placed = Sent(right, run=run).run
    assert placed is not None
    assert (placed.fab_id, placed.fab_version, placed.primary_task_type) == (APP_ID, APP_VERSION, TaskType.SERVER_APP)
