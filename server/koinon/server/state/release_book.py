"""Releases: numbered folders that are written once, signed, named in the ledger, and withdrawn there if need be.

::

    releases/0001/tensors.safetensors    the shared parameters
    releases/0001/manifest.json          what the server states of them (koinon.privacy.manifest)
    releases/0001/manifest.sig           its signature under the manifest's canonical form, hexadecimal

Each manifest names the hash of the one before. Which releases were withdrawn stands in the ledger alone.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from koinon.config import write_atomically
from koinon.errors import FederationError, ResourceError
from koinon.privacy.canonical import canonical
from koinon.privacy.ledger.kinds import Kind, Reason
from koinon.privacy.manifest import (
    FIRST,
    Manifest,
    ReleasedBudget,
    ReleasedTensor,
    manifest_sha256,
    read_manifest,
    sign_manifest,
)
from koinon.privacy.signing import Verifier
from koinon.protos.installed import code_sha256
from koinon.recommenders.protocol import Release
from koinon.server.checkpoints import Checkpoint, RunState, load_arrays, save_arrays, tensor_sha256
from koinon.server.state.ledger_book import LedgerBook

__all__ = ["Listed", "ReleaseBook", "Signed", "read_release"]

_NUMBER = re.compile(r"\d{4,}")


@dataclass(frozen=True)
class Signed:
    """A manifest as it travels: its canonical bytes and the signature, empty where the server has no key."""

    statement: bytes
    signature: bytes


@dataclass(frozen=True)
class Listed:
    """A published release.

    Attributes
    ----------
    folder
        Where it lies.
    manifest
        What the server has stated.
    signed
        The same, as it travels.
    withdrawn
        Whether the ledger says that it was rolled back.
    """

    folder: Path
    manifest: Manifest
    signed: Signed
    withdrawn: bool = False

    @property
    def sha256(self) -> str:
        """The manifest's hash."""
        return manifest_sha256(self.signed.statement)


class ReleaseBook:
    """A federation's releases.

    Parameters
    ----------
    out
        The federation's output folder.
    federation
        Its name.
    ledger
        Where releases go on record, with the key that signs them; ``None``: neither recorded nor signed.
    encoder_sha256
        Fingerprint of the pinned encoder, for the manifests.
    anonymous
        Whether manifests say only how many took part.
    """

    def __init__(
        self,
        out: Path,
        federation: str,
        ledger: LedgerBook | None = None,
        *,
        encoder_sha256: str = "",
        anonymous: bool = False,
    ) -> None:
        self.folder = out / "releases"
        self.federation = federation
        self.ledger = ledger
        self.encoder_sha256 = encoder_sha256
        self.anonymous = anonymous

    @property
    def _verifier(self) -> Verifier | None:
        return self.ledger.signer.verifier if self.ledger else None

    @cached_property
    def _code_sha256(self) -> str:
        return code_sha256()

    def sign(
        self,
        learner: str,
        checkpoint: Checkpoint,
        state: RunState,
        *,
        number: int = 0,
        previous_sha256: str = FIRST,
        privacy: ReleasedBudget | None = None,
    ) -> Signed:
        """State what a learner's round has brought, and sign it; number 0 for a state that is not published."""
        release = checkpoint.release
        manifest = Manifest(
            federation=self.federation,
            learner=learner,
            number=number,
            run=state.run,
            round=release.number,
            time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            policy_sha256=state.policy_sha256,
            participants=len(checkpoint.participants),
            names=None if self.anonymous else list(checkpoint.participants),
            metrics=dict(checkpoint.metrics),
            privacy=privacy,
            koinon_version=version("koinon"),
            code_sha256=self._code_sha256,
            encoder_sha256=self.encoder_sha256,
            info={k: v if not isinstance(v, float) or math.isfinite(v) else str(v) for k, v in release.info.items()},
            tensors={
                name: ReleasedTensor(shape=list(a.shape), dtype=a.dtype.name, sha256=tensor_sha256(a))
                for name, a in sorted(release.arrays.items())
            },
            previous_sha256=previous_sha256,
        )
        statement = manifest.statement()
        return Signed(statement, sign_manifest(statement, self.ledger.signer) if self.ledger else b"")

    def publish(
        self, learner: str, checkpoint: Checkpoint, state: RunState, *, privacy: ReleasedBudget | None = None
    ) -> Listed:
        """Write a learner's last round as a numbered release and put it on record; one that is there is found again.

        Raises
        ------
        FederationError
            K710 an earlier release is damaged, K776 it is not signed by this server.
        ResourceError
            K801 the disk is full; nothing half-written stays.
        """
        earlier = self.releases()
        found = next((r for r in earlier if (r.manifest.run, r.manifest.learner) == (state.run, learner)), None)
        if found is None:
            number = earlier[-1].manifest.number + 1 if earlier else 1
            previous = earlier[-1].sha256 if earlier else FIRST
            signed = self.sign(learner, checkpoint, state, number=number, previous_sha256=previous, privacy=privacy)
            found = _listed(_write(self.folder / f"{number:04d}", checkpoint.release, signed), self._verifier)
        self._record(found)
        return found

    def _record(self, release: Listed) -> None:
        """Put a release on record, unless a server that was killed since has done so."""
        if self.ledger is None:
            return
        manifest = release.manifest
        published = self.ledger.entries(kind=Kind.RELEASE_PUBLISHED)
        if all(entry.body["manifest_sha256"] != release.sha256 for entry in published):
            self.ledger.append(
                Kind.RELEASE_PUBLISHED,
                manifest.learner,
                number=manifest.number,
                round=manifest.round,
                manifest_sha256=release.sha256,
                participants=manifest.participants,
            )

    def releases(self) -> list[Listed]:
        """Return every release, in order.

        Raises
        ------
        FederationError
            K710 a manifest is missing or damaged, K776 one is not signed by this server.
        """
        folders = [path for path in self.folder.glob("*") if _NUMBER.fullmatch(path.name)]
        withdrawn = set()
        if self.ledger is not None:
            rolled_back = self.ledger.entries(kind=Kind.RELEASE_ROLLED_BACK)
            withdrawn = {str(entry.body["manifest_sha256"]) for entry in rolled_back}
        listed = [_listed(folder, self._verifier) for folder in sorted(folders, key=lambda path: int(path.name))]
        return [Listed(r.folder, r.manifest, r.signed, r.sha256 in withdrawn) for r in listed]

    def last_good(self, learner: str) -> Listed | None:
        """Return a learner's newest release that was not withdrawn; ``None`` where there is none."""
        good = [r for r in self.releases() if r.manifest.learner == learner and not r.withdrawn]
        return good[-1] if good else None

    def withdraw(self, learner: str, reason: Reason = "operator") -> tuple[Listed, Listed | None]:
        """Withdraw a learner's newest release that still counts.

        Parameters
        ----------
        learner
            Whose release.
        reason
            As the ledger will tell.

        Returns
        -------
        Listed, Listed or None
            The one withdrawn, and the one that counts from now on.

        Raises
        ------
        FederationError
            K777 the learner has no release that counts, or there is no ledger to say so.
        """
        good = [r for r in self.releases() if r.manifest.learner == learner and not r.withdrawn]
        if not good or self.ledger is None:
            raise FederationError(
                "K777", f"{learner} has no release to withdraw.", "`koinon federation releases` lists them."
            )
        back_to = good[-2] if len(good) > 1 else None
        self.ledger.append(
            Kind.RELEASE_ROLLED_BACK,
            learner,
            number=good[-1].manifest.number,
            manifest_sha256=good[-1].sha256,
            back_to=back_to.manifest.number if back_to else 0,
            reason=reason,
        )
        return good[-1], back_to


def read_release(folder: Path, verifier: Verifier | None = None) -> Release:
    """Read a published release, hold its manifest against the server's key and its tensors against the manifest.

    Parameters
    ----------
    folder
        The release's folder.
    verifier
        The server's public key; ``None``: the signature is not looked at.

    Raises
    ------
    FederationError
        K710 a file is missing or damaged, K711 a tensor is not the one the manifest names, K776 the manifest is not
        signed by that key.
    """
    manifest = _listed(folder, verifier).manifest
    arrays, _ = load_arrays(folder / "tensors.safetensors")
    if {name: tensor_sha256(array) for name, array in arrays.items()} != manifest.hashes():
        raise FederationError(
            "K711", f"The tensors of {folder} are not those of its manifest.", "Fetch the release again."
        )
    return Release(manifest.round, manifest.learner, arrays, manifest.info)


def _listed(folder: Path, verifier: Verifier | None) -> Listed:
    path = folder / "manifest.json"
    try:
        statement = canonical(json.loads(path.read_text(encoding="utf-8")))
        signature = bytes.fromhex((folder / "manifest.sig").read_text(encoding="ascii").strip())
    except (OSError, ValueError, RecursionError) as error:
        raise FederationError(
            "K710", f"{path} or its signature is damaged: {error}.", "Restore a backup, or use another folder."
        ) from error
    return Listed(folder, read_manifest(statement, signature, verifier), Signed(statement, signature))


def _write(target: Path, release: Release, signed: Signed) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        save_arrays(half / "tensors.safetensors", release.arrays)
        readable = json.dumps(json.loads(signed.statement), indent=2, ensure_ascii=False)
        write_atomically(half / "manifest.json", readable + "\n")
        write_atomically(half / "manifest.sig", signed.signature.hex() + "\n")
        half.chmod(0o755)
        half.rename(target)
    except OSError as error:
        raise ResourceError(
            "K801", f"Cannot write {target}: {error}.", "Free disk space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return target
