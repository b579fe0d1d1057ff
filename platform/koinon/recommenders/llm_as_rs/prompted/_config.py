"""What a prompted ranker may be told: which model, what to ask, and in which words."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.recommenders.llm_as_rs.reranking import RerankConfig

__all__ = ["LANGUAGES", "PromptedConfig", "Wording"]


class Wording(Config):
    """The words around titles, in one language. Say what the things are: ``Films that one person watched …``."""

    opening: str = "Titles that one person chose, one after another:"
    """Stands before every history, and alone where there is none."""
    question: str = "Which of these did the same person choose next?"
    answer: str = "Answer:"


LANGUAGES: dict[str, Wording] = {
    "en": Wording(),
    "de": Wording(
        opening="Titel, die eine Person nacheinander gewählt hat:",
        question="Welchen davon hat dieselbe Person als nächsten gewählt?",
        answer="Antwort:",
    ),
    "fr": Wording(
        opening="Titres qu'une personne a choisis, l'un après l'autre :",
        question="Lequel de ces titres la même personne a-t-elle choisi ensuite ?",
        answer="Réponse :",
    ),
    "es": Wording(
        opening="Títulos que una persona eligió, uno tras otro:",
        question="¿Cuál de estos eligió después la misma persona?",
        answer="Respuesta:",
    ),
}


class PromptedConfig(RerankConfig):
    """Settings of :class:`PromptedRanker`; the seed is that of examples and groups."""

    endpoint: str | None = None
    """Instead: base URL of an OpenAI-compatible server, e.g. ``http://127.0.0.1:8080/v1``; only for ``choice``."""
    endpoint_model: str = "default"
    """The name the endpoint knows its model by."""
    trusted_host: str | None = None
    """An endpoint on another machine hears titles that people chose. Name its host here to say that it may."""
    timeout: float = Field(default=30.0, gt=0.0, le=3600.0)
    """Seconds an endpoint has for one answer, from connecting to the last byte."""
    on_failure: Literal["raise", "base"] = "raise"
    """What a failing endpoint leads to: an error, or the base's own order for that request."""
    ask: Literal["pointwise", "choice"] = "pointwise"
    """How likely each candidate is, or which of a group comes next."""
    shots: int = Field(default=0, ge=0, le=32)
    """Other people's histories shown first (for ``choice`` with the answer), drawn from the training events."""
    group: int = Field(default=10, ge=2, le=20)
    """``choice``: candidates in one question; 2 is pairwise."""
    rounds: int = Field(default=1, ge=1, le=50)
    """``choice``: how often candidates are dealt into groups anew; every group is asked in both orders."""
    calibrated: bool = True
    """Take off what the model says without any history: what a title or a place in a list brings by itself."""
    guarded: bool = True
    """``pointwise``: count the least that any beginning of the text has gained, so that nothing appended can help."""
    language: Literal["en", "de", "fr", "es"] = "en"
    wording: Wording | None = None
    """Instead of the language's own."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.model is not None and self.endpoint is not None:
            raise ValueError("name a model or an endpoint, not both")
        if self.endpoint is not None and self.ask != "choice":
            raise ValueError("an endpoint tells no likelihoods of given texts: use ask = 'choice'")
        if self.endpoint is not None and self.shots:
            raise ValueError("examples are other people's histories, and are not sent to an endpoint: use shots = 0")
        if self.base == "prompted":
            raise ValueError("a prompted ranker cannot rerank itself")
        return self

    @property
    def words(self) -> Wording:
        """The wording in use."""
        return self.wording or LANGUAGES[self.language]
