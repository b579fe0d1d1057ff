"""What a study of paradigms is told: data, arms, seeds, models and how much may be spent."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.space import DEFAULT_ENCODER

__all__ = ["StudyConfig"]


class StudyConfig(Config):
    """Settings of a study. The same settings and the same output folder go on where an earlier run stopped."""

    data: tuple[str, ...] = Field(min_length=1)
    """Data sets: a public one (``ml-100k``), ``books-<language>``, or a partner's folder; ``NAME@last``, ``NAME@time``,
    ``NAME@holdout`` states how events are divided."""
    arms: tuple[str, ...] = ()
    """Names of arms; empty: all of them."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Of every draw. Arms that draw nothing are run once, with the first."""
    users: int = Field(default=100, ge=2)
    """People asked about by arms that put a language model to work for each request: a seeded sample."""
    validation_users: int = Field(default=100, ge=2)
    """People such an arm may ask to choose its own weight."""
    candidates: int = Field(default=50, ge=2, le=1000)
    """Items of the base that such an arm reranks."""
    written: int = Field(default=40, ge=1)
    """Items that a language model is made to write or judge of ahead of requests; the most taken, or cold ones."""
    strangers: int = Field(default=1000, ge=2)
    """People shown as strangers at most: a seeded sample."""
    requests: int = Field(default=100, ge=2)
    """Requests whose latency is taken; a fifth of them of an arm that asks a language model for each."""
    settings: Path | None = None
    """Folder of kept settings: ``<data set>.toml`` with one table per recommender."""
    budget: int = Field(default=8, ge=0)
    """Trials per arm on validation where no settings are kept and the arm can be tuned; 0: defaults."""
    encoder: str = DEFAULT_ENCODER
    """The semantic space."""
    model: str | None = None
    """A decoder language model for the arms that ask one; without it they are listed as not run."""
    max_items: int | None = Field(default=None, ge=10)
    """Keep so many items of a data set, those with most events; ``None``: all."""
    max_users: int | None = Field(default=None, ge=10)
    """Keep so many people, a stable sample; ``None``: all."""
    cold_items: float = Field(default=0.05, ge=0.0, lt=0.5)
    """Share of every catalogue whose training events are withheld."""
    minutes: float | None = Field(default=None, gt=0)
    """Processor minutes that one arm, seed and data set may take; beyond, it is listed as not affordable."""
    threads: int = Field(default=1, ge=1)
    """Of every arm's process."""
    workers: int = Field(default=1, ge=1)
    """Processes at once."""
    k: int = Field(default=10, ge=1)
    """Length of a list."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, values in (("data", self.data), ("arms", self.arms), ("seeds", self.seeds)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} holds something twice")
        return self
