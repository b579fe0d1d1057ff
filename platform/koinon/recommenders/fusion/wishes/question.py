"""One question back, when a wish leaves too much open: told by the entropy of what would be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.recommenders.fusion.wishes.facts import Facts
from koinon.recommenders.fusion.wishes.reading import Wish

__all__ = ["Question", "QuestionConfig", "perplexity", "question_for"]

_ASKED: dict[str, dict[str, str]] = {
    "category": {
        "en": "Which of these do you have in mind: {options}?",
        "de": "Woran denken Sie: {options}?",
        "fr": "À quoi pensez-vous : {options} ?",
        "es": "¿En cuál de estos piensa: {options}?",
    },
    "language": {
        "en": "In which language: {options}?",
        "de": "In welcher Sprache: {options}?",
        "fr": "En quelle langue : {options} ?",
        "es": "¿En qué idioma: {options}?",
    },
}


class QuestionConfig(Config):
    """When to ask."""

    top: int = Field(default=50, ge=2)
    """Of what would be shown, so many of the best are looked at."""
    open: float = Field(default=4.0, gt=1.0)
    """Asked from so many equally likely categories on (the exponential of the entropy)."""
    languages: float = Field(default=1.8, gt=1.0)
    """The same for languages, asked about where categories are settled or there are none."""
    options: int = Field(default=4, ge=2)
    """Named at most."""
    common: float = Field(default=0.8, gt=0.0, le=1.0)
    """What is in more of the top than this does not divide it and is not named."""


class Question(Config):
    """A question back."""

    about: Literal["category", "language"]
    options: tuple[str, ...]
    """Names of the catalogue, the most frequent of the top first."""
    text: str
    """In the wish's language."""
    perplexity: float
    """How many equally likely answers the top holds."""


def question_for(
    facts: Facts, wish: Wish, best: NDArray[np.integer] | Sequence[int], config: QuestionConfig | None = None
) -> Question | None:
    """Return the question to ask about a wish, or ``None`` where it is clear enough.

    Parameters
    ----------
    facts, wish
        The catalogue, and what was understood.
    best
        ``int[n]`` items that would be shown, best first, all limits applied.
    config
        When to ask.
    """
    config = config or QuestionConfig()
    top = [int(item) for item in best[: config.top]]
    settled = {one.kind for one in wish.constraints if one.wanted}
    limits: tuple[tuple[Literal["category", "language"], float], ...]
    limits = (("category", config.open), ("language", config.languages))
    for about, limit in limits:
        if about in settled or len(top) < 2:
            continue
        groups = [facts.categories[item] if about == "category" else (str(facts.languages[item]),) for item in top]
        shares: dict[str, float] = {}
        held: dict[str, int] = {}
        for group in groups:
            for name in group:
                shares[name] = shares.get(name, 0.0) + 1.0 / len(group)
                held[name] = held.get(name, 0) + 1
        options = [name for name in shares if name and held[name] <= config.common * len(top)]
        options = sorted(options, key=lambda name: (-shares[name], name))[: config.options]
        found = perplexity(list(shares.values()))
        if found >= limit and len(options) > 1:
            text = _ASKED[about][wish.language].replace("{options}", ", ".join(options))
            return Question(about=about, options=tuple(options), text=text, perplexity=round(found, 2))
    return None


def perplexity(shares: Sequence[float]) -> float:
    """``exp(-Σ p ln p)`` of shares that need not sum to 1: how many equally likely ones they are like; 0 for none."""
    values = np.array([share for share in shares if share > 0], dtype=np.float64)
    if not len(values):
        return 0.0
    chances = values / values.sum()
    return float(np.exp(-(chances * np.log(chances)).sum()))
