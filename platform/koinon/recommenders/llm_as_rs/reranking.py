"""A conventional recommender's best in a new order: what every language model that judges candidates has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.llm_as_rs.texts import clean, said
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.store import REGISTRY, Storable
from koinon.space import Space

__all__ = ["Parts", "RerankConfig", "Reranker", "blend"]

Scores = NDArray[np.float32]

_CLIP = 3.0
"""Standard deviations that a judgement counts at most, so that no text can outweigh the base without bound."""


class RerankConfig(Config):
    """Which recommender is reranked, and how far."""

    base: str = "ease"
    """The recommender whose best are reranked; one of :data:`koinon.recommenders.store.REGISTRY`."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    model: str | None = None
    """A decoder language model, ``hf:<name or folder>`` or ``gguf:<file>``, see :mod:`koinon.space.language`."""
    candidates: int = Field(default=100, ge=2, le=1000)
    """How many of the base's best are reranked; the rest keep their order below them."""
    history: int = Field(default=10, ge=1, le=200)
    """The latest items that are told."""
    title_length: int = Field(default=80, ge=8, le=400)
    """Characters kept of a title, and of a creator."""
    weight: float = Field(default=0.2, ge=0.0)
    """Of the language model's standard scores beside the base's; 0 is the base alone. See :func:`tune_weight`."""
    seed: int = Field(default=0, ge=0)
    """Of whatever is drawn."""


@dataclass(frozen=True)
class Parts:
    """What is known of one request's candidates before it is weighed.

    Attributes
    ----------
    places
        ``int64[n]``: columns of the scores, the base's best first.
    base
        ``float32[n]``: the base's scores.
    told
        ``float32[n]``: the language model's; all 0 where it has nothing to say.
    """

    places: NDArray[np.int64]
    base: Scores
    told: Scores


class Reranker(Ranked):
    """``score = z(base) + weight · clip(z(told), ±3)`` among a request's candidates; all else keeps its order below.

    A subclass says what the model tells of candidates (:meth:`told`) and what it keeps beside the base
    (:meth:`own_state`, :meth:`restore_own`).

    Parameters
    ----------
    config
        Settings.
    base
        A recommender to rerank instead of the one that the settings name; fitted or not.
    """

    config: RerankConfig
    name: ClassVar[str]

    def __init__(self, config: RerankConfig, base: Recommender | None) -> None:
        self.config = config
        self.base = base or _build(config)
        self._said: list[str] = []

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the base, then :meth:`adopt` the domain.

        Raises
        ------
        RecommenderError
            As the base's.
        """
        self.base.fit(domain, space, rng=rng)
        return self.adopt(domain)

    def adopt(self, domain: Domain) -> Self:
        """Take the domain's titles; the base is fitted on it already."""
        return self._titled(domain)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted, K480 no model is named; those of :meth:`told`.
        SpaceError
            K300-K314 the model cannot be read or asked.
        """
        scores = np.array(self.base.score(requests, candidates), dtype=np.float32)
        if self.config.weight == 0:
            return scores
        for row, request in zip(scores, requests, strict=True):
            blend(row, self.parts(request, row, candidates), self.config.weight)
        return scores

    def parts(self, request: Request, row: Scores, candidates: NDArray[np.int32] | None = None) -> Parts:
        """Ask about the best of one request; ``row`` holds the base's scores ``float32[candidates]``."""
        return self._asked(request, row, candidates, self._best(request, row, candidates))

    def parts_that_matter(self, request: Request, row: Scores, targets: NDArray[np.int32]) -> Parts:
        """:meth:`parts` among all items, where a target is among the best; else nothing is asked and all told is 0.

        Candidates change places among themselves alone: without a target among them, no target's place hangs on what
        the model says.
        """
        places = self._best(request, row, None)
        if np.isin(targets, places).any():
            return self._asked(request, row, None, places)
        return Parts(places, row[places].copy(), np.zeros(len(places), dtype=np.float32))

    def _best(self, request: Request, row: Scores, candidates: NDArray[np.int32] | None) -> NDArray[np.int64]:
        items = np.arange(len(row), dtype=np.int32) if candidates is None else candidates
        free = np.flatnonzero(~np.isin(items, request.history) & np.isfinite(row))
        return free[np.lexsort((free, -row[free]))][: self.config.candidates].astype(np.int64)

    def _asked(
        self, request: Request, row: Scores, candidates: NDArray[np.int32] | None, places: NDArray[np.int64]
    ) -> Parts:
        if not self._said:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        told = np.zeros(len(places), dtype=np.float32)
        if len(places) > 1:
            items = places if candidates is None else candidates[places]
            told = self.told(request, [self._said[item] for item in items])
        return Parts(places, row[places].copy(), told)

    def told(self, request: Request, texts: Sequence[str]) -> Scores:
        """What the model tells of candidates by their texts, ``float32[texts]``; all 0 where it has nothing to say."""
        raise NotImplementedError

    def own_state(self) -> dict[str, NDArray[np.generic]]:
        """Arrays kept beside the base's."""
        return {}

    def restore_own(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take :meth:`own_state` back."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the base learned, and what the reranker keeps beside it."""
        learned = {f"base.{name}": array for name, array in cast(Storable, self.base).state().items()}
        return {**learned, **self.own_state()}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal reranker kept on ``domain``'s catalogue."""
        learned = {name.removeprefix("base."): array for name, array in state.items() if name.startswith("base.")}
        self.base = cast(Storable, self.base).restore(learned, domain, space)
        self.restore_own({name: array for name, array in state.items() if not name.startswith("base.")})
        return self._titled(domain)

    def _titled(self, domain: Domain) -> Self:
        self._said = said(domain.items, self.config.title_length)
        return self

    def _known(self, request: Request) -> list[str]:
        """Texts of the latest items of a request's history, and of what is liked beside it."""
        history = [self._said[item] for item in request.history[-self.config.history :]]
        return history + [clean(text, self.config.title_length) for text in request.liked]


def blend(row: Scores, parts: Parts, weight: float) -> None:
    """Put one request's candidates in their new order, in place; ``row`` holds the base's scores."""
    blended = _standard(parts.base) + weight * np.clip(_standard(parts.told), -_CLIP, _CLIP)
    rest = np.delete(row, parts.places)
    rest = rest[np.isfinite(rest)]
    floor = float(rest.max()) if len(rest) else 0.0
    row[parts.places] = floor + 1.0 + blended - blended.min(initial=0.0)


def _standard(values: Scores) -> NDArray[np.float64]:
    """Mean 0, standard deviation 1; all 0 where they are equal."""
    doubles = values.astype(np.float64)
    spread = doubles.std()
    return (doubles - doubles.mean()) / spread if spread > 0 else np.zeros(len(doubles))


def _build(config: RerankConfig) -> Recommender:
    if config.base not in REGISTRY:
        raise RecommenderError("K480", f"There is no recommender {config.base!r}.", f"Known: {', '.join(REGISTRY)}.")
    module, _, kind = REGISTRY[config.base].partition(":")
    build: Any = getattr(import_module(module), kind)
    settings = build.config_type.from_dict(dict(config.base_settings), source="base_settings")
    return cast(Recommender, build(settings))
