"""What the server keeps of invitations and members: the tables, and what others see of their rows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import sqlalchemy as sql
from sqlalchemy.orm import Mapped, mapped_column

from koinon.server.state import Base

__all__ = [
    "LONGEST_NAME",
    "NAME",
    "OVER",
    "Applicant",
    "InvitationRow",
    "Invited",
    "Member",
    "MemberRow",
    "SpentKey",
    "State",
    "invited_of",
    "iso",
    "key_sha256",
    "member_of",
    "now",
]

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST_NAME = 63


class State(StrEnum):
    """A member's standing."""

    APPLIED = "applied"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUSPENDED = "suspended"
    REMOVED = "removed"
    LEFT = "left"


OVER = frozenset({State.REJECTED, State.REMOVED, State.LEFT})
"""Standings that end a membership."""


class InvitationRow(Base):
    """An invitation; its secret is kept nowhere."""

    __tablename__ = "invitations"
    secret_sha256: Mapped[str] = mapped_column(primary_key=True)
    partner: Mapped[str]
    created: Mapped[str]
    expires: Mapped[str]
    ended: Mapped[str] = mapped_column(default="")
    """``used`` or ``revoked``."""


class MemberRow(Base):
    """A member, whatever its standing."""

    __tablename__ = "members"
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    since: Mapped[str]
    node_key: Mapped[bytes]
    member_key: Mapped[bytes]
    policy_sha256: Mapped[str]
    code_sha256: Mapped[str]
    koinon_version: Mapped[str]
    last_time_ms: Mapped[int] = mapped_column(sql.BigInteger)
    node_id: Mapped[str] = mapped_column(default="")
    """Decimal: Flower's ids have 64 bits without a sign, which no database has a type for."""


class SpentKey(Base):
    """Node keys that were registered with Flower once; it takes none of them a second time."""

    __tablename__ = "spent_node_keys"
    sha256: Mapped[str] = mapped_column(primary_key=True)


@dataclass(frozen=True)
class Invited:
    """An invitation as the server knows it."""

    secret_sha256: str
    partner: str
    created: datetime
    expires: datetime
    ended: str
    """``used``, ``revoked``, ``expired``, or empty: it is open."""


@dataclass(frozen=True)
class Applicant:
    """What a partner declares when it applies; checked by whoever hands it in.

    Attributes
    ----------
    node_key
        Public key of its SuperNode: NIST P-384, PEM.
    member_key
        Ed25519 public key, 32 raw bytes.
    """

    partner: str
    node_key: bytes
    member_key: bytes
    policy_sha256: str
    code_sha256: str
    koinon_version: str
    time_ms: int


@dataclass(frozen=True)
class Member:
    """A member as the registry knows it."""

    name: str
    state: State
    since: datetime
    node_key: bytes
    member_key: bytes
    policy_sha256: str
    """The policy it has accepted."""
    code_sha256: str
    koinon_version: str
    last_time_ms: int
    node_id: int | None
    """Under which Flower knows its node; ``None`` until it has been registered there."""


def key_sha256(key: bytes) -> str:
    """By what the record names a public key."""
    return hashlib.sha256(key).hexdigest()


def member_of(row: MemberRow) -> Member:
    """What others see of a row."""
    return Member(
        name=row.name,
        state=State(row.state),
        since=datetime.fromisoformat(row.since),
        node_key=row.node_key,
        member_key=row.member_key,
        policy_sha256=row.policy_sha256,
        code_sha256=row.code_sha256,
        koinon_version=row.koinon_version,
        last_time_ms=row.last_time_ms,
        node_id=int(row.node_id) if row.node_id else None,
    )


def invited_of(row: InvitationRow) -> Invited:
    """What others see of a row; an open one may have expired."""
    expires = datetime.fromisoformat(row.expires)
    ended = row.ended or ("expired" if expires <= now() else "")
    return Invited(row.secret_sha256, row.partner, datetime.fromisoformat(row.created), expires, ended)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """As it is kept: milliseconds, UTC."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
