"""Flower's SuperNode, with one thing added: it takes no app but the pinned one.

A SuperNode runs whatever bundle its server sends. Flower can ask for bundles signed by entities a partner trusts
(``--trusted-entities``), but only its own hub can make such signatures. So this process signs itself: it draws a key
at its start, gives Flower its public half as the only trusted one, holds each bundle against the pinned hash as it
arrives (before it is parsed, stored or unpacked), and signs the pinned one. Any other goes on unsigned, and Flower
answers it with an error and goes on. Were Flower to change so that nothing passes here any more, every bundle would be
unsigned and refused.

What the server says of *where* an app lies and what kind it is, is overwritten by what is pinned.

``python -m koinon.clients.supernode FOLDER [options of flower-supernode]``; :mod:`koinon.clients.node` starts it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from logging import ERROR
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.supercore import log
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.primitives.asymmetric_ed25519 import create_message_to_sign
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as flower

from koinon.clients import door
from koinon.clients.membership import Membership
from koinon.clients.worker import end_with
from koinon.config import write_atomically
from koinon.errors import PrivacyError
from koinon.protos.thin_app import APP_ID, APP_VERSION, bundle_sha256

__all__ = ["BundleGate", "main"]

Connect = Callable[..., AbstractContextManager[tuple[Any, ...]]]

_GET_RUN, _GET_FAB = 3, 4
"""Where Flower's connection keeps these two of its functions."""


class BundleGate:
    """Signs the pinned bundle as trusted, and nothing else.

    Parameters
    ----------
    pinned
        SHA-256 of the app's files, see :func:`koinon.protos.thin_app.bundle_sha256`.
    refused
        Called with the hash of a bundle that is another.
    """

    key_id = "koinon-pinned-app"

    def __init__(self, pinned: str, refused: Callable[[str], None]) -> None:
        self._pinned = pinned
        self._refused = refused
        self._key = Ed25519PrivateKey.generate()

    def trusted_entities(self) -> str:
        """The one entity to trust, as the file that ``--trusted-entities`` names."""
        public = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return json.dumps({self.key_id: public})

    def around(self, connect: Connect) -> Connect:
        """Return Flower's connection with every bundle looked at on its way in."""

        @contextmanager
        def connection(*args: Any, **kwargs: Any) -> Iterator[tuple[Any, ...]]:
            with connect(*args, **kwargs) as found:
                parts = list(found)
                get_run, get_fab = parts[_GET_RUN], parts[_GET_FAB]
                parts[_GET_RUN] = lambda run_id: self._placed(get_run(run_id))
                parts[_GET_FAB] = lambda fab_hash, run_id: self._looked_at(get_fab(fab_hash, run_id), fab_hash)
                yield tuple(parts)

        return connection

    def _placed(self, run: Run) -> Run:
        run.fab_id, run.fab_version, run.primary_task_type = APP_ID, APP_VERSION, TaskType.SERVER_APP
        return run

    def _looked_at(self, fab: Fab, asked: str) -> Fab:
        fab.verifications = {}
        content = hashlib.sha256(fab.content)
        found = bundle_sha256(fab.content)
        if found != self._pinned or not fab.hash_str == asked == content.hexdigest():
            self._refused(found or content.hexdigest())
            return fab
        now = int(time.time())
        signature = self._key.sign(create_message_to_sign(content.digest(), now))
        signed = {"signed_at": now, "signature": base64.urlsafe_b64encode(signature).decode()}
        fab.verifications = {"valid_license": "pinned", self.key_id: json.dumps(signed)}
        return fab


def main(folder: Path, options: list[str]) -> None:
    """Run a partner's SuperNode until it is told to end or its parent has ended."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    membership = Membership.of(folder)

    def refused(found: str) -> None:
        error = PrivacyError(
            "K643",
            f"The server sent another app ({found[:12]}) than the accepted one ({membership.app_sha256[:12]}).",
            "It was not run. Ask the federation's operator what it is.",
        )
        log(ERROR, "%s", error)
        # Flower's own refusal leaves the node: it has its line like everything that does
        policy = door.Policy(partner=membership.partner, purpose="refuse app")
        door.cross(error, policy, folder / "federation" / "egress.jsonl")

    gate = BundleGate(membership.app_sha256, refused)
    trusted = folder / "federation" / "flower" / "trusted.yaml"  # JSON is YAML
    write_atomically(trusted, gate.trusted_entities())
    flower.http_request_response = gate.around(flower.http_request_response)  # type: ignore[attr-defined,assignment]
    sys.argv = ["flower-supernode", *options, "--trusted-entities", str(trusted)]
    from flwr.supernode.cli import flower_supernode

    flower_supernode()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
