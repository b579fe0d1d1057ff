"""Whether a server is to be believed, before anything is computed for it: its ledger goes on, its releases are signed.

What is pinned is the server's key, told to the partner when it joined. On a federation within one machine none is.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from koinon.clients.home import Home
from koinon.clients.ledger_copy import LedgerCopy
from koinon.clients.standby import Standby
from koinon.errors import FederationError
from koinon.privacy.ledger import Entry
from koinon.privacy.manifest import manifest_sha256, read_manifest
from koinon.privacy.signing import Verifier
from koinon.protos import federation_pb2 as wire

__all__ = ["check_server", "heed"]

_ROLLED_BACK = "release_rolled_back"


def check_server(home: Home, said: bytes, news: bytes, *, adopting: bool) -> None:
    """Take over the news of the ledger, and hold every release against what the server has signed.

    Parameters
    ----------
    home
        The partner; without a pinned key nothing is checked.
    said
        A ``koinon.v1.Instruction``. That its tensors are those it names is :func:`koinon.clients.wire.read_ask`'s part.
    news
        Entries of the ledger (see :meth:`LedgerCopy.extend`).
    adopting
        Whether the releases are to be adopted: they must be published ones that the ledger does not withdraw.

    Raises
    ------
    FederationError
        K720 the message cannot be read; K772 the pinned key is none; K776 a release is not signed by the pinned key, is
        another than was signed, or does not stand in the ledger; K778, K779, K780 as :meth:`LedgerCopy.extend`.
    """
    if not home.ledger_key:
        return
    verifier = Verifier(home.ledger_key)
    copy = LedgerCopy(home.folder, verifier)
    copy.extend(news)
    try:
        message = wire.Instruction.FromString(said)
    except DecodeError as error:
        raise FederationError("K720", "The server's message cannot be read.", "Are all on one version?") from error
    for release in message.releases:
        published = _check_release(message, release, verifier)
        if adopting and not (published and copy.counts(manifest_sha256(release.statement))):
            raise _refused("does not stand in the ledger as one that counts")


def heed(home: Home, news: bytes) -> None:
    """Go back to the last good models where the ledger's news withdraws a release that is deployed here.

    Parameters
    ----------
    home
        The partner.
    news
        As :func:`check_server` has taken it over, where a key is pinned.

    Raises
    ------
    FederationError
        K720 the news cannot be read.
    """
    if _ROLLED_BACK.encode() not in news:
        return
    try:
        told = [Entry.of_line(line) for line in news.rstrip(b"\n").split(b"\n")]
    except ValueError as error:
        raise FederationError("K720", "The server's message cannot be read.", "Are all on one version?") from error
    withdrawn = {entry.body["manifest_sha256"] for entry in told if entry.kind == _ROLLED_BACK}
    Standby(home.models).go_back(lambda manifest: manifest not in withdrawn)


def _check_release(message: wire.Instruction, release: wire.ReleaseManifest, verifier: Verifier) -> bool:
    """Whether a signed release is a published one; a state between two rounds is none."""
    manifest = read_manifest(release.statement, release.signature, verifier)
    signed = (manifest.federation, manifest.learner, manifest.round, manifest.policy_sha256)
    if signed != (message.policy.federation, release.learner, release.number, release.policy_sha256):
        raise _refused("is about something else than the server has signed")
    if manifest.hashes() != {tensor.name: tensor.sha256 for tensor in release.tensors}:
        raise _refused("holds other tensors than the server has signed")
    if manifest.number == 0 and manifest.run != message.run:
        raise _refused("is of another run")
    return manifest.number > 0


def _refused(why: str) -> FederationError:
    return FederationError("K776", f"A release {why}.", "Do not use it; ask the operator what has happened.")
