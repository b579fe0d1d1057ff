"""What a wish in words means to a shop: limits on the list, and a question back where it is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from koinon.data import Domain
from koinon.recommenders.fusion.wishes import CategoryJudge, Constraint, Wish, WishReader, limited, question_for
from koinon.space import Space

__all__ = ["LOOKED_AT", "UNWANTED", "Limit", "Limits", "Wished", "Wishes"]

Scores = NDArray[np.float32]
LOOKED_AT = 50
"""Of what would be shown, so many decide whether a question comes back."""
UNWANTED = 0.5
"""Of the cosine to what is not wanted and names nothing in the catalogue; taken off."""


class Limit(BaseModel):
    """One limit that a wish was understood to state."""

    kind: Literal["category", "price", "language", "year", "creator", "word"]
    wanted: bool
    value: str | None = None
    least: float | None = None
    most: float | None = None
    said: str
    """The words that say it."""
    how: Literal["rule", "name", "meaning", "model"]
    kept: bool
    """Whether the list keeps it; a limit that nothing meets is left out."""

    def __str__(self) -> str:
        """In words."""
        text = str(Constraint.model_validate(self.model_dump(exclude={"kept"})))
        return text if self.kept else f"{text} (nothing meets it)"


class Wished(BaseModel):
    """How a wish was understood."""

    language: str
    """Of the wish."""
    limits: tuple[Limit, ...]
    question: str | None = None
    """Asked back where that was wanted and the wish leaves much open; the answer comes back as ``answered``."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """A wish, what it allows, ``bool[items]``, and the limits that nothing meets."""

    wish: Wish
    allowed: NDArray[np.bool_]
    dropped: tuple[Constraint, ...]

    def apply(self, scores: Scores) -> Scores:
        """Put what is not allowed below all that is."""
        return limited(scores, self.allowed)


class Wishes:
    """Reads wishes about one shop's catalogue.

    Parameters
    ----------
    domain, space
        The catalogue, and where words have a meaning; without a space names and rules still serve.
    judge
        A language model that chooses categories by likelihood.
    """

    def __init__(self, domain: Domain, space: Space | None, judge: CategoryJudge | None = None) -> None:
        self.reader = WishReader(domain, space, judge=judge)

    def limits(self, query: str, answered: str | None = None) -> Limits:
        """Understand a wish, and the answer to the question it was met with."""
        wish = self.reader.read_answered(query, answered)
        allowed, dropped = self.reader.facts.allowed(wish.constraints, self.reader.config.least_items)
        return Limits(wish, allowed, tuple(dropped))

    def understood(self, limits: Limits, shown: Sequence[int] | None) -> Wished:
        """Say what was understood; ``shown`` are the best items, or ``None`` where nothing is to be asked."""
        asked = None if shown is None else question_for(self.reader.facts, limits.wish, shown)
        return Wished(
            language=limits.wish.language,
            limits=tuple(Limit(**one.model_dump(), kept=one not in limits.dropped) for one in limits.wish.constraints),
            question=None if asked is None else asked.text,
            options=() if asked is None else asked.options,
        )
