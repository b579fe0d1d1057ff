"""What a study of paradigms found, as one document: ``results.json``, its types, and their published JSON Schema.

A figure that could not be computed is ``null``, never zero. Every arm that was asked for stands under ``arms`` or under
``not_run`` with the reason.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from koinon.studies.document import Document, Record
from koinon.studies.report.results import Estimate, Gain

__all__ = [
    "About",
    "ArmResult",
    "Clicks",
    "Cost",
    "DataResult",
    "Finding",
    "Reworded",
    "StudyResults",
]


class Cost(Record):
    """What an arm costs; means over seeds. Seconds are processor time, milliseconds are waited for."""

    fit_seconds: float | None
    """Of one fit with settled settings."""
    search_seconds: float | None
    """Of what came before it: the fit that was judged on validation, early stopping, trials."""
    peak_mb: float | None
    """Most memory that the process ever held, data and libraries included."""
    begun_mb: float | None
    """What it held before it learned anything."""
    p50_ms: float | None
    p95_ms: float | None
    """From one request to its list of the whole catalogue (of click models: one person, 100 items)."""
    parameters: int | None
    """Numbers learned or kept; those of a language model or an encoder are not among them."""
    bytes_per_round: float | None = None
    """What one partner sends in a round, for federated arms."""


class Clicks(Record):
    """Chances of clicks on the last tenth of the rows."""

    figures: dict[str, Estimate]
    """``auc``, ``gauc``, ``log_loss``; of the first seed, intervals over people."""
    over_seeds: dict[str, float | None]
    """Mean over seeds."""
    validation: float
    """Mean AUC on validation, over seeds."""
    gains: dict[str, Gain]
    """Over the best conventional click model, of the first seed; ``n``: people."""


class Reworded(Record):
    """What other words for the same items change."""

    changed: float
    """Share of items whose text is another."""
    words: float
    """Share of words that were replaced."""
    overlap: Estimate
    """Share of a list that stays."""
    ndcg: Gain
    """NDCG with the other words less NDCG with the first."""


class ArmResult(Record):
    """One arm on one data set."""

    seeds: list[int]
    """That it was run with."""
    sampled: bool
    """Whether only a sample of people was asked; gains are over the same people."""
    settings_from: Literal["kept", "tuned", "stated"] | None
    settings: dict[str, JsonValue]
    validation: float | None
    """Mean NDCG on validation, over seeds."""
    weight: float | None = None
    """Of a language model's word beside the base's, where validation chose it."""
    figures: dict[str, dict[str, Estimate]]
    """Slice, metric; of each user's mean over seeds."""
    gains: dict[str, Gain]
    """Slice; NDCG less the reference's, paired over people, Holm over the arms of the data set and slice."""
    seed_deviation: float | None
    """Standard deviation over seeds of the mean NDCG on all users."""
    lists: dict[str, float | None]
    """Coverage, Gini, novelty, diversity, miscalibration of the lists."""
    reworded: dict[str, Reworded] = Field(default_factory=dict)
    clicks: Clicks | None = None
    cost: Cost


class DataResult(Record):
    """One data set."""

    source: str
    protocol: Literal["time", "holdout", "leave-last-out"]
    users: int
    items: int
    events: int
    test_users: int
    cold_items: int
    chance_among_cold: float | None
    """NDCG of a random order among cold candidates."""
    reference: str | None
    """The conventional arm that was best on validation: what every other is held against."""
    click_reference: str | None
    arms: dict[str, ArmResult]
    not_run: dict[str, str]
    """Arm to reason."""


class About(Record):
    """What an arm is."""

    title: str
    paradigm: str
    about: str
    where: str | None
    tuned: bool | None
    """Whether the language model is tuned; ``null`` without one."""
    with_conventional: bool | None


class Finding(Record):
    """Where a paradigm is strong or weak, by a stated rule."""

    paradigm: str
    kind: Literal["strong", "weak", "level", "unknown"]
    question: str
    text: str


class StudyResults(Document):
    """``results.json``."""

    title = "Koinon study of paradigms"
    unreadable = ("K541", "`koinon study run` makes it.")
    malformed = ("K542", "studies")
    published = ("koinon.studies.paradigms", "study.schema.json")

    koinon_version: str
    created: str
    """ISO 8601, UTC."""
    command: str
    machine: dict[str, JsonValue]
    settings: dict[str, JsonValue]
    """Of the study, without paths."""
    arms: dict[str, About]
    data: dict[str, DataResult]
    findings: list[Finding]
    versions: dict[str, str]
