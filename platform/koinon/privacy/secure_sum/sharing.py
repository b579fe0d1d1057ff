"""Secrets in shares, and shares under seal.

Shamir's sharing is Flower's (PyCryptodome's field GF(2^128)). Its encryption is not used: Fernet binds no context, and
its key agreement derives every key with an empty salt and an empty ``info``. Here shares travel under AES-256-GCM whose
associated data names session, sender and receiver.
"""

from __future__ import annotations

import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum.masks import SEED_BYTES

__all__ = ["SHARE_BYTES", "combine", "number_of", "seal", "split", "unseal"]

SHARE_BYTES = 36
"""Four bytes of the share's number, two blocks of sixteen."""
_NONCE = 12


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Share a seed so that any ``threshold`` of the ``holders`` give it and fewer give nothing."""
    return create_shares(secret, threshold, holders)


def combine(shares: list[bytes]) -> bytes | None:
    """Give the seed that so many shares stand for, or ``None`` where they stand for none."""
    try:
        secret = combine_shares(shares)
    except ValueError:
        return None
    return secret if len(secret) == SEED_BYTES else None


def number_of(share: bytes) -> int:
    """Tell a share's number, from 1; 0 for what is no share."""
    return int.from_bytes(share[:4], "little") if len(share) == SHARE_BYTES else 0


def seal(key: bytes, content: bytes, session_digest: bytes, sender: str, receiver: str) -> bytes:
    """Encrypt for one receiver in one session."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, _ends(session_digest, sender, receiver))


def unseal(key: bytes, box: bytes, session_digest: bytes, sender: str, receiver: str) -> bytes:
    """Open what was sealed by ``sender`` for ``receiver`` in this session.

    Raises
    ------
    PrivacyError
        K630 it was changed, or sealed by another, for another, or in another session.
    """
    try:
        return AESGCM(key).decrypt(box[:_NONCE], box[_NONCE:], _ends(session_digest, sender, receiver))
    except (InvalidTag, ValueError) as error:
        raise PrivacyError(
            "K630",
            f"The shares that came as {sender}'s were not sealed by it for this partner in this round.",
            "They were changed or exchanged on the way; if it happens again, ask the operator.",
        ) from error


def _ends(session_digest: bytes, sender: str, receiver: str) -> bytes:
    return session_digest + json.dumps([sender, receiver]).encode()
