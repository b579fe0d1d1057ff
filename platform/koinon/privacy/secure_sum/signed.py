"""Keys of a secure sum signed by members: so that a server cannot play a partner."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from koinon.privacy.secure_sum.roll import Signer, Verifier

__all__ = ["signed_by_member", "verified_by"]

_KEY = 32


def signed_by_member(key: Ed25519PrivateKey) -> Signer:
    """Return what signs bytes with a member's key: 32 bytes of its public key, 64 of the signature."""
    public = key.public_key().public_bytes_raw()
    return lambda said: public + key.sign(said)


def verified_by(members: Mapping[str, str]) -> Verifier:
    """Return what tells whether a member has signed, by the SHA-256 of the members' public keys."""

    def verify(name: str, said: bytes, signature: bytes) -> bool:
        public = signature[:_KEY]
        if len(public) != _KEY or hashlib.sha256(public).hexdigest() != members.get(name):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature[_KEY:], said)
        except (InvalidSignature, ValueError):
            return False
        return True

    return verify
