"""What somebody who sees sums reads out of them: whole baskets, and whether a person is in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import poisson

__all__ = ["BasketsFound", "Membership", "membership", "rebuild_baskets"]

Doubles = NDArray[np.float64]
RARE = 20.0
"""Above so many expected people a cell is taken for normal."""
SHARP = 0.1
"""Sums without noise are whole numbers up to this."""
TINY = 1e-12


@dataclass(frozen=True)
class BasketsFound:
    """How well baskets were rebuilt.

    Attributes
    ----------
    people
        Baskets looked for: those of at least two works.
    claimed
        Baskets the attacker claims to have found.
    precision
        Share of the works in claimed baskets that the person took whose basket matches best; ``nan`` without a claim.
    recall
        Share of the works that people took that stand in a claimed basket which matches theirs best.
    whole
        Share of the people whose basket was found without an error.
    """

    people: int
    claimed: int
    precision: float
    recall: float
    whole: float


def rebuild_baskets(taken: csr_matrix, counts: Doubles, pairs: Doubles, *, level: float = 0.5) -> BasketsFound:
    """Rebuild baskets from sums (as gradient inversion does, Zhu et al. 2019: find the data that make what is seen).

    A work that one person took, by its count, has for its pairs exactly that person's other works. The basket is taken
    out of the sums, which leaves other works with one person, and so on. Under noise "one" is what rounds to it, and a
    pair is there when it is above ``level``.

    Parameters
    ----------
    taken
        The truth, binary ``[people, works]``, of all who are in the sums.
    counts
        ``float64[works]`` as seen.
    pairs
        ``float64[works, works]`` as seen, symmetric; the diagonal means nothing.
    level
        Above it a pair is believed.
    """
    left, between = counts.copy(), pairs.copy()
    np.fill_diagonal(between, 0.0)
    claims: list[NDArray[np.bool_]] = []
    tried = np.zeros(len(counts), dtype=np.bool_)
    while len(alone := np.flatnonzero((np.abs(left - 1.0) < 0.5) & ~tried)):
        work = alone[0]
        tried[work] = True
        basket = between[work] > level
        if not basket.any():
            continue
        basket[work] = True
        claims.append(basket)
        members = np.flatnonzero(basket)
        left[members] -= 1.0
        between[np.ix_(members, members)] -= 1.0
    people = csr_matrix(taken[np.flatnonzero(taken.getnnz(axis=1) >= 2)])
    size = people.getnnz(axis=1)
    if not claims:
        return BasketsFound(people.shape[0], 0, float("nan"), 0.0, 0.0)
    claimed = csr_matrix(np.stack(claims).astype(np.float32))
    both = np.asarray((claimed @ people.T).todense())
    best = both.max(axis=1)
    covered = np.where(both == best[:, None], both, 0.0).max(axis=0)
    whole = (both == size[None, :]) & (np.asarray(claimed.getnnz(axis=1))[:, None] == size[None, :])
    return BasketsFound(
        people=people.shape[0],
        claimed=len(claims),
        precision=float(best.sum() / claimed.nnz),
        recall=float(covered.sum() / size.sum()),
        whole=float(whole.any(axis=0).mean()),
    )


@dataclass(frozen=True)
class Membership:
    """How well members are told from others.

    Attributes
    ----------
    auc
        Chance that a member scores above a non-member, ties by half; 0.5 is chance.
    tpr
        Share of members found where 1 % of non-members are taken for members.
    """

    auc: float
    tpr: float


def membership(members: csr_matrix, others: csr_matrix, seen: Doubles, expected: Doubles, noise: Doubles) -> Membership:
    """Ask of each person, whose basket the attacker knows, whether it is in the sums.

    The score is the log likelihood ratio of the cells that the person would be in, taken as independent (Sankararaman
    et al. 2009): a cell is a Poisson number of other people, and the person's own part if it is in, plus noise.

    Parameters
    ----------
    members, others
        Baskets ``[people, cells]`` of those who are in the sums, and of people like them who are not; an entry is what
        the person adds to a cell, or would.
    seen
        ``float64[cells]``: the sums.
    expected
        ``float64[cells]``: what the attacker expects of the other people, from what it knows besides.
    noise
        ``float64[cells]``: standard deviation of the noise.
    """
    inside, outside = (
        np.asarray(
            csr_matrix((_ratios(people, seen, expected, noise), people.indices, people.indptr), people.shape).sum(
                axis=1
            )
        ).ravel()
        for people in (members, others)
    )
    order = np.sort(outside)
    below = np.searchsorted(order, inside, "left") + np.searchsorted(order, inside, "right")
    threshold = np.quantile(outside, 0.99, method="higher")
    return Membership(float(below.mean() / 2 / len(order)), float((inside > threshold).mean()))


def _ratios(people: csr_matrix, seen: Doubles, expected: Doubles, noise: Doubles) -> Doubles:
    """Log likelihood ratio of every entry, ``float64[entries]``."""
    cell, own = people.indices, people.data.astype(np.float64)
    mean, spread = np.maximum(expected[cell], 1e-6), np.maximum(noise[cell], SHARP)
    total = seen[cell]
    ratio: Doubles = ((total - mean) ** 2 - (total - own - mean) ** 2) / (2 * (mean + spread**2))
    rare = np.flatnonzero(mean < RARE)
    number = np.arange(int(RARE * 2) + 1)
    chance = poisson.pmf(number[None, :], mean[rare, None])

    def likelihood(left: Doubles) -> Doubles:
        near = np.exp(-0.5 * ((left[:, None] - number[None, :]) / spread[rare, None]) ** 2)
        found: Doubles = np.log((chance * near).sum(axis=1) + TINY)
        return found

    ratio[rare] = likelihood(total[rare] - own[rare]) - likelihood(total[rare])
    return ratio
