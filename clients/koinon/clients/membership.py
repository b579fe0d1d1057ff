"""What a partner's operator has accepted: ``<folder>/federation/membership.toml``."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field

from koinon.config import Config, write_atomically
from koinon.errors import FederationError
from koinon.protos import federation_pb2 as wire

__all__ = ["Membership", "policy_sha256"]

_HASH = r"^[0-9a-f]{64}$"


class Membership(Config):
    """The federation, its server, and everything of it that is pinned. Holds nothing secret."""

    version: Literal[1] = 1
    federation: str
    partner: str
    join_address: str
    """``host:port`` of the joining service."""
    fleet_address: str
    """``host:port`` of the SuperLink."""
    ca_certificate: str
    """PEM: the only authority whose certificates are believed."""
    invitation_sha256: str = Field(pattern=_HASH)
    """Of the secret of the invitation by which the partner came."""
    policy: str
    """The accepted policy, base64 of its serialised form."""
    policy_sha256: str = Field(pattern=_HASH)
    ledger_key: str
    """Ed25519 public key that signs releases and ledger, base64."""
    code_sha256: str = Field(pattern=_HASH)
    """Of the installed Koinon: no other works on this partner's data."""
    app_sha256: str = Field(pattern=_HASH)
    """Of the Flower app: the node takes no other."""
    encoder_sha256: str = ""
    """Fingerprint of the federation's encoder; empty where it is not pinned."""
    koinon_version: str
    flower_version: str
    accepted: AwareDatetime
    """When, UTC."""

    @staticmethod
    def file(folder: Path) -> Path:
        """Where a partner's folder keeps it."""
        return folder / "federation" / "membership.toml"

    @classmethod
    def of(cls, folder: Path) -> Membership:
        """Read a partner's membership.

        Raises
        ------
        FederationError
            K736 the folder belongs to no federation.
        ConfigError
            K101-K103 the file is damaged.
        """
        path = cls.file(folder)
        if not path.is_file():
            raise FederationError(
                "K736", f"{folder} belongs to no federation yet.", f"`koinon partner join INVITATION {folder}`."
            )
        return cls.from_toml(path)

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(self.file(folder), self.to_toml())

    @property
    def agreed(self) -> wire.Policy:
        """The policy that was accepted."""
        return wire.Policy.FromString(base64.b64decode(self.policy))


def policy_sha256(policy: wire.Policy) -> str:
    """Fingerprint of a policy, as members pin it and releases carry it."""
    return hashlib.sha256(policy.SerializeToString(deterministic=True)).hexdigest()
