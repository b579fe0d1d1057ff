"""Re-ranking by prices: attention to classes of items, and lists that treat groups of people alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import EvaluationError
from koinon.fairness.mitigation.prices import Goal, group_means, prices_of
from koinon.fairness.mitigation.reranking import Reranked, Shortlists, shortlists_of
from koinon.recommenders.protocol import Recommender, Request

__all__ = ["Aim", "ClassShare", "KeptRelevance", "Popularity", "Priced"]

Doubles = NDArray[np.float64]
People = NDArray[np.int64]


class Feature(Protocol):
    """What an item of a shortlist counts for."""

    def learn(self, domain: Domain) -> None:
        """Learn what is needed from the training events."""
        ...

    def of(self, requests: Sequence[Request], shortlists: Shortlists, k: int) -> Doubles:
        """``float64[requests, depth]``."""
        ...


class ClassShare:
    """1 for items of one class.

    Parameters
    ----------
    member
        ``bool[items]``.
    """

    def __init__(self, member: NDArray[np.bool_]) -> None:
        self.member: Doubles = member.astype(np.float64)

    def learn(self, domain: Domain) -> None:
        """Nothing to learn."""

    def of(self, requests: Sequence[Request], shortlists: Shortlists, k: int) -> Doubles:
        """``float64[requests, depth]``."""
        found: Doubles = self.member[shortlists.item]
        return found


class Popularity:
    """How much more popular an item is than the person's history, as a share of the latter: the popularity lift."""

    def __init__(self) -> None:
        self.counts: Doubles = np.empty(0)

    def learn(self, domain: Domain) -> None:
        """Count the training events."""
        self.counts = domain.item_counts.astype(np.float64)

    def of(self, requests: Sequence[Request], shortlists: Shortlists, k: int) -> Doubles:
        """``float64[requests, depth]``; 0 throughout for a request without a known history."""
        usual = np.array([self.counts[one.history].mean() if len(one.history) else 0.0 for one in requests])[:, None]
        lift = np.divide(self.counts[shortlists.item], usual, out=np.ones(shortlists.item.shape), where=usual > 0)
        return np.asarray(lift - 1.0)


class KeptRelevance:
    """The item's relevance as a share of that of the recommender's own list: alike for groups, they share the cost."""

    def learn(self, domain: Domain) -> None:
        """Nothing to learn."""

    def of(self, requests: Sequence[Request], shortlists: Shortlists, k: int) -> Doubles:
        """``float64[requests, depth]``."""
        best = shortlists.relevance[:, :k].mean(axis=1, keepdims=True)
        share: Doubles = np.divide(shortlists.relevance, best, out=np.zeros(shortlists.item.shape), where=best > 0)
        return share


@dataclass(frozen=True)
class Aim:
    """What lists ought to hold.

    Attributes
    ----------
    feature
        Of items in shortlists.
    group
        ``int64[users]`` of the domain, -1 unknown; ``None``: everybody is one group.
    due
        Mean of the feature that is due; ``None``: the same for all groups.
    """

    feature: Feature
    group: People | None = None
    due: float | None = None

    def group_of(self, requests: Sequence[Request]) -> People:
        """``int64[requests]``; strangers are in no group, unless everybody is in one."""
        if self.group is None:
            return np.zeros(len(requests), dtype=np.int64)
        known = self.group
        return np.array([-1 if one.user is None else known[one.user] for one in requests], dtype=np.int64)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return 1 if self.group is None else int(self.group.max()) + 1


class Priced(Reranked):
    """Re-ranks by ``relevance + Σ price · feature`` (:mod:`~koinon.fairness.mitigation.prices`).

    Where an aim concerns groups, a person's group must be known when they are served; strangers keep the
    recommender's own order as far as that aim goes.

    Parameters
    ----------
    inner
        Any recommender.
    aims
        One or several, met jointly.
    dial
        0: as it is; 1: as near to the aims as shortlists allow; between: the distance shrinks in proportion.
    k, depth
        Length of lists; items that may be listed.
    people
        Users whose shortlists set the prices, drawn from the domain.
    seed
        Of that drawing.
    """

    name: ClassVar[str] = "priced"

    def __init__(
        self,
        inner: Recommender,
        aims: Sequence[Aim],
        *,
        dial: float,
        k: int = 10,
        depth: int = 100,
        people: int = 2000,
        seed: int = 0,
    ) -> None:
        super().__init__(inner, depth=depth)
        self.aims, self.dial, self.k, self.people, self.seed = tuple(aims), dial, k, people, seed
        self.prices: list[Doubles] = []

    def learn(self, domain: Domain) -> Self:
        """Set the prices.

        Raises
        ------
        EvaluationError
            K535 nobody has a history, K538 no solution.
        """
        for aim in self.aims:
            aim.feature.learn(domain)
        active = np.unique(domain.events.user)
        if len(active) == 0:
            raise EvaluationError("K535", f"{domain.name} has nobody with a history.", "Bring more events.")
        rng = np.random.default_rng(self.seed)
        asked = np.sort(rng.choice(active, min(self.people, len(active)), replace=False))
        requests = [Request(domain.history(user), user, times=domain.history_times(user)) for user in asked.tolist()]
        lists = shortlists_of(self.inner.score(requests), requests, self.depth)
        present = np.where(np.arange(lists.item.shape[1]) < self.k, lists.there, False).astype(np.float64)
        goals = []
        for aim in self.aims:
            feature = aim.feature.of(requests, lists, self.k)
            free = Goal(feature, aim.group_of(requests), aim.groups, aim.due, np.inf)
            here = group_means(free, present, self.k)[np.bincount(free.group[free.group >= 0]) > 0]
            away = np.ptp(here) / 2 if aim.due is None else np.abs(here - aim.due).max()
            goals.append(Goal(feature, free.group, aim.groups, aim.due, (1 - self.dial) * float(away)))
        self.prices, _ = prices_of(lists.relevance, lists.there, goals, self.k)
        return self

    def reordered(self, requests: Sequence[Request], shortlists: Shortlists) -> NDArray[np.int64]:
        """By relevance and prices; equal ones as they were."""
        value = shortlists.relevance.copy()
        for aim, price in zip(self.aims, self.prices, strict=True):
            own = np.append(price, 0.0)[aim.group_of(requests)]
            value += own[:, None] * aim.feature.of(requests, shortlists, self.k)
        value[~shortlists.there] = -np.inf
        return np.argsort(-value, axis=1, kind="stable")
