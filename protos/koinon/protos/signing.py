"""What members sign: a message without its signature, under its own name, by Ed25519."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf.message import Message

__all__ = ["sign", "signed_by", "signed_bytes"]

_DOMAIN = b"koinon signature 1\0"


def signed_bytes(message: Message) -> bytes:
    """Return what a signature over a message covers.

    Every field but ``signature``, serialised deterministically, behind the message's full name: a signature of one
    kind of message is worth nothing under another.
    """
    unsigned = type(message)()
    unsigned.CopyFrom(message)
    unsigned.ClearField("signature")
    return _DOMAIN + message.DESCRIPTOR.full_name.encode() + b"\0" + unsigned.SerializeToString(deterministic=True)


def sign(message: Message, key: Ed25519PrivateKey) -> None:
    """Sign a message in place: its field ``signature`` takes the 64 bytes."""
    message.signature = key.sign(signed_bytes(message))  # type: ignore[attr-defined]


def signed_by(message: Message, public_key: bytes) -> bool:
    """Whether a message's signature was made over its present content by the owner of a key.

    Parameters
    ----------
    message
        A message with a field ``signature``.
    public_key
        The 32 raw bytes of an Ed25519 public key; anything else has signed nothing.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(message.signature, signed_bytes(message))  # type: ignore[attr-defined]
    except (InvalidSignature, ValueError):
        return False
    return True
