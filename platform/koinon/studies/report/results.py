"""What a federation study found, as one document: ``results.json``, its types, and their published JSON Schema.

Every figure a report shows is here. A figure that could not be computed (nobody in the slice) is ``null``, never zero.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from koinon.studies.document import Document, Record

__all__ = [
    "ARMS",
    "SLICES",
    "Aim",
    "Counts",
    "Curve",
    "Egress",
    "Estimate",
    "Federation",
    "Gain",
    "GroupRow",
    "Partner",
    "Results",
    "Summary",
]

ARMS = ("local", "local_space", "federated_gram", "federated_adapters", "federated", "pooled")
"""The arms every partner is measured with, in the order in which they are read."""

SLICES = ("all", "cold_items", "cold_among_cold", "cold_users", "long_tail", "known_elsewhere")
"""``cold_items``: targets without a training event, whole catalogue; ``cold_among_cold``: the same targets among cold
candidates only; ``cold_users``: at most two events of history; ``long_tail``: targets among the rarely taken items;
``known_elsewhere``: users who are known at another partner too."""


class Estimate(Record):
    """A mean over users with its 95 % bootstrap interval."""

    mean: float | None
    lo: float | None
    hi: float | None
    n: int = Field(ge=0)
    """Users (test requests) the mean is over."""


class Gain(Record):
    """A paired difference between two arms over the same users."""

    relative: float | None
    relative_lo: float | None
    relative_hi: float | None
    """Difference of the means as a share of the second arm's mean, and its 95 % interval; ``null`` where that is 0."""
    mean: float | None
    lo: float | None
    hi: float | None
    """Mean paired difference and its 95 % interval, in units of the metric."""
    p: float | None = Field(ge=0.0, le=1.0)
    p_holm: float | None = Field(ge=0.0, le=1.0)
    """Two-sided; Holm-corrected over the partners within this comparison and slice."""
    n: int = Field(ge=0)


class Counts(Record):
    """How large a partner is, after the caps."""

    users: int = Field(ge=0)
    items: int = Field(ge=0)
    events: int = Field(ge=0)
    test_users: int = Field(ge=0)
    """Users behind the main figures."""
    cold_items: int = Field(ge=0)
    cold_users: int = Field(ge=0)
    shared_users: int = Field(0, ge=0)
    """Users also known at another partner."""
    items_before_caps: int | None = None
    users_before_caps: int | None = None


class Partner(Record):
    """One partner's figures."""

    domain: str
    language: str
    region: str | None = None
    protocol: Literal["time", "holdout", "leave-last-out"]
    counts: Counts
    arms: dict[str, dict[str, dict[str, Estimate]]]
    """Arm, slice, metric; e.g. ``arms["federated"]["all"]["ndcg@10"]``."""
    gains: dict[str, dict[str, Gain]]
    """Comparison (``federated_vs_local`` …), slice; in NDCG@10."""
    beyond_accuracy: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    """Arm, then coverage, Gini, novelty, diversity of the lists, as :mod:`koinon.evaluation` defines them."""
    chosen: str
    """The arm this partner deploys, chosen on validation."""
    harmed: bool
    """``federated`` is below ``local_space`` on all users: the 95 % interval of the gain, uncorrected, lies below 0."""
    random_among_cold: float | None = None
    """NDCG@10 of a random order among cold candidates."""


class Aim(Record):
    """Something the study set out to reach."""

    name: str
    target: str
    """In words, with its number."""
    measured: str
    reached: bool | None
    """``null``: it could not be measured (partners missing)."""


class Summary(Record):
    """What came of it over all partners."""

    headline: str
    gaining: list[str]
    """Partners whose ``federated`` arm is above ``local_space``, significantly after Holm's correction."""
    harmed: list[str]
    relative_gain: dict[str, float | None]
    """Comparison to mean relative gain over partners, NDCG@10 on all users."""
    aims: list[Aim]


class Curve(Record):
    """One partner's validation NDCG@10 over the rounds of one federated recommender."""

    partner: str
    recommender: str
    rounds: list[int]
    values: list[float | None]
    references: dict[str, float] = Field(default_factory=dict)
    """Validation NDCG@10 of arms that do not depend on rounds, e.g. ``local_space``."""


class Egress(Record):
    """What left one partner, from its egress log."""

    messages: int = Field(ge=0)
    bytes: int = Field(ge=0)
    kinds: dict[str, int] = Field(default_factory=dict)
    """Bytes by kind of message."""


class Federation(Record):
    """How the federation ran."""

    mode: Literal["simulation", "processes"]
    rounds: dict[str, int]
    """Rounds by recommender."""
    bytes: int = Field(ge=0)
    """All bytes that left partners."""
    overhead_seconds: float | None
    """Seconds of rounds not spent in partners' training."""
    seconds: float | None = None
    unprotected_sums: bool
    """The server saw each partner's sums in clear: secure aggregation was not on."""
    egress: dict[str, Egress] = Field(default_factory=dict)
    vanished: dict[str, list[str]] = Field(default_factory=dict)
    """Partner to rounds it missed."""


class GroupRow(Record):
    """One group of one partner's users under one declared attribute."""

    partner: str
    attribute: str
    group: str
    n: int | None
    """Users; ``null`` where the cell is suppressed because it is small."""
    arms: dict[str, Estimate]
    """Arm to NDCG@10; empty where suppressed."""
    suppressed: bool = False


class Results(Document):
    """``results.json``."""

    title = "Koinon results"
    unreadable = ("K510", "Run `koinon demo` to make it.")
    malformed = ("K511", "results")
    published = ("koinon.studies.report", "results.schema.json")

    koinon_version: str
    created: str
    """ISO 8601, UTC."""
    seed: int
    command: str
    """The command line that made it."""
    machine: dict[str, JsonValue]
    settings: dict[str, JsonValue]
    caps: dict[str, int | None]
    """``null``: lifted."""
    partners: dict[str, Partner]
    summary: Summary
    learning_curves: list[Curve]
    federation: Federation
    groups: list[GroupRow]
    timings: dict[str, float]
    """Seconds by step."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that matter for reproducing it."""
