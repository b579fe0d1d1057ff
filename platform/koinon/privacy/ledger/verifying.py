"""Finding what has been done to a ledger.

Each entry is held against its own hash, against the server's key, and against the entry before it. So an edit, a
removal, an insertion and a reordering are found and named, whoever made them. Two things a ledger cannot show by
itself: that its *last* entries are missing, and that the server has signed two different histories. Both show as soon
as it is held against anything that somebody else has kept: a partner's copy, or a single entry of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from koinon.privacy.ledger.entry import Entry
from koinon.privacy.signing import Verifier

__all__ = ["Fault", "Findings", "verify"]

What = Literal["unreadable", "edited", "forged", "missing", "out of order", "unlinked", "truncated", "forked"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes
    ----------
    position
        Place in the ledger as it was read, from 1.
    sequence
        The entry's number as it states it; ``None`` where it cannot be read.
    what
        ``unreadable`` no entry, or not in its one form; ``edited`` the hash is not that of the content; ``forged`` not
        signed by the key; ``missing`` entries before this one are gone; ``out of order`` its number does not follow;
        ``unlinked`` it does not follow from the entry before it; ``truncated`` the copy knows entries that are not
        there; ``forked`` the copy's entry of that number is another one.
    message
        A sentence.
    """

    position: int
    sequence: int | None
    what: What
    message: str


@dataclass(frozen=True)
class Findings:
    """What verifying a ledger has found.

    Attributes
    ----------
    faults
        In the order of the ledger; empty: it is whole.
    entries
        How many entries it has.
    head
        The last readable entry.
    """

    faults: tuple[Fault, ...]
    entries: int
    head: Entry | None

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass
class _Chain:
    """What is remembered while a ledger passes by."""

    verifier: Verifier
    previous: Entry | None = None
    gap: bool = False
    count: int = 0
    faults: list[Fault] = field(default_factory=list)

    def take(self, found: Entry | ValueError) -> None:
        self.count += 1
        if isinstance(found, ValueError):
            self._fault(None, "unreadable", f"Entry {self.count} cannot be read: {found}.")
            self.gap = True
            return
        if not found.intact():
            self._fault(
                found, "edited", f"Entry {found.sequence} has been edited: its hash is not that of its content."
            )
        if not found.signed_by(self.verifier):
            self._fault(found, "forged", f"Entry {found.sequence} does not carry the server's signature.")
        if not self.gap and not found.follows(self.previous):
            self._unlinked(found)
        self.previous, self.gap = found, False

    def _unlinked(self, found: Entry) -> None:
        expected = self.previous.sequence + 1 if self.previous else 1
        if found.sequence > expected:
            lost = (
                f"Entry {expected} is"
                if found.sequence == expected + 1
                else f"Entries {expected} to {found.sequence - 1} are"
            )
            self._fault(found, "missing", f"{lost} missing before entry {found.sequence}.")
        elif found.sequence < expected:
            self._fault(found, "out of order", f"Entry {found.sequence} stands where entry {expected} should.")
        else:
            before = f"entry {expected - 1}" if expected > 1 else "the beginning"
            self._fault(found, "unlinked", f"Entry {found.sequence} does not follow from {before}.")

    def _fault(self, entry: Entry | None, what: What, message: str) -> None:
        self.faults.append(Fault(self.count, entry.sequence if entry else None, what, message))


def verify(
    ledger: Iterable[Entry | ValueError],
    verifier: Verifier,
    *,
    against: Iterable[Entry | ValueError] = (),
) -> Findings:
    """Find every edit, removal, insertion and reordering in a ledger.

    Parameters
    ----------
    ledger
        Its entries in the order in which they lie there; an exception stands for one that cannot be read.
    verifier
        The server's public key.
    against
        Entries that somebody else has kept: a whole copy, a part of it, or one entry. Those that the server has not
        signed prove nothing and are reported as faults of the copy.

    Returns
    -------
    Findings
        ``whole`` if nothing is wrong.
    """
    kept: dict[int, Entry] = {}
    strangers = []
    for position, entry in enumerate(against, start=1):
        if isinstance(entry, ValueError) or not entry.intact() or not entry.signed_by(verifier):
            sequence = None if isinstance(entry, ValueError) else entry.sequence
            strangers.append(Fault(position, sequence, "forged", f"The copy's entry {position} is not the server's."))
        else:
            kept[entry.sequence] = entry
    chain = _Chain(verifier)
    for found in ledger:
        chain.take(found)
        if isinstance(found, Entry):
            known = kept.pop(found.sequence, None)
            if known is not None and known.hash != found.hash:
                message = f"Entry {found.sequence} is another one than the copy's: one of the two histories is false."
                chain.faults.append(Fault(chain.count, found.sequence, "forked", message))
    last = chain.previous.sequence if chain.previous else 0
    faults = chain.faults + strangers
    for sequence in sorted(kept):
        if sequence > last:
            message = f"The copy goes on to entry {max(kept)}, the ledger ends with entry {last}."
            faults.append(Fault(chain.count, last or None, "truncated", message))
            break
    return Findings(tuple(faults), chain.count, chain.previous)
