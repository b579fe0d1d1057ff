"""How alike two lists are, and how unlike several attributes' lists: the measures of Zhang et al. (2023).

*Is ChatGPT Fair for Recommendation?* (RecSys 2023), section 3. Every similarity is 1 on identical lists and 0 on lists
that share nothing. (Code in circulation gives SERP* 0.27 on identical lists of twenty; the definition does not.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIMILARITIES", "jaccard", "prag", "serp", "snsr", "snsv"]

Items = Sequence[int]


def jaccard(neutral: Items, told: Items) -> float:
    """``|R ∩ Rᵃ| / |R ∪ Rᵃ|``; 1 for two empty lists. The order does not count."""
    either = set(neutral) | set(told)
    return len(set(neutral) & set(told)) / len(either) if either else 1.0


def serp(neutral: Items, told: Items) -> float:
    """SERP*: items of ``told`` that ``neutral`` holds too, weighted by their place in ``told``.

    ``Σ_{v ∈ Rᵃ} 1[v ∈ R] (K − rᵃ(v) + 1) / (K (K + 1) / 2)``, places ``rᵃ`` from 1, ``K`` the length of ``told``; 1 for
    two empty lists. The neutral list's own order does not count.
    """
    if not told:
        return 0.0 if neutral else 1.0
    shared, length = set(neutral), len(told)
    return sum(length - place for place, item in enumerate(told) if item in shared) / (length * (length + 1) / 2)


def prag(neutral: Items, told: Items) -> float:
    """PRAG*: pairs that ``told`` orders as ``neutral`` does.

    Of all pairs of ``told``, first before second: those whose first is in ``neutral`` and stands there before the
    second, or whose second is not there at all, over ``K (K − 1) / 2``. With one item: whether it is the same list.
    """
    if len(told) < 2:
        return float(list(neutral) == list(told))
    place = {item: rank for rank, item in enumerate(neutral)}
    missing = len(neutral)
    kept = sum(
        first in place and place[first] < place.get(second, missing)
        for here, first in enumerate(told)
        for second in told[here + 1 :]
    )
    return kept / (len(told) * (len(told) - 1) / 2)


SIMILARITIES: dict[str, Callable[[Items, Items], float]] = {"jaccard": jaccard, "serp": serp, "prag": prag}


def snsr(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sensitive-to-neutral similarity range: the largest mean minus the smallest, over the last axis."""
    spread: NDArray[np.float64] = means.max(axis=-1) - means.min(axis=-1)
    return spread


def snsv(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sensitive-to-neutral similarity variance: the means' standard deviation (as defined, not its square)."""
    spread: NDArray[np.float64] = means.std(axis=-1)
    return spread
