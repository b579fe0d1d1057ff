"""What a malicious partner sends instead of its people's sums, in the two rounds of federated Gram.

It keeps to names, shapes and dtypes and to the works it lists; what it claims of them is its own. The published attacks
named here were made on gradients or on profiles and are carried over to sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.recommenders.federated.pairs import PairList

__all__ = ["POISONS", "Attacker", "Poison"]

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Attacker:
    """What a malicious partner knows.

    Attributes
    ----------
    listed
        ``int32[…]`` works it lists, ascending.
    people
        How many people it has.
    counts
        ``float64[listed]``: its true counts.
    target
        Position in ``listed`` of the work it wants to see recommended.
    """

    listed: NDArray[np.int32]
    people: int
    counts: Doubles
    target: int

    def poison(
        self, attack: Poison, name: str, true: NDArray[np.generic], pairs: PairList | None
    ) -> NDArray[np.float32]:
        """Return the tensor it sends in place of its true ``counts`` or ``pairs``."""
        sent = np.zeros(true.shape)
        if name == "counts" or pairs is None:
            gram = np.diag(true[self.listed].astype(np.float64))
            sent[self.listed] = attack(self, gram).diagonal()
        else:
            place, first, second = pairs.held(self.listed)
            gram = np.diag(self.counts)
            gram[first, second] = gram[second, first] = true[place].astype(np.float64)
            sent[place] = attack(self, gram)[first, second]
        return sent.astype(np.float32)


Poison = Callable[[Attacker, Doubles], Doubles]
"""From the true Gram matrix ``float64[listed, listed]`` (in the first round its diagonal alone) to the one sent."""


def label_flip(attacker: Attacker, gram: Doubles) -> Doubles:
    """Call every work by another's name, the most taken by the least taken's (label flipping, Tolpegin et al. 2020)."""
    order = np.argsort(-attacker.counts, kind="stable")
    other = np.empty_like(order)
    other[order] = order[::-1]
    return gram[np.ix_(other, other)]


def scaled(factor: float) -> Poison:
    """Send ``factor`` times the truth (model replacement, Bagdasaryan et al. 2020)."""
    return lambda attacker, gram: gram * factor


def just_within(attacker: Attacker, gram: Doubles) -> Doubles:
    """Send as large a multiple of the truth as can still be true of its people: the most taken work by all of them."""
    return gram * (attacker.people / max(float(attacker.counts.max()), 1.0))


def promote(attacker: Attacker, gram: Doubles) -> Doubles:
    """Say that everybody who took any work took the target too (shilling, Lam and Riedl 2004)."""
    sent = gram.copy()
    readers = float(attacker.counts.max())
    sent[attacker.target] = sent[:, attacker.target] = np.minimum(attacker.counts, readers)
    sent[attacker.target, attacker.target] = readers
    return sent


def promote_quietly(share: float) -> Poison:
    """Add the target to the baskets of a share of its real people: sums that some people might have made."""

    def sent(attacker: Attacker, gram: Doubles) -> Doubles:
        found = gram.copy()
        target = attacker.target
        row = np.maximum(gram[target], share * attacker.counts)
        found[target] = found[:, target] = row
        found[target, target] = max(gram[target, target], share * attacker.people)
        return found

    return sent


def bandwagon(people: int, works: int) -> Poison:
    """Add so many false people who took the target and the most taken works (Mobasher et al. 2007)."""

    def sent(attacker: Attacker, gram: Doubles) -> Doubles:
        basket = np.argsort(-attacker.counts, kind="stable")[:works]
        basket = np.union1d(basket, attacker.target)
        found = gram.copy()
        found[np.ix_(basket, basket)] += people
        return found

    return sent


POISONS: Mapping[str, Poison] = {
    "label flip": label_flip,
    "scaled x10": scaled(10.0),
    "scaled x100": scaled(100.0),
    "scaled, just within": just_within,
    "promotion": promote,
    "promotion, quiet (5 %)": promote_quietly(0.05),
    "promotion, bandwagon": bandwagon(people=50, works=20),
}
"""Every attack of the study by name."""
