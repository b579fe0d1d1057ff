"""Who the members are, as the ledger tells it: what a partner trusts is what the server can no longer take back."""

from __future__ import annotations

from collections.abc import Iterable

from koinon.privacy.ledger.entry import Entry
from koinon.privacy.ledger.kinds import Kind

__all__ = ["member_keys"]

_ENDS = frozenset({Kind.REJECTED, Kind.REMOVED, Kind.LEFT})


def member_keys(entries: Iterable[Entry]) -> dict[str, str]:
    """Return the SHA-256 of every approved member's key, by name, from a ledger's entries in order."""
    asked: dict[str, str] = {}
    members: dict[str, str] = {}
    for entry in entries:
        if entry.kind == Kind.APPLIED:
            asked[entry.subject] = str(entry.body["member_key_sha256"])
        elif entry.kind == Kind.APPROVED and entry.subject in asked:
            members[entry.subject] = asked[entry.subject]
        elif entry.kind in _ENDS:
            members.pop(entry.subject, None)
    return members
