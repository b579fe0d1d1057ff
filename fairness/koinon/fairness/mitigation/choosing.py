"""Which of several recommenders serves which group: shares found by a linear programme on validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from koinon.data import Domain
from koinon.data.splitting import stable_unit
from koinon.errors import EvaluationError
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.space import Space

__all__ = ["ByGroup", "shares_of"]

Doubles = NDArray[np.float64]
Scores = NDArray[np.float32]


def shares_of(quality: Doubles, sizes: Doubles, *, gap: float) -> Doubles:
    """Share of each group that each recommender should serve, so that the mean is highest and groups lie near enough.

    Maximises ``Σ sizes[g] x[g, m] quality[g, m]`` where each row of ``x`` sums to 1 and no two groups' means differ by
    more than ``gap``. If no mixture comes that near, the nearest is given. A better-served group may have to yield:
    look at what each group gets.

    Parameters
    ----------
    quality
        ``float64[groups, recommenders]``: mean quality on validation.
    sizes
        ``float64[groups]`` people.
    gap
        Largest difference of two groups' means.

    Returns
    -------
    ``float64[groups, recommenders]``, rows sum to 1; at most one more entry than groups lies between 0 and 1 for each
    bound that binds.

    Raises
    ------
    EvaluationError
        K538 HiGHS found no solution.
    """
    groups, models = quality.shape
    size = groups * models
    served = np.zeros((groups, size))
    for group in range(groups):
        served[group, group * models : (group + 1) * models] = quality[group]
    # every mean lies between a floor and floor + gap + excess; excess is dearer than any quality
    ends = np.zeros((2 * groups, 2))
    ends[:groups, 0], ends[groups:, 0], ends[groups:, 1] = 1.0, -1.0, -1.0
    within = np.hstack([np.vstack([-served, served]), ends])
    bound = np.concatenate([np.zeros(groups), np.full(groups, gap)])
    one = np.zeros((groups, size + 2))
    for group in range(groups):
        one[group, group * models : (group + 1) * models] = 1.0
    weight = (sizes / sizes.sum())[:, None] * quality
    cost = np.concatenate([-weight.ravel(), [0.0, 1e3 * max(float(np.abs(quality).max()), 1.0)]])
    limits = [(0.0, 1.0)] * size + [(None, None), (0.0, None)]
    solved = linprog(cost, A_ub=within, b_ub=bound, A_eq=one, b_eq=np.ones(groups), bounds=limits, method="highs")
    if not solved.success or solved.x is None:
        raise EvaluationError("K538", f"No shares could be found: {solved.message}", "Turn the dial down.")
    shares = np.asarray(solved.x[:size]).reshape(groups, models).clip(0.0, 1.0)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


class ByGroup(Ranked):
    """Serves each person by the recommender that falls to them.

    Within a group people are dealt out by a hash of their id, so that a person always meets the same recommender.
    Strangers, and people whose group is not known, meet the first.

    Parameters
    ----------
    inner
        Recommenders for one catalogue.
    group
        ``int64[users]`` of the domain, -1 unknown.
    shares
        ``float64[groups, recommenders]``, rows sum to 1.
    seed
        Of the hash.
    """

    name: ClassVar[str] = "by-group"

    def __init__(
        self, inner: Sequence[Recommender], group: NDArray[np.int64], shares: Doubles, *, seed: int = 0
    ) -> None:
        self.inner, self.group, self.shares, self.seed = tuple(inner), group, shares, seed
        self.assigned: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit all recommenders, then deal out people."""
        self.inner = tuple(one.fit(domain, space, rng=rng) for one in self.inner)
        return self.learn(domain)

    def learn(self, domain: Domain) -> Self:
        """Deal out the people of ``domain``."""
        edges = np.cumsum(self.shares, axis=1)
        draw = np.array([stable_unit(self.seed, "by-group", user) for user in domain.user_ids])
        place = (draw[:, None] >= edges[self.group]).sum(axis=1)
        self.assigned = np.where(self.group >= 0, np.minimum(place, len(self.inner) - 1), 0)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``; scores of different people cannot be compared."""
        who = np.array([0 if one.user is None else self.assigned[one.user] for one in requests], dtype=np.int64)
        rows: list[tuple[NDArray[np.int64], Scores]] = []
        for number in np.unique(who).tolist():
            mine = np.flatnonzero(who == number)
            rows.append((mine, self.inner[number].score([requests[row] for row in mine.tolist()], candidates)))
        if not rows:
            return self.inner[0].score(requests, candidates)
        scores = np.empty((len(requests), rows[0][1].shape[1]), dtype=np.float32)
        for mine, part in rows:
            scores[mine] = part
        return scores
