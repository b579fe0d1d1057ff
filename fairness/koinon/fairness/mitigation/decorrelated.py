"""Scores from which what goes with a group has been taken: every item is, on average, offered to all groups alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.fairness.frames import require_fairlearn
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.space import Space

__all__ = ["Decorrelated"]

Doubles = NDArray[np.float64]
Scores = NDArray[np.float32]


class Decorrelated(Ranked):
    """fairlearn's ``CorrelationRemover`` over the scores of people, item by item.

    Each item's scores lose the part that a linear regression on the groups explains. A person's group must be known
    when they are served; others keep their scores.

    Parameters
    ----------
    inner
        Any recommender.
    group
        ``int64[users]`` of the domain, -1 unknown.
    dial
        0: as it is; 1: no item's mean score differs between groups.
    people
        Users that the regression is fitted on, drawn from the domain.
    seed
        Of that drawing.
    """

    name: ClassVar[str] = "decorrelated"

    def __init__(
        self, inner: Recommender, group: NDArray[np.int64], *, dial: float, people: int = 2000, seed: int = 0
    ) -> None:
        self.inner, self.group, self.dial, self.people, self.seed = inner, group, dial, people, seed
        self.shift: Doubles = np.empty((0, 0))

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the recommender beneath, then the regression."""
        self.inner = self.inner.fit(domain, space, rng=rng)
        return self.learn(domain)

    def learn(self, domain: Domain) -> Self:
        """Fit the regression on people with a history and a known group.

        Raises
        ------
        ResourceError
            K806 fairlearn is not installed.
        """
        require_fairlearn()
        from fairlearn.preprocessing import CorrelationRemover

        active = np.unique(domain.events.user)
        active = active[self.group[active] >= 0]
        rng = np.random.default_rng(self.seed)
        asked = np.sort(rng.choice(active, min(self.people, len(active)), replace=False))
        requests = [Request(domain.history(user), user, times=domain.history_times(user)) for user in asked.tolist()]
        scores = np.asarray(self.inner.score(requests), dtype=np.float64)
        groups = int(self.group.max()) + 1
        # one column for each group but the first: together with the mean they say all
        member = np.eye(groups)[self.group[asked]][:, 1:]
        remover = CorrelationRemover(sensitive_feature_ids=list(range(groups - 1)), alpha=1.0)
        remover.fit(np.hstack([member, scores]))
        every = np.vstack([np.zeros((1, groups - 1)), np.eye(groups - 1)])
        blank = np.zeros((groups, scores.shape[1]))
        self.shift = np.asarray(remover.transform(np.hstack([every, blank])))
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``."""
        scores = np.array(self.inner.score(requests, candidates), dtype=np.float32)
        own = np.array([-1 if one.user is None else self.group[one.user] for one in requests], dtype=np.int64)
        shift = self.shift if candidates is None else self.shift[:, candidates]
        moved = np.vstack([shift, np.zeros((1, shift.shape[1]))])[own]
        return np.asarray(scores + self.dial * moved, dtype=np.float32)
