"""The gated recommender behind the one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.base import build_base
from koinon.recommenders.fusion.place import Place
from koinon.recommenders.fusion.scoring._config import Gate, GatedConfig
from koinon.recommenders.fusion.scoring.sources import Evidence, Likelihood, Similarity, Source
from koinon.recommenders.llm_as_rs.prompted import PromptedConfig, PromptedRanker
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.store import Storable
from koinon.space import Space

__all__ = ["Gated", "mixed", "standard"]

Scores = NDArray[np.float32]
BASE = "base."


class Gated(Ranked):
    """``score = z(base) + w(n, m) · clip(z(texts), ±bound)``, over the catalogue less the history.

    ``n`` is the number of the candidate's training events and ``m`` that of the history, see :class:`Gate`. With weight
    0 it is the base, and no text is read.

    Parameters
    ----------
    config
        Settings.
    base
        A recommender at hand instead of the one that the settings name; fitted or not.
    source
        Whatever reads texts, instead of what the settings name.
    chooser
        A language model at hand for ``likelihood``.
    """

    name: ClassVar[str] = "gated"
    config_type: ClassVar[type[GatedConfig]] = GatedConfig
    place: ClassVar[Place] = Place("scoring/ranking", "frozen", with_conventional=True)

    def __init__(
        self,
        config: GatedConfig | None = None,
        *,
        base: Recommender | None = None,
        source: Source | None = None,
        chooser: Any = None,
    ) -> None:
        self.config = config or GatedConfig()
        self.base = base or build_base(self.config.base, self.config.base_settings)
        self._given, self._chooser = source, chooser
        self._domain: Domain | None = None
        self._space: Space | None = None
        self._counts: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the base, then :meth:`adopt` the domain.

        Raises
        ------
        RecommenderError
            K404 texts are to be compared and there is no space; as the base's.
        """
        self.base.fit(domain, space, rng=rng)
        return self.adopt(domain, space)

    def adopt(self, domain: Domain, space: Space | None) -> Self:
        """Take the domain's counts and texts; the base is fitted on it already."""
        if space is None and self._given is None and self._compares:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        self._domain, self._space, self._counts = domain, space, domain.item_counts
        self.__dict__.pop("source", None)
        return self

    def with_gate(self, gate: Gate) -> Self:
        """Return it with another gate; base and source are the same."""
        other = type(self)(
            self.config.model_copy(update={"gate": gate}), base=self.base, source=self._given, chooser=self._chooser
        )
        other._domain, other._space, other._counts = self._domain, self._space, self._counts
        if "source" in self.__dict__:
            other.__dict__["source"] = self.source
        return other

    @property
    def counts(self) -> NDArray[np.int64]:
        """``int64[items]``: training events."""
        return self._counts

    @cached_property
    def source(self) -> Source:
        """What reads texts; opened when it is first asked.

        Raises
        ------
        RecommenderError
            K400 not fitted; K480-K483 see :class:`PromptedRanker`.
        """
        if self._domain is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        if self._given is not None:
            return self._given
        config, similarity = self.config, None
        if self._compares:
            assert self._space is not None
            vectors = np.asarray(self._space.encode(self._domain.texts), dtype=np.float32)
            similarity = Similarity(vectors, self._space, config)
            if config.source == "similarity":
                return similarity
        most = max(2, config.candidates + config.rare_candidates)
        asked = {**config.language_model, "candidates": most, "weight": 1.0}
        settings = PromptedConfig.from_dict(asked, source="language_model")
        ranker = PromptedRanker(settings, base=self.base, chooser=self._chooser).adopt(self._domain)
        return Likelihood(ranker, similarity, self._counts, config)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted; those of the base and of the source.
        """
        gate = self.config.gate
        if gate.weight == 0:
            return self.base.score(requests, candidates)
        scores = np.array(self.base.score(requests), dtype=np.float32)
        for row, request in zip(scores, requests, strict=True):
            evidence = self.source.evidence(request, row)
            row[:] = standard(row, request)
            if evidence is not None:
                row[evidence.places] += mixed(evidence, gate, self._counts, len(request.history), self.config.bound)
        return scores if candidates is None else scores[:, candidates]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the base learned, and the items' counts."""
        learned = {f"{BASE}{name}": array for name, array in cast(Storable, self.base).state().items()}
        return {**learned, "counts": self._counts}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned; texts come from ``domain`` and ``space``."""
        learned = {name.removeprefix(BASE): array for name, array in state.items() if name.startswith(BASE)}
        self.base = cast(Storable, self.base).restore(learned, domain, space)
        self.adopt(domain, space)
        self._counts = np.asarray(state["counts"], dtype=np.int64)
        return self

    @property
    def _compares(self) -> bool:
        return self.config.source == "similarity" or self.config.rare_candidates > 0


def standard(row: Scores, request: Request) -> Scores:
    """``float32[items]``: mean 0 and standard deviation 1 over all but the history; all 0 where it is equal."""
    free = np.ones(len(row), dtype=np.bool_)
    free[request.history] = False
    known = row[free].astype(np.float64)
    spread = known.std() if len(known) else 0.0
    if not spread > 0:
        return np.zeros_like(row)
    scaled: Scores = ((row - known.mean()) / spread).astype(np.float32)
    return scaled


def mixed(evidence: Evidence, gate: Gate, counts: NDArray[np.int64], user_count: int, bound: float) -> Scores:
    """``float32[n]``: what is added to the base's standard scores at ``evidence.places``."""
    told = evidence.told.astype(np.float64)
    spread = told.std() if len(told) else 0.0
    if not spread > 0:
        return np.zeros(len(told), dtype=np.float32)
    scaled = np.clip((told - told.mean()) / spread, -bound, bound)
    added: Scores = (gate.of(counts[evidence.places], user_count) * scaled).astype(np.float32)
    return added
