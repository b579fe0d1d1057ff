"""Secrets in shares, and shares under seal.

Shamir's sharing is PyCryptodome's, over GF(2^128), which Flower's own shares are made of; called directly it takes a
seed as one block, where Flower's wrapper pads it to two and costs twice. Flower's encryption is not used: Fernet binds
no context, and its key agreement derives every key with an empty salt and an empty ``info``. Here shares travel under
AES-256-GCM whose associated data names session, sender and receiver.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum.masks import SEED_BYTES

__all__ = ["SHARE_BYTES", "combine", "number_of", "seal", "split", "unseal"]

SHARE_BYTES = 2 + SEED_BYTES
"""Two bytes of the share's number, then its block."""
_NONCE = 12


def split(seed: bytes, threshold: int, holders: int) -> list[bytes]:
    """Share a seed so that any ``threshold`` of the ``holders`` give it and fewer give nothing; numbers from 1."""
    return [number.to_bytes(2, "big") + block for number, block in Shamir.split(threshold, holders, seed, ssss=False)]


def combine(shares: Sequence[bytes]) -> bytes:
    """Give the seed that exactly ``threshold`` shares stand for; from other or fewer shares something else comes."""
    return Shamir.combine([(number_of(share), share[2:]) for share in shares], ssss=False)


def number_of(share: bytes) -> int:
    """Tell a share's number."""
    return int.from_bytes(share[:2], "big")


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
