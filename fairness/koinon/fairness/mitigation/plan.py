"""The part of an audit plan that says which remedies are weighed, and how dear one may be."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from koinon.config import Config

__all__ = ["MitigationPlan", "Remedy"]

Remedy = Literal[
    "calibrated",
    "calibrated_popularity",
    "balanced",
    "exposure",
    "exposure_shared",
    "alike",
    "weighted",
    "decorrelated",
    "by_group",
]


class MitigationPlan(Config):
    """What is tried on every primary question that does not pass.

    Everything is chosen on validation, by a recommender fitted without it; the test is read once for what was chosen.
    """

    remedies: tuple[Remedy, ...] = get_args(Remedy)
    """See ``remedy`` in ``words/en.toml``; those that the data cannot bear are left out."""
    dials: tuple[float, ...] = Field(default=(0.05, 0.1, 0.2, 0.5, 0.7, 0.85, 1.0), min_length=1)
    """How far each is turned, above 0, at most 1."""
    largest_cost: float = Field(default=0.02, ge=0, lt=1)
    """Share of NDCG that a remedy may cost."""
    depth: int = Field(default=100, ge=10)
    """Items of each person that a re-ranking may list."""
    people: int = Field(default=2000, ge=100)
    """In each source, drawn by the plan's seed: those by whose lists prices are set. More are slower and nearer."""
