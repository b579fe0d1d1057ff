"""What a release says of itself, in the form that the server signs and a partner verifies.

A manifest's hash is the SHA-256 of its canonical JSON; that is what the ledger names and what the next manifest links
to. The signature is over the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koinon.errors import FederationError
from koinon.privacy.canonical import canonical, parsed
from koinon.privacy.signing import Signer, Verifier

__all__ = [
    "FIRST",
    "Manifest",
    "ReleasedBudget",
    "ReleasedTensor",
    "manifest_sha256",
    "read_manifest",
    "sign_manifest",
]

FIRST = "0" * 64
"""What the first release names as the hash of the one before."""
_PURPOSE = "release 1"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ReleasedTensor(BaseModel):
    """What one tensor looks like, and the SHA-256 of its row-major bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    shape: list[Annotated[int, Field(ge=0)]]
    dtype: str
    sha256: Sha256


class ReleasedBudget(BaseModel):
    """The privacy budget that a release was made under, as policy and finished rounds imply it.

    It is the same for every partner's people and no partner's own account, which may hold more: what was answered in a
    round that failed was told all the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    epsilon: float
    """All that may ever be spent on a person."""
    delta: float
    mechanism: str
    """Who adds the noise: ``local`` or ``distributed``."""
    safe: bool
    """Whether the noise is nobody's to repeat; without it nothing is private."""
    spent: float
    """ε, at ``delta``, of all rounds that were finished under this policy."""


class Manifest(BaseModel):
    """A release, or the state of a learner between two rounds, as the server states it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    federation: str
    learner: str
    number: Annotated[int, Field(ge=0)]
    """Of the release, from 1; 0 for a state between two rounds, which is no release."""
    run: str
    round: Annotated[int, Field(ge=0)]
    time: str
    """UTC, ISO 8601."""
    policy_sha256: Sha256
    participants: Annotated[int, Field(ge=0)]
    """How many contributed to the last round."""
    names: list[str] | None = None
    """Who they were, where the policy lets it be known."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Of the last round: means over the participants that gave the figure."""
    privacy: ReleasedBudget | None = None
    """``None``: no differential privacy, or a state between two rounds."""
    koinon_version: str
    code_sha256: str = ""
    """Of the server's installed package (:func:`koinon.protos.installed.code_sha256`)."""
    encoder_sha256: str = ""
    """Fingerprint of the pinned encoder; empty where none is."""
    info: dict[str, bool | int | float | str] = Field(default_factory=dict)
    tensors: dict[str, ReleasedTensor]
    previous_sha256: Sha256 = FIRST
    """Of the manifest of the release with the number before; :data:`FIRST` for the first."""

    def statement(self) -> bytes:
        """Return the canonical bytes: what is hashed and signed."""
        return canonical(self.model_dump(mode="json", exclude_none=True))

    def hashes(self) -> Mapping[str, str]:
        """Return the SHA-256 of each tensor."""
        return {name: tensor.sha256 for name, tensor in self.tensors.items()}


def manifest_sha256(statement: bytes) -> str:
    """Return the hash by which the ledger names a manifest."""
    return hashlib.sha256(statement).hexdigest()


def sign_manifest(statement: bytes, signer: Signer) -> bytes:
    """Return the signature, 64 bytes, under a manifest's canonical bytes."""
    return signer.sign(_PURPOSE, statement)


def read_manifest(statement: bytes, signature: bytes = b"", verifier: Verifier | None = None) -> Manifest:
    """Read a manifest, and believe it only if the server has signed it.

    Parameters
    ----------
    statement
        Its canonical bytes.
    signature, verifier
        The signature and the server's pinned key; without a key nothing is verified but the form.

    Raises
    ------
    FederationError
        K776 it is not signed by that key, K710 it is no manifest.
    """
    if verifier is not None and not verifier.valid(_PURPOSE, statement, signature):
        raise FederationError(
            "K776",
            "A release is not signed by the server's key.",
            "Do not use it; ask the operator by another way which key is the right one.",
        )
    try:
        value: Any = parsed(statement)
        return Manifest.model_validate(value)
    except (ValueError, ValidationError) as error:
        raise FederationError("K710", f"A release's manifest is damaged: {error}.", "Fetch it again.") from error
