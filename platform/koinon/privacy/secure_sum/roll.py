"""Who is in a sum, agreed upon before the masks come off (Bonawitz et al. 2017, round 3).

On a sparse graph a partner sees its neighbours alone, so a server could tell one partner that another is in the sum
and the next that it is not, and take the masks off fewer than it may. Therefore every contributor signs one list of
all contributors, and nobody hands in a share before enough others are seen to have signed the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum.rules import Rules, Session

__all__ = ["Signer", "Verifier", "check_assents", "check_roll", "roll_bytes"]

Signer = Callable[[bytes], bytes]
"""Signs bytes with the member's key."""
Verifier = Callable[[str, bytes, bytes], bool]
"""Whether a member (name) has signed these bytes thus (bytes, signature); ``False`` for a stranger, too."""


def roll_bytes(session: Session, names: Sequence[str]) -> bytes:
    """Give what a contributor signs: the sum, and everybody in it."""
    return b"koinon secure sum roll" + json.dumps([session.digest.hex(), *names]).encode()


def check_roll(names: Sequence[str], own: str, rules: Rules) -> None:
    """Hold a list of contributors against the rules, before it is signed.

    Raises
    ------
    PrivacyError
        K635 it is not in order, has a name twice, lacks this partner, or is shorter than the rules' minimum.
    """
    if list(names) != sorted(set(names)) or own not in names or len(names) < rules.minimum:
        raise PrivacyError(
            "K635",
            f"The server's list of {len(names)} contributors is none that this partner may sign.",
            "Nothing is answered; if it happens again, ask the operator.",
        )


def check_assents(
    assents: Mapping[str, bytes],
    *,
    session: Session,
    names: Collection[str],
    around: Collection[str],
    least: int,
    least_around: int,
    verify: Verifier,
) -> None:
    """Hold the signatures of others against the list that this partner has signed.

    With ``least_around`` above half of a neighbourhood (and the conspirators in it), no two lists can both be signed
    by so many of it; neighbourhoods that lie next to each other overlap in all but two, so one list goes all around.

    Parameters
    ----------
    assents
        Signatures by name.
    session, names
        What was signed.
    around
        This partner and its neighbours.
    least, least_around
        So many of all contributors must have signed, and so many of those around.
    verify
        Tells who has signed.

    Raises
    ------
    PrivacyError
        K635 a signature is not of a contributor or of another list, or too few have signed.
    """
    said = roll_bytes(session, sorted(names))
    strange = sorted(name for name, by in assents.items() if name not in names or not verify(name, said, by))
    near = sum(name in around for name in assents)
    if strange or len(assents) < least or near < least_around:
        why = f"{strange[0]} has not signed it" if strange else f"{len(assents)} have signed it, {near} around this one"
        raise PrivacyError(
            "K635",
            f"Not enough contributors are known to be told the same list: {why}.",
            "Nothing is answered; if it happens again, the server tells different partners different things.",
        )
