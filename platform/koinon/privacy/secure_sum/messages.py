"""What partners and server say to each other in a secure sum, as bytes.

Control messages are JSON (bytes as base64) read strictly: unknown fields, other types, other lengths are refused.
Masked words are raw: a header of 80 bytes, then the words, little-endian, so that they can be added where they lie.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum.masks import KEY_BYTES, Words, word_type
from koinon.privacy.secure_sum.rules import LEAST_CONTRIBUTORS, Session
from koinon.privacy.secure_sum.sharing import SHARE_BYTES

__all__ = [
    "Assent",
    "Claim",
    "Cohort",
    "Delivery",
    "Keys",
    "Member",
    "Message",
    "Roll",
    "Share",
    "Shares",
    "Unmask",
    "blank_masked",
    "read_masked",
]

Key = Annotated[bytes, Field(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Share = Annotated[bytes, Field(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Box = Annotated[bytes, Field(max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Signature = Annotated[bytes, Field(max_length=512)]

_HEADER = struct.Struct("<4sB3xQ32s32s")
_MAGIC = b"KSS1"


class Message(BaseModel):
    """A control message of one session."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    session: Key

    @classmethod
    def read(cls, said: bytes, session: Session) -> Self:
        """Read a message of this kind.

        Raises
        ------
        PrivacyError
            K626 it is none, K627 it belongs to another session.
        """
        try:
            message = cls.model_validate_json(bytes(said))
        except ValidationError as error:
            raise PrivacyError(
                "K626",
                f"What came is no {cls.__name__.lower()} message of a secure sum.",
                "Are all on one version of Koinon?",
            ) from error
        if message.session != session.digest:
            raise _other_session()
        return message

    def to_bytes(self) -> bytes:
        """Give it as it travels."""
        return self.model_dump_json().encode()


class Keys(Message):
    """A partner's public keys for one session.

    Attributes
    ----------
    channel, mask
        X25519 keys: for sealing shares, and for agreeing on masks.
    commitment
        SHA-256 key derived from the seed of the partner's own mask; shows the server that it was put together right.
    signature
        The member's signature of :meth:`signed`, or empty.
    """

    kind: Literal["keys"] = "keys"
    partner: Name
    channel: Key
    mask: Key
    commitment: Key
    signature: Signature = b""

    def signed(self) -> bytes:
        """Give what the signature is about."""
        said = [self.partner, *(part.hex() for part in (self.session, self.channel, self.mask, self.commitment))]
        return b"koinon secure sum keys" + json.dumps(said).encode()


class Member(BaseModel):
    """A neighbour: its number in the order of names, and its keys."""

    model_config = Message.model_config

    index: Annotated[int, Field(ge=0)]
    keys: Keys


class Cohort(Message):
    """Told to a partner: how many take part, its own number, and its neighbours."""

    kind: Literal["cohort"] = "cohort"
    receiver: Name
    size: Annotated[int, Field(ge=LEAST_CONTRIBUTORS, le=1 << 20)]
    index: Annotated[int, Field(ge=0)]
    neighbours: tuple[Member, ...]


class Shares(Message):
    """A partner's sealed shares, by receiver."""

    kind: Literal["shares"] = "shares"
    partner: Name
    boxes: dict[Name, Box]


class Delivery(Message):
    """Told to a partner: its neighbours' sealed shares, by sender. Who is missing here is not masked with."""

    kind: Literal["delivery"] = "delivery"
    receiver: Name
    boxes: dict[Name, Box]


class Roll(Message):
    """Told to a contributor on a sparse graph: everybody whose words are in the sum, in order."""

    kind: Literal["roll"] = "roll"
    receiver: Name
    names: tuple[Name, ...]


class Assent(Message):
    """A contributor's signature of the roll."""

    kind: Literal["assent"] = "assent"
    partner: Name
    signature: Signature


class Claim(Message):
    """Told to a partner: which of its neighbours (and itself) have sent masked words, and which have dropped.

    ``assents``: on a sparse graph, who has signed the same roll.
    """

    kind: Literal["claim"] = "claim"
    receiver: Name
    alive: tuple[Name, ...]
    dropped: tuple[Name, ...]
    assents: dict[Name, Signature] = {}


class Unmask(Message):
    """A partner's answer: a share of the own mask's seed of who is alive, of the mask key's of who has dropped."""

    kind: Literal["unmask"] = "unmask"
    partner: Name
    alive: dict[Name, Share]
    dropped: dict[Name, Share]


def blank_masked(session: Session, partner: str, count: int, bits: int) -> tuple[bytearray, Words]:
    """Make a message for masked words and a view of its words, to be filled in place."""
    kind = word_type(bits)
    message = bytearray(_HEADER.size + count * kind.itemsize)
    _HEADER.pack_into(message, 0, _MAGIC, bits, count, session.digest, _fingerprint(partner))
    return message, np.frombuffer(message, dtype=kind, offset=_HEADER.size)


def read_masked(said: bytes | bytearray | memoryview, session: Session, partner: str, count: int, bits: int) -> Words:
    """View the masked words of a message, without copying.

    Raises
    ------
    PrivacyError
        K626 it is no such message or has other words than asked for, K627 it belongs to another session or partner.
    """
    kind = word_type(bits)
    if len(said) != _HEADER.size + count * kind.itemsize:
        raise PrivacyError(
            "K626", "The masked words are not as many as asked for.", "Are all on one version of Koinon?"
        )
    magic, told_bits, told_count, digest, sender = _HEADER.unpack_from(said)
    if (magic, told_bits, told_count) != (_MAGIC, bits, count):
        raise PrivacyError(
            "K626", "What came are no masked words of a secure sum.", "Are all on one version of Koinon?"
        )
    if digest != session.digest or sender != _fingerprint(partner):
        raise _other_session()
    return np.frombuffer(said, dtype=kind, offset=_HEADER.size)


def _fingerprint(partner: str) -> bytes:
    return hashlib.sha256(partner.encode()).digest()


def _other_session() -> PrivacyError:
    return PrivacyError(
        "K627", "A message of a secure sum belongs to another run, round, policy or partner.", "It is not used."
    )
