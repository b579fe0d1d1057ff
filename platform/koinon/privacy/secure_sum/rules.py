"""What both halves of a secure sum know before it begins: which sum it is, how many must be there, who masks with whom.

Everything here is computed from the policy, the run and the number of partners, so that each half can hold the other
to it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property

from koinon.errors import PrivacyError

__all__ = ["LEAST_CONTRIBUTORS", "Graph", "Rules", "Session"]

LEAST_CONTRIBUTORS = 3
"""Of two contributors each could subtract itself and would know the other."""


@dataclass(frozen=True)
class Session:
    """Which sum this is. Keys, masks and sealed shares are bound to it: what belongs to another does not open.

    Attributes
    ----------
    run
        Names the run of the federation; a new one for every start, constant over resumes.
    round
        Number of the round.
    policy_sha256
        Fingerprint of the federation's policy that the partner has accepted.
    purpose
        What is summed, e.g. the learner's name, and which try it is.
    """

    run: str
    round: int
    policy_sha256: str
    purpose: str = ""

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all of it."""
        said = json.dumps(["koinon secure sum 1", self.run, self.round, self.policy_sha256, self.purpose])
        return hashlib.sha256(said.encode()).digest()


@dataclass(frozen=True)
class Rules:
    """How many must take part, and how densely they mask each other.

    Attributes
    ----------
    minimum
        A total is released for at least so many contributors; 3 or more.
    quorum
        Share of a secret's holders (its owner and the owner's neighbours) who must hand in their shares before the
        secret is known, above 1/2 and at most 1. Above one half no server can learn both secrets of a partner by
        telling its neighbours different stories, and with two thirds not even one with which nearly a third of them
        conspire (Bonawitz et al. 2017: 2 t > n + conspirators). What is left, a third, may drop out.
    density
        Neighbours per ``log2`` of the number of partners, 2 or more. Bell et al. (2020) show that O(log n) are
        enough; :func:`koinon.privacy.secure_sum.odds.odds` says what a number is good for.

    Raises
    ------
    PrivacyError
        K622 a setting under which a sum would not protect.
    """

    minimum: int = LEAST_CONTRIBUTORS
    quorum: float = 2 / 3
    density: float = 5.0

    def __post_init__(self) -> None:
        if self.minimum < LEAST_CONTRIBUTORS:
            raise PrivacyError(
                "K622",
                f"A secure sum over {self.minimum} contributors protects nobody: each could subtract itself.",
                f"Ask for at least {LEAST_CONTRIBUTORS}.",
            )
        if not 0.5 < self.quorum <= 1:
            raise PrivacyError(
                "K622",
                f"A quorum of {self.quorum} of a secret's holders is not above one half and at most one.",
                "Two thirds is usual.",
            )
        if not (self.density >= 2 and math.isfinite(self.density)):
            raise PrivacyError("K622", f"A density of {self.density} is too thin a graph.", "5 is usual.")

    def degree(self, n: int) -> int:
        """Neighbours of each of ``n`` partners: even, or everybody else where there are few."""
        return min(n - 1, 2 * math.ceil(self.density * math.log2(n) / 2))

    def threshold(self, n: int) -> int:
        """Shares that give a secret, among ``degree(n) + 1`` holders."""
        holders = self.degree(n) + 1
        return max(math.ceil(self.quorum * holders - 1e-9), holders // 2 + 1)

    def sparse(self, n: int) -> bool:
        """Whether partners see only a part of each other, so that they must agree on who is in the sum."""
        return self.degree(n) < n - 1

    def needed(self, n: int) -> int:
        """Of a partner and its neighbours so many must have answered, or it gives no share to anybody."""
        return self.threshold(n) if self.sparse(n) else max(self.threshold(n), self.minimum)


class Graph:
    """Who masks with whom: the partners in a ring, in an order drawn from the session, each with the nearest around it.

    A Harary graph over a permutation (Bell et al. 2020), numbers by the order of names. Both halves compute
    it, so that a server seats nobody by hand (it may still try session after session).

    Parameters
    ----------
    session
        The sum.
    n
        Partners, numbered from 0 in the order of their names.
    degree
        Neighbours of each; even, or ``n - 1``.
    """

    def __init__(self, session: Session, n: int, degree: int) -> None:
        def draw(index: int) -> bytes:
            return hashlib.sha256(session.digest + n.to_bytes(8, "big") + index.to_bytes(8, "big")).digest()

        self.degree = degree
        self.ring = sorted(range(n), key=draw)
        self.place = {index: place for place, index in enumerate(self.ring)}

    def neighbours(self, index: int) -> tuple[int, ...]:
        """Give the neighbours of one partner, ascending, without itself."""
        n = len(self.ring)
        if self.degree == n - 1:
            return tuple(other for other in range(n) if other != index)
        place, reach = self.place[index], self.degree // 2
        steps = [step for step in range(-reach, reach + 1) if step]
        return tuple(sorted(self.ring[(place + step) % n] for step in steps))

    def holders(self, index: int) -> tuple[int, ...]:
        """Who holds shares of a partner's secrets, ascending: its neighbours and itself."""
        return tuple(sorted((*self.neighbours(index), index)))
