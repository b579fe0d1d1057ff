"""Which pipelines there are, how long they may take, and who gets which."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from koinon.config import Config

__all__ = ["SEGMENTS", "ControllerConfig", "Pipeline", "Segment"]

Segment = Literal["words", "stranger", "cold", "short", "regular"]
SEGMENTS: tuple[Segment, ...] = get_args(Segment)
"""Shapes of requests; of several that fit the first counts."""


class Pipeline(Config):
    """One way to answer."""

    name: str
    """What decisions call it."""
    recommender: str
    """One of :data:`koinon.recommenders.training.TRAINABLE`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    hears_words: bool = False
    """Whether a wish in words and liked texts change what it gives."""


class ControllerConfig(Config):
    """Settings of :class:`Controller`."""

    pipelines: tuple[Pipeline, ...] = (
        Pipeline(name="semantic-ease", recommender="semantic-ease", hears_words=True),
        Pipeline(name="ease", recommender="ease"),
        Pipeline(name="popularity", recommender="popularity"),
    )
    """The earlier one is preferred, where neither a rule nor validation says otherwise."""
    budget_ms: float = Field(default=200.0, gt=0.0)
    """Milliseconds that an answer may take; a pipeline whose 95th percentile is above is not chosen."""
    rules: dict[Segment, tuple[str, ...]] = Field(default_factory=dict)
    """Which pipelines requests of a shape are to go to, the first that is quick enough."""
    choices: dict[Segment, str] = Field(default_factory=dict)
    """What validation prefers, see :func:`tune_routes`; before rules."""
    short_history: int = Field(default=2, ge=1)
    """A history of at most so many events is short."""
    rare_events: int = Field(default=3, ge=0)
    """A history is cold if at least half of its items have at most so many training events."""
    probes: int = Field(default=40, ge=1)
    """Requests that a pipeline's latency is measured with."""
    probe_seconds: float = Field(default=20.0, gt=0.0)
    """Measuring one pipeline ends after so long, with five requests at the least."""
    deadlines: bool = True
    """Whether an answer that is late is replaced; ``False``: a slow pipeline is waited for."""
    log: str | None = None
    """File that gets a JSON line for every answer; ``None``: none."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [pipeline.name for pipeline in self.pipelines]
        if not names or len(set(names)) < len(names):
            raise ValueError("pipelines of different names are needed")
        named = {name for order in self.rules.values() for name in order} | set(self.choices.values())
        if unknown := sorted(named - set(names)):
            raise ValueError(f"there is no pipeline {unknown[0]!r}; there are {', '.join(names)}")
        if any(pipeline.recommender == "controller" for pipeline in self.pipelines):
            raise ValueError("a controller cannot be its own pipeline")
        return self
