"""The gate, and what stands on its two sides."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from koinon.config import Config

__all__ = ["Gate", "GatedConfig"]


class Gate(Config):
    """``w(n, m) = weight · h / (h + n) · g / (g + m)``: n events of the candidate, m of the person; it never rises."""

    weight: float = Field(default=0.0, ge=0.0)
    """Of the text's standard score beside the base's, for an item and a person without events; 0: no text counts."""
    item_events: float | None = Field(default=None, gt=0.0)
    """h: an item with so many training events has half of it; ``None``: all items have all of it."""
    user_events: float | None = Field(default=None, gt=0.0)
    """g: likewise for the events of whoever asks."""

    def of(self, item_counts: NDArray[np.integer], user_count: int) -> NDArray[np.float64]:
        """``float64[items]``, 0 to ``weight``."""
        opened = np.full(len(item_counts), self.weight)
        if self.item_events is not None:
            opened *= self.item_events / (self.item_events + item_counts)
        if self.user_events is not None:
            opened *= self.user_events / (self.user_events + user_count)
        return opened


class GatedConfig(Config):
    """Settings of :class:`Gated`."""

    base: str = "ease"
    """The recommender that counts events; one of :data:`koinon.recommenders.training.TRAINABLE`."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    source: Literal["similarity", "likelihood"] = "similarity"
    """What reads texts: the space, or a language model."""
    gate: Gate = Gate()
    """See :func:`tune_gate`."""
    bound: float = Field(default=6.0, gt=0.0)
    """Standard deviations that a text counts at most, so that no text outweighs the base without bound."""
    history: int = Field(default=20, ge=1)
    """``similarity``: the latest events that are read."""
    nearest: int = Field(default=3, ge=0)
    """``similarity``: an item's score is the mean of its so many greatest cosines to what is known of the person; 0:
    its cosine to the mean of all that."""
    language_model: dict[str, Any] = Field(default_factory=dict)
    """``likelihood``: settings of :class:`koinon.recommenders.llm_as_rs.prompted.PromptedConfig`, such as ``model`` and
    ``wording``; those of base, candidates and weight have no effect."""
    candidates: int = Field(default=60, ge=2, le=500)
    """``likelihood``: so many of the base's best are asked about."""
    rare_candidates: int = Field(default=20, ge=0, le=500)
    """``likelihood``: and so many of the nearest texts among rare items, which the base does not bring up."""
    rare_events: int = Field(default=3, ge=0)
    """An item with at most so many training events is rare."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.base == "gated":
            raise ValueError("a gated recommender cannot be its own base")
        return self
