"""What a neighbour graph is good for: how likely a sum fails or a partner is exposed, by the rules and the dangers.

Partners who drop out or conspire with the server are taken to be chosen without knowledge of the ring's order, so the
bad ones among a partner's neighbours follow a hypergeometric distribution; the union over all partners bounds the odds
(Bell et al. 2020 bound the same events).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from koinon.privacy.secure_sum.rules import Rules

__all__ = ["Odds", "odds"]


@dataclass(frozen=True)
class Odds:
    """Upper bounds on probabilities, per sum.

    Attributes
    ----------
    no_total
        Somewhere so many holders have dropped that a seed is lost: an error, never a leak.
    known
        Some partner's conspiring neighbours hold enough shares of its seeds by themselves.
    tricked
        The same where the server also tells the honest neighbours different stories.
    split
        The dropped and the conspirators cut the ring, so that the server learns totals over parts of it.
    """

    no_total: float
    known: float
    tricked: float
    split: float


def odds(rules: Rules, n: int, *, dropped: float, conspiring: float) -> Odds:
    """Bound the odds for ``n`` partners of whom these shares (0 to 1) drop out and conspire with the server."""
    from scipy.stats import hypergeom

    degree, threshold = rules.degree(n), rules.threshold(n)
    holders = degree + 1
    away, bad = math.ceil(dropped * n), math.ceil(conspiring * n)

    def more(than: int, owners: int, others: int) -> float:
        """Bound the odds that one of so many owners has more than so many of the bad others among its neighbours."""
        return owners * float(hypergeom.sf(than, n - 1, max(others, 0), degree))

    spare = holders - threshold
    cut = 0.0
    if degree < n - 1:  # two runs, each of half the degree, of the ring's places
        cut = n * (n - 1) / 2 * math.prod(max(away + bad - i, 0) / (n - i) for i in range(degree))
    return Odds(
        no_total=min(1.0, more(spare, n - away, away) + more(spare - 1, away, away - 1)),
        known=min(1.0, more(threshold - 1, n - bad, bad)),
        tricked=min(1.0, more(2 * threshold - holders - 1, n - bad, bad)),
        split=min(1.0, cut),
    )
