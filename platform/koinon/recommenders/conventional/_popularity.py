"""Popularity: what everybody takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.space import Space

__all__ = ["Popularity", "PopularityConfig", "popularity_prior"]

Scores = NDArray[np.float32]
DAY = 86_400_000


class PopularityConfig(Config):
    """How popularity is counted."""

    half_life_days: float | None = Field(default=None, gt=0)
    """An event so many days before the last one counts half; ``None``, or a domain without times: all count alike."""
    window_days: float | None = Field(default=None, gt=0)
    """Only events of so many days before the last one count; ``None``, or a domain without times: all do."""


class Popularity(Ranked):
    """Scores every item by the (decayed) number of its training events; the same for everybody.

    Attributes
    ----------
    popularity
        ``float32[items]``, 0 to 1.
    """

    name: ClassVar[str] = "popularity"
    config_type: ClassVar[type[PopularityConfig]] = PopularityConfig

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or PopularityConfig()
        self.popularity: Scores = np.empty(0, dtype=np.float32)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Count the training events; ``space`` and ``rng`` are not used."""
        self.popularity = popularity_prior(domain, self.config.half_life_days, self.config.window_days)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``."""
        if not len(self.popularity):
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        row = self.popularity if candidates is None else self.popularity[candidates]
        return np.tile(row, (len(requests), 1))

    def attribute(self, request: Request, item: int) -> dict[str, NDArray[np.float64]]:
        """What made ``item``'s score: popularity alone, ``float64[1]``."""
        return {"popularity": self.popularity[[item]].astype(np.float64)}

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned."""
        return {"popularity": self.popularity}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned."""
        self.popularity = state["popularity"].astype(np.float32)
        return self


def popularity_prior(domain: Domain, half_life_days: float | None = None, window_days: float | None = None) -> Scores:
    """``float32[items]``, 0 to 1: ``log(1 + n)`` of each item's (decayed) number of training events, over the greatest.

    ``half_life_days`` and ``window_days`` as in :class:`PopularityConfig`.

    The logarithm keeps the order, and gives a scale on which a prior can be added to other scores.
    """
    counts: NDArray[np.float64] = domain.item_counts.astype(np.float64)
    time = domain.events.time
    if (half_life_days or window_days) and time is not None and len(time):
        age = (time.max() - time) / DAY
        weight = np.ones(len(age)) if half_life_days is None else np.exp2(-age / half_life_days)
        weight[age > (window_days or np.inf)] = 0.0
        counts = np.bincount(domain.events.item, weight, minlength=domain.n_items).astype(np.float64)
    scaled = np.log1p(counts)
    top = scaled.max(initial=0.0)
    prior: Scores = (scaled / top if top > 0 else scaled).astype(np.float32)
    return prior
