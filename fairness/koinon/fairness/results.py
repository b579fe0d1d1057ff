"""What an audit found, as one document: ``results.json``, its types, and their published JSON Schema.

Every figure the report shows is here. A figure that could not be computed, or must not be told, is ``null``.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from koinon.errors import EvaluationError
from koinon.fairness.mitigation.findings import Mitigation
from koinon.fairness.probes.findings import Probes
from koinon.fairness.verdicts import Verdict

__all__ = [
    "Answered",
    "AuditResults",
    "Catalogue",
    "Cell",
    "Class",
    "Comparison",
    "Estimate",
    "Exposure",
    "Federated",
    "Federation",
    "Group",
    "Judged",
    "Labels",
    "PartnerGain",
    "Provider",
    "Recorded",
    "SourceFacts",
    "Spent",
    "schema",
    "schema_text",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Record):
    """A mean over users with its interval at the plan's level: the bootstrap's, for groups at least Student's."""

    mean: float | None
    lo: float | None
    hi: float | None
    n: int | None
    """Users with a value, in a federation under a budget with noise; ``null`` where it is not told."""
    shrunken: float | None = None
    """The mean drawn towards that of all groups by how much of the groups' scatter is noise."""


class Cell(_Record):
    """One group of people."""

    label: str
    n: int | None
    """Users asked about; ``null`` where it is not told."""
    hidden: bool
    """Below the minimum cell, or needed to hide one that is: nothing is told of it."""
    figures: dict[str, Estimate]
    """Metric to estimate; empty for a hidden cell."""
    coverage: float | None = None
    """Share of the catalogue shown to as many of its users as the smallest shown cell has."""
    n_noise: float | None = None
    """Standard deviation of the noise in ``n``; ``null`` where there is none."""


class Group(_Record):
    """One way of dividing people, single or crossed."""

    name: str
    how: str
    unknown: int
    """Users whose value is not known: in no cell, in no comparison."""
    vanished: list[str]
    """Values that are declared, or demanded by the plan, and that nobody who was asked about has."""
    pooled: list[str]
    """Groups below the minimum cell that the plan has put together."""
    coverage_users: int | None
    """At how many users ``coverage`` is compared."""
    cells: list[Cell]


class Judged(_Record):
    """What every comparison has: an interval, a p-value, and with a tolerance a verdict."""

    family: Literal["primary", "exploratory"]
    lo: float | None
    hi: float | None
    """Interval of the true largest gap."""
    p: float | None
    """Of no difference at all."""
    p_adjusted: float | None
    """For the number of questions of the family."""
    tolerance: float | None
    verdict: Verdict | None
    reason: str


class Comparison(Judged):
    """One metric compared over the cells of one group."""

    metric: str
    group: str
    at_equal: str | None
    """The control group at whose equal levels the comparison is made."""
    cells: int
    """Cells that are compared."""
    best: str | None
    worst: str | None
    """For metrics of which more is neither better nor worse: the highest and the lowest."""
    gap: float | None
    """Largest mean minus smallest, chance included."""
    gap_by_chance: float | None
    """The same on average when labels are dealt out at random: what no difference at all would show."""
    ratio: float | None
    """Smallest mean over largest."""
    entropy: float | None
    """Generalised entropy (alpha 2) of users' values; ``null`` where values may be negative."""
    entropy_between: float | None
    """The part of it that lies between the cells."""


class Class(_Record):
    """One class of items."""

    label: str
    items: int
    exposure: float
    lo: float
    hi: float
    """Share of all attention, with its interval."""
    taken: float
    """Share of what people took in the test."""
    catalogue: float
    """Share of the catalogue."""
    over_taken: float | None
    """Exposure over relevance: ``exposure / taken``."""


class Provider(Judged):
    """How attention is divided over one division of items."""

    by: str
    source: str
    classes: list[Class]
    attention_fairness: float | None
    """Mean over users, 0 to 1."""
    deviation: float
    """Largest distance of a class's share of exposure from its share of what people took; the interval is its."""


class Exposure(_Record):
    """Expected exposure over items, means over users."""

    loss: float
    disparity: float
    relevance: float
    ideal: float


class Catalogue(_Record):
    """All lists of one source together."""

    source: str
    coverage: float
    gini: float | None
    """Of the attention that items get."""
    expected_exposure: Exposure


class Labels(_Record):
    """fairlearn's figures on held-out items, pooled over people: was a liked item listed?"""

    group: str
    demographic_parity_difference: float
    equal_opportunity_difference: float
    equalized_odds_difference: float


class PartnerGain(_Record):
    """What federating brought one partner, against its own local model on the same users."""

    partner: str
    language: str | None
    users: int
    local: float
    federated: float
    gain: float
    lo: float
    hi: float
    harmed: bool
    """The whole interval lies below 0."""
    users_worse: float
    """Share of its users who are served worse than by the local model."""


class Federation(_Record):
    """Gains and harms of a federation."""

    metric: str
    partners: list[PartnerGain]
    minimum: float
    median: float
    share_harmed: float
    """Of the partners."""
    worst_language: str | None
    worst_language_gain: float | None


class Answered(_Record):
    """One partner that was to be asked."""

    partner: str | None
    """``null`` where the federation keeps it from being known who took part."""
    code: str | None
    """Why it is not in the sums; ``null``: it is."""


class Spent(_Record):
    """What an audit of a federation may tell of one person."""

    epsilon: float
    delta: float
    budget: float
    """ε of everything that is told under the same budget, training included."""
    mechanism: Literal["local", "distributed"]
    safe: bool
    """Whether the noise is nobody's to repeat."""
    noise: dict[str, float]
    """Standard deviation of the noise in one value of each sum."""


class Federated(_Record):
    """How partners answered with sums."""

    federation: str
    policy_sha256: str
    """Of the policy under which they were asked; it holds the plan."""
    secure: bool
    """Whether the server saw the total alone."""
    partners: list[Answered]
    privacy: Spent | None
    totals_sha256: str
    """Of ``totals.json``, the sums that everything here follows from."""


class Recorded(_Record):
    """Where the plan was entered before anything was computed."""

    kind: Literal["local", "federation"]
    key: str
    """Public key that signs the record, base64."""
    sequence: int
    time: str
    hash: str


class SourceFacts(_Record):
    """One source."""

    name: str
    people: int
    asked: int
    items: int
    events: int
    release: str | None
    """SHA-256 of the kept recommender's description; ``null`` where the audit fitted its own."""
    data_sha256: str
    """Of catalogue, people, events and the attributes used."""


class AuditResults(_Record):
    """A whole audit."""

    schema_version: Literal["1"] = "1"
    koinon_version: str
    created: str
    name: str
    question: str
    verdict: Verdict
    """The worst of the primary questions'."""
    plan_sha256: str
    plan: dict[str, JsonValue]
    record: Recorded
    sources: list[SourceFacts]
    people: int
    """People asked about: the units of everything here."""
    at_several_sources: int | None
    """``null`` for a federation, which cannot know: there somebody counts at each partner."""
    excluded: dict[str, int]
    """Why people were left out, and how many."""
    comparisons: list[Comparison]
    providers: list[Provider]
    groups: list[Group]
    overall: dict[str, Estimate]
    catalogues: list[Catalogue]
    labels: list[Labels]
    federation: Federation | None
    federated: Federated | None = None
    """Set: partners answered with sums; then ``sources`` is empty, and so is what needs rows."""
    probes: Probes | None = None
    mitigation: Mitigation | None = None
    """Remedies, where the plan names any."""
    seconds: float = Field(ge=0)
    versions: dict[str, str]

    def to_json(self) -> str:
        """Return the document as text, the same for the same results."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> AuditResults:
        """Read and validate a document.

        Raises
        ------
        EvaluationError
            K534 the file cannot be read, or does not follow the schema (names the place).
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise EvaluationError("K534", f"Cannot read {path}: {error}.", "Give an audit's folder.") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            raise EvaluationError(
                "K534",
                f"{path} is no audit's results: {place}: {first['msg']}.",
                "It was changed, cut off, or comes from another version of Koinon.",
            ) from error


def schema() -> dict[str, Any]:
    """The published JSON Schema, as shipped with the package (``docs/audit.schema.json`` is the same file)."""
    text = files("koinon.fairness").joinpath("audit.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def schema_text() -> str:
    """The JSON Schema as the types say it now; the shipped file must equal it."""
    generated = AuditResults.model_json_schema(mode="serialization")
    generated["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    generated["title"] = "Koinon fairness audit"
    return json.dumps(generated, indent=2, ensure_ascii=False) + "\n"
