"""Data collection: for items that nobody has taken, a language model says which people would take them.

A sample of people is held against all cold items: how much likelier does each title become once a person's history is
known? The people whom an item fits best become its pseudo-takers. These pseudo-events are no events: they stand apart
from the domain's own, marked as kind ``pseudo``, belong to this recommender alone, count nowhere in a split and in no
evaluation, and enter no sum that leaves a partner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.sparse import csr_matrix

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.base import build_base
from koinon.recommenders.conventional import EASE, IALS, SemanticEASE, gram_matrix
from koinon.recommenders.conventional._ials import solve_rows
from koinon.recommenders.fusion.audience import Judge, PseudoEvents, audience
from koinon.recommenders.fusion.place import Place
from koinon.recommenders.llm_as_rs.prompted import Wording
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.store import Storable
from koinon.space import Space

__all__ = ["PseudoConfig", "PseudoFeedback"]

Scores = NDArray[np.float32]
BASES = ("ease", "semantic-ease", "ials")


class PseudoConfig(Config):
    """Settings of :class:`PseudoFeedback`."""

    base: Literal["ease", "semantic-ease", "ials"] = "ease"
    """What learns from the events and the pseudo-events."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    judge: Literal["likelihood", "similarity"] = "likelihood"
    """Who says what fits whom: a language model, or the space (cosine of the text to the history's mean)."""
    model: str | None = None
    """For ``likelihood``: a decoder, ``hf:<name or folder>`` or ``gguf:<file>``."""
    record: str | None = None
    """Folder that keeps judgements, so that nobody is judged twice; within the partner's own."""
    people: int = Field(default=100, ge=1)
    """Drawn from those with enough of a history."""
    least_history: int = Field(default=5, ge=1)
    """Items that a person must have taken to be drawn."""
    items: int = Field(default=500, ge=1)
    """Cold items that are judged at most, in the catalogue's order."""
    takers: int = Field(default=30, ge=1)
    """Pseudo-takers of an item. A third of the people was better than a tenth: fewer say too little of an item."""
    weight: float = Field(default=0.2, ge=0.0)
    """Of a pseudo-event beside an event's 1; see :func:`koinon.recommenders.fusion.pseudo_tuning.tune_pseudo`."""
    history: int = Field(default=10, ge=1, le=200)
    """The latest items that are told."""
    title_length: int = Field(default=80, ge=8, le=400)
    language: Literal["en", "de", "fr", "es"] = "en"
    wording: Wording | None = None
    """The opening around titles, instead of the language's own."""
    seed: int = Field(default=0, ge=0)
    """Of the people drawn."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.takers > self.people:
            raise ValueError("there cannot be more takers than people")
        return self


class PseudoFeedback(Ranked):
    """A conventional recommender that also learns from pseudo-events of cold items.

    EASE takes the Gram matrix of events and weighted pseudo-events; iALS is fitted on events alone, and each cold
    item's vector is then solved from its pseudo-takers and scaled by the weight. Items with events are learned from
    events: a pseudo-event is only ever of a cold one.

    Parameters
    ----------
    config
        Settings.
    judge
        Says what fits whom, instead of the one that the settings name.
    pseudo
        Pseudo-events at hand; nobody is asked.

    Attributes
    ----------
    pseudo
        The pseudo-events; ``None`` before :meth:`fit`.
    """

    name: ClassVar[str] = "pseudo"
    config_type: ClassVar[type[PseudoConfig]] = PseudoConfig
    place: ClassVar[Place] = Place("data collection", "frozen", with_conventional=True)

    def __init__(
        self, config: PseudoConfig | None = None, *, judge: Judge | None = None, pseudo: PseudoEvents | None = None
    ) -> None:
        self.config = config or PseudoConfig()
        self.base: Storable = build_base(self.config.base, self.config.base_settings, BASES)
        self.pseudo = pseudo
        self._judge = judge

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Ask for pseudo-events, unless they are at hand or would count nothing, and fit the base on both.

        Raises
        ------
        RecommenderError
            K488 no language model is named; K404 a similarity without a space; as the base's.
        SpaceError
            K300-K313 the model cannot be read or asked.
        """
        if self.pseudo is None:
            asks = self.config.weight > 0
            self.pseudo = audience(domain, space, self.config, self._judge) if asks else PseudoEvents.none()
        pseudo, weight = self.pseudo, self.config.weight
        if isinstance(self.base, IALS):
            self.base.fit(domain, space, rng=rng)
            self.base.items = _folded_in(self.base, domain, pseudo, weight)
            return self
        assert isinstance(self.base, EASE)
        both = csr_matrix(domain.matrix + np.float32(weight) * pseudo.matrix(domain))
        gram = gram_matrix(both, user_power=self.base.config.user_power)
        if isinstance(self.base, SemanticEASE):
            counts = domain.item_counts + (pseudo.counts(domain) if weight else 0)
            self.base.fit_gram(domain, space, gram, counts)
        else:
            self.base.fit_gram(domain, space, gram)
        return self

    def with_weight(self, weight: float) -> PseudoFeedback:
        """The same unfitted, with the pseudo-events at hand and another weight."""
        return PseudoFeedback(self.config.model_copy(update={"weight": weight}), pseudo=self.pseudo)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted, K405 a history names an item outside the catalogue.
        """
        if self.pseudo is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return np.asarray(self.base.score(requests, candidates), dtype=np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the base learned, and the pseudo-events."""
        if self.pseudo is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        learned = {f"base.{name}": array for name, array in self.base.state().items()}
        return {**learned, **{f"pseudo.{name}": array for name, array in self.pseudo.arrays().items()}}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender kept on ``domain``'s catalogue."""
        of_base = {name.removeprefix("base."): array for name, array in state.items() if name.startswith("base.")}
        self.base = self.base.restore(of_base, domain, space)
        self.pseudo = PseudoEvents(
            state["pseudo.user"].astype(np.int32),
            state["pseudo.item"].astype(np.int32),
            cast(Scores, state["pseudo.score"].astype(np.float32)),
        )
        return self


def _folded_in(base: IALS, domain: Domain, pseudo: PseudoEvents, weight: float) -> Scores:
    """Item vectors with those of cold items solved from their pseudo-takers' vectors."""
    people = solve_rows(domain.matrix, base.items, base.config)
    solved = solve_rows(csr_matrix(pseudo.matrix(domain).T), people, base.config)
    items = base.items.copy()
    items[pseudo.item] = np.float32(weight) * solved[pseudo.item]
    return items
