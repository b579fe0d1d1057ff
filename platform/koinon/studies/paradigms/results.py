"""What a study of paradigms found, as one document: ``results.json``, its types, and their published JSON Schema.

A figure that could not be computed is ``null``, never zero. Every arm that was asked for stands under ``arms`` or under
``not_run`` with the reason.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from koinon.config import write_atomically
from koinon.errors import EvaluationError
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
    "schema",
    "schema_text",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cost(_Record):
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


class Clicks(_Record):
    """Chances of clicks on the last tenth of the rows."""

    figures: dict[str, Estimate]
    """``auc``, ``gauc``, ``log_loss``; of the first seed, intervals over people."""
    over_seeds: dict[str, float | None]
    """Mean over seeds."""
    validation: float
    """Mean AUC on validation, over seeds."""
    gains: dict[str, Gain]
    """Over the best conventional click model, of the first seed; ``n``: people."""


class Reworded(_Record):
    """What other words for the same items change."""

    changed: float
    """Share of items whose text is another."""
    words: float
    """Share of words that were replaced."""
    overlap: Estimate
    """Share of a list that stays."""
    ndcg: Gain
    """NDCG with the other words less NDCG with the first."""


class ArmResult(_Record):
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


class DataResult(_Record):
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


class About(_Record):
    """What an arm is."""

    title: str
    paradigm: str
    about: str
    where: str | None
    tuned: bool | None
    """Whether the language model is tuned; ``null`` without one."""
    with_conventional: bool | None


class Finding(_Record):
    """Where a paradigm is strong or weak, by a stated rule."""

    paradigm: str
    kind: Literal["strong", "weak", "level", "unknown"]
    question: str
    text: str


class StudyResults(_Record):
    """``results.json``."""

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

    def write(self, path: Path) -> None:
        """Write the document, whole or not at all.

        Raises
        ------
        ResourceError
            K801 the disk is full or the folder cannot be written.
        """
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> StudyResults:
        """Read and validate a document.

        Raises
        ------
        EvaluationError
            K541 the file cannot be read, K542 it does not follow the schema (names the place).
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluationError("K541", f"Cannot read {path}: {error}.", "`koinon study run` makes it.") from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            raise EvaluationError(
                "K542",
                f"{path} does not follow the schema of studies: {place}: {first['msg']}.",
                "It may come from another version of Koinon; run the study again.",
            ) from error


def schema() -> dict[str, Any]:
    """The published JSON Schema of ``results.json``, as shipped."""
    loaded: dict[str, Any] = json.loads(
        files("koinon.studies.paradigms").joinpath("study.schema.json").read_text(encoding="utf-8")
    )
    return loaded


def schema_text() -> str:
    """The JSON Schema as the types say it now; the shipped file must equal it."""
    generated = StudyResults.model_json_schema(mode="serialization")
    generated["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    generated["title"] = "Koinon study of paradigms"
    return json.dumps(generated, indent=2, ensure_ascii=False) + "\n"
