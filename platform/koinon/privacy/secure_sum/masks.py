"""Masks: streams of AES-256 in counter mode under keys from HKDF, added to words in place.

The keystream goes into one small buffer that stays in the processor's cache and is viewed as words, so a mask costs
about a pass over memory. Key agreement is X25519, key derivation HKDF-SHA-256 whose ``info`` names session, purpose and
both ends; all of it from the ``cryptography`` library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from koinon.errors import PrivacyError

__all__ = [
    "KEY_BYTES",
    "SEED_BYTES",
    "Words",
    "add_masks",
    "agree",
    "derive",
    "private_key",
    "public_bytes",
    "word_type",
]

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""``uint32[n]`` or ``uint64[n]``, little-endian: elements of the ring of integers modulo 2^32 or 2^64."""

KEY_BYTES = 32
SEED_BYTES = 16
"""128 bits, as strong as X25519, and one block of the field in which seeds are shared."""
_CHUNK = 1 << 16
_ZEROS = bytes(_CHUNK)
_COUNTER = bytes(16)


def word_type(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Give the words of a ring, little-endian.

    Raises
    ------
    PrivacyError
        K622 neither 32 nor 64 bits.
    """
    if bits == 32:
        return np.dtype("<u4")
    if bits == 64:
        return np.dtype("<u8")
    raise PrivacyError("K622", f"Words of {bits} bits are not summed.", "Use 32 or 64.")


def derive(secret: bytes, label: str, session_digest: bytes, *ends: str | bytes) -> bytes:
    """Derive a 256-bit key that is good for one purpose, one session and these ends only."""
    told = [end.hex() if isinstance(end, bytes) else end for end in ends]
    info = json.dumps(["koinon", label, session_digest.hex(), *told]).encode()
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=session_digest, info=info).derive(secret)


def private_key(seed: bytes, session_digest: bytes) -> X25519PrivateKey:
    """Make the key pair that a shared seed stands for."""
    return X25519PrivateKey.from_private_bytes(derive(seed, "mask key pair", session_digest))


def public_bytes(key: X25519PrivateKey) -> bytes:
    """Give a key pair's public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def agree(own: X25519PrivateKey, other: bytes) -> bytes:
    """Agree on a secret with the owner of a public key.

    Raises
    ------
    PrivacyError
        K629 the public key is degenerate, so that the secret would be known to all.
    """
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise PrivacyError(
            "K629", "A neighbour's public key is degenerate.", "The partner must draw a new key; leave it out."
        ) from error


def add_masks(words: Words, plus: Sequence[bytes], minus: Sequence[bytes] = ()) -> None:
    """Add the masks of the keys ``plus`` to the words and take those of ``minus`` away, in place, modulo 2^bits.

    Every key is used for one mask only, so the counter begins at zero.
    """
    kind = words.dtype
    streams = [
        (Cipher(algorithms.AES(key), modes.CTR(_COUNTER)).encryptor(), operation)
        for keys, operation in ((plus, np.add), (minus, np.subtract))
        for key in keys
    ]
    buffer = bytearray(_CHUNK)
    mask = np.frombuffer(buffer, dtype=kind)
    length = _CHUNK // kind.itemsize
    for start in range(0, len(words), length):
        part = words[start : start + length]
        zeros = memoryview(_ZEROS)[: part.nbytes]
        for stream, operation in streams:
            stream.update_into(zeros, buffer)
            operation(part, mask[: len(part)], out=part)
