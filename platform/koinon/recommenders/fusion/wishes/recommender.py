"""User interaction: a request in words becomes limits and a query vector before a conventional recommender ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.base import build_base
from koinon.recommenders.conventional import encode_wishes, popularity_prior
from koinon.recommenders.fusion.place import Place
from koinon.recommenders.fusion.wishes.facts import Constraint
from koinon.recommenders.fusion.wishes.likelihood import CategoryJudge
from koinon.recommenders.fusion.wishes.question import Question, QuestionConfig, question_for
from koinon.recommenders.fusion.wishes.reading import Wish, WishConfig, WishReader
from koinon.recommenders.protocol import Recommendation, Request
from koinon.recommenders.ranking import Ranked, best
from koinon.recommenders.store import Storable
from koinon.space import Space

if TYPE_CHECKING:
    from koinon.space.language import LanguageModel

__all__ = ["ANSWERED", "Asking", "AskingConfig", "Reply", "limited"]

Scores = NDArray[np.float32]
ANSWERED = "answered"
"""Key of ``Request.context`` under which the answer to a question comes back; with it, nothing more is asked."""


class AskingConfig(Config):
    """Settings of :class:`Asking`."""

    base: str = "semantic-ease"
    """What ranks; one of :data:`koinon.recommenders.store.REGISTRY`."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    model: str | None = None
    """A decoder that chooses categories by likelihood; ``None``: names and nearness alone."""
    reading: WishConfig = WishConfig()
    question: QuestionConfig = QuestionConfig()
    history: float = Field(default=0.5, ge=0.0)
    """Of the base's scores, scaled to 1, beside the cosine to the wish."""
    popularity: float = Field(default=0.05, ge=0.0)
    """Of the popularity prior, 0 to 1, where there is no history."""
    unwanted: float = Field(default=0.5, ge=0.0)
    """Of the cosine to what is not wanted and names nothing in the catalogue; taken off."""


@dataclass(frozen=True)
class Reply:
    """An answer to a request in words.

    Attributes
    ----------
    items
        Best first; all meet the limits that could be kept.
    wish
        What was understood; ``None`` for a request without words.
    dropped
        Limits left out because nothing meets them.
    question
        What would help most to know; ``None`` where the wish is clear, or was asked about before.
    """

    items: list[Recommendation]
    wish: Wish | None = None
    dropped: tuple[Constraint, ...] = ()
    question: Question | None = None


@dataclass(frozen=True)
class _Read:
    """One request's scores, its wish, and what the wish allows."""

    scores: Scores
    wish: Wish | None = None
    allowed: NDArray[np.bool_] | None = None
    dropped: tuple[Constraint, ...] = ()


class Asking(Ranked):
    """A conventional recommender that is asked in words.

    ``score = cosine to the wish + history · base scaled to 1``; what breaks a limit stands below all that keeps it.
    Requests without words get the base's list.

    Parameters
    ----------
    config
        Settings.
    base
        A recommender to ask instead of the one that the settings name; fitted or not.
    model
        A language model at hand instead of the one that the settings name.
    """

    name: ClassVar[str] = "asking"
    config_type: ClassVar[type[AskingConfig]] = AskingConfig
    place: ClassVar[Place] = Place("user interaction", "frozen", with_conventional=True)

    def __init__(
        self, config: AskingConfig | None = None, *, base: Storable | None = None, model: LanguageModel | None = None
    ) -> None:
        self.config = config or AskingConfig()
        if self.config.base == self.name:
            raise RecommenderError("K488", "A recommender cannot ask for itself.", "Name another base.")
        self.base: Storable = base or build_base(self.config.base, self.config.base_settings)
        self._model = model
        self._reader: WishReader | None = None
        self._vectors: Scores = np.empty((0, 0), dtype=np.float32)
        self._popularity: Scores = np.empty(0, dtype=np.float32)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the base, then :meth:`adopt` the domain.

        Raises
        ------
        RecommenderError
            K404 without a space; as the base's.
        """
        self._need(space)
        self.base.fit(domain, space, rng=rng)
        return self.adopt(domain, space)

    def adopt(self, domain: Domain, space: Space | None) -> Self:
        """Take the catalogue; the base is fitted on it already."""
        space = self._need(space)
        model = self._model
        if model is None and self.config.model is not None:
            from koinon.space.language import open_language_model

            model = open_language_model(self.config.model)
        judge = None if model is None else CategoryJudge(model)
        self._reader = WishReader(domain, space, self.config.reading, judge)
        self._vectors = np.asarray(space.encode(domain.texts), dtype=np.float32)
        self._popularity = popularity_prior(domain)
        return self

    @property
    def reader(self) -> WishReader:
        """What reads wishes.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        if self._reader is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return self._reader

    def understand(self, request: Request) -> Wish | None:
        """Read a request's words, and the answer to a question that was asked about them."""
        if not request.query:
            return None
        return self.reader.read_answered(request.query, request.context.get(ANSWERED))

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted; as the base's.
        """
        scores = np.stack([one.scores for one in self._read(requests)]) if requests else self.base.score([])
        return scores if candidates is None else scores[:, candidates]

    def reply(self, request: Request, k: int) -> Reply:
        """Recommend, say what was understood, and ask back at most once.

        Raises
        ------
        RecommenderError
            K400 not fitted; as the base's.
        """
        (read,) = self._read([request])
        shown = self._shown(read, request, max(k, self.config.question.top))
        asked = None
        if read.wish is not None and ANSWERED not in request.context:
            asked = question_for(self.reader.facts, read.wish, [one.item for one in shown], self.config.question)
        return Reply(shown[:k], read.wish, read.dropped, asked)

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """Return the ``k`` best unseen items per request that keep its limits, best first."""
        return [self._shown(read, one, k) for read, one in zip(self._read(requests), requests, strict=True)]

    def _read(self, requests: Sequence[Request]) -> list[_Read]:
        _ = self.reader
        silent = [replace(request, query=None) for request in requests]
        found = []
        for row, request in zip(np.array(self.base.score(silent), dtype=np.float32), requests, strict=True):
            wish = self.understand(request)
            if wish is None:
                found.append(_Read(row))
                continue
            allowed, dropped = self.reader.facts.allowed(wish.constraints, self.config.reading.least_items)
            found.append(_Read(limited(self._wished(row, request, wish), allowed), wish, allowed, tuple(dropped)))
        return found

    def _shown(self, read: _Read, request: Request, k: int) -> list[Recommendation]:
        shown = best(read.scores[None], [request], k)[0]
        return shown if read.allowed is None else [one for one in shown if read.allowed[one.item]]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the base learned, and popularity."""
        learned = {f"base.{name}": array for name, array in self.base.state().items()}
        return {**learned, "popularity": self._popularity}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender kept on ``domain``'s catalogue."""
        learned = {name.removeprefix("base."): array for name, array in state.items() if name.startswith("base.")}
        self.base = self.base.restore(learned, domain, self._need(space))
        self.adopt(domain, space)
        self._popularity = state["popularity"].astype(np.float32)
        return self

    def _wished(self, base: Scores, request: Request, wish: Wish) -> Scores:
        space = self.reader.space
        assert space is not None
        vectors = np.asarray(encode_wishes(space, [wish.text, *wish.unwanted]), dtype=np.float32)
        cosines = self._vectors @ vectors.T
        found = cosines[:, 0] - np.float32(self.config.unwanted) * np.maximum(cosines[:, 1:], 0).sum(axis=1)
        if len(request.history) or request.liked:
            scaled = base / max(float(np.abs(base).max(initial=0.0)), 1e-9)
            return np.asarray(found + np.float32(self.config.history) * scaled, dtype=np.float32)
        return np.asarray(found + np.float32(self.config.popularity) * self._popularity, dtype=np.float32)

    def _need(self, space: Space | None) -> Space:
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        return space


def limited(scores: Scores, allowed: NDArray[np.bool_]) -> Scores:
    """Put what is not allowed below all that is, in its own order, ``float32[items]``."""
    if allowed.all() or not allowed.any():
        return scores
    found = scores.copy()
    found[~allowed] -= np.float32(scores[~allowed].max() - scores[allowed].min() + 1.0)
    return found
