"""The audit plan: what is asked, of whom, by which figures and with which tolerance, fixed before any is seen."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.data import SplitConfig
from koinon.fairness.metrics import METRICS
from koinon.fairness.mitigation.plan import MitigationPlan
from koinon.fairness.probes.plan import ProbesPlan
from koinon.fairness.words import ReportLanguage
from koinon.recommenders.training import TRAINABLE

__all__ = [
    "PLAN_FILE",
    "AuditPlan",
    "DataPlan",
    "FederatedPlan",
    "GroupPlan",
    "PrimaryPlan",
    "PrivacyPlan",
    "ProviderPlan",
    "ReportPlan",
    "SystemPlan",
    "WindowPlan",
]

PLAN_FILE = "plan.toml"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class SystemPlan(Config):
    """What is audited: a recommender that the audit fits itself, or one that each source has kept."""

    recommender: str | None = None
    """Fitted on training and validation events; one of :data:`koinon.recommenders.training.TRAINABLE`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    encoder: str | None = None
    """The semantic space, for recommenders that read texts."""
    kept: str | None = None
    """Folder of a kept recommender, within each source's folder, e.g. ``models/federated_gram``; of a federation, an
    arm or ``deployed``: what each partner serves with."""
    release: dict[str, str] = Field(default_factory=dict)
    """With ``kept``: source to SHA-256 of its ``recommender.json``. Another file is not what was to be audited. Of a
    federation: learner to SHA-256 of its release's manifest."""
    words: str = ""
    """The system in plain words, for the report."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.recommender is None) == (self.kept is None):
            raise ValueError("name either a recommender to fit or a kept one")
        if self.recommender is not None and self.recommender not in TRAINABLE:
            raise ValueError(f"there is no recommender {self.recommender!r}; choose from {', '.join(TRAINABLE)}")
        return self


class WindowPlan(Config):
    """Days in whose course people are asked; who would be asked on another day is left out."""

    first: date
    last: date
    """Included; days of UTC."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("the last day lies before the first")
        return self

    @property
    def milliseconds(self) -> tuple[int, int]:
        """First millisecond since 1970 UTC, and the first one after."""
        days = ((day - date(1970, 1, 1)).days for day in (self.first, self.last))
        first, last = (day * 86_400_000 for day in days)
        return first, last + 86_400_000


class PrivacyPlan(Config):
    """What an audit of a federation may tell of one person: (ε, δ).

    Where the federation has a budget, ``epsilon`` is of what it keeps for audits, and all else is the federation's.
    """

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    people: int = Field(ge=1)
    """More people than any partner has."""
    sharing: tuple[tuple[str, ...], ...] | None = None
    """Groups of partners that may have people in common; ``None``: all may."""


class FederatedPlan(Config):
    """Who is asked where partners answer with sums alone, and nobody's rows leave home."""

    file: str
    """The federation's file, or the folder of a created one; relative to the plan."""
    policy_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """What its members had agreed on when this was planned: division of the events, encoder, aggregation, budget."""
    gains: bool = False
    """Whether each partner's own gain over its local model is told."""


class DataPlan(Config):
    """Whose events are looked at, and how they are divided."""

    sources: tuple[str, ...] = Field(min_length=1)
    """``dataset:NAME`` or a partner's folder, relative to the plan; of a federation, partners by name. The same user id
    means the same person."""
    window: WindowPlan | None = None
    """``None``: whatever the division holds out."""
    protocol: Literal["time", "holdout", "leave-last-out"] = "holdout"
    """``holdout``: one event of each person is asked for; ``time``: what the people of the last tenth did."""
    minimum_item_events: int = Field(default=2, ge=1)
    seed: int = Field(default=7, ge=0)
    basis: str = ""
    """On what ground sensitive attributes are used, where no consent column says it for each person."""
    like_from: float | None = None
    """Weight (rating) from which a held-out event is one that was liked; gives the figures on labels."""

    def split_config(self, clock: dict[str, int]) -> SplitConfig:
        """Return the division all sources share."""
        return SplitConfig(
            protocol=self.protocol,
            seed=self.seed,
            minimum_item_events=self.minimum_item_events,
            cold_items=0.0,
            **clock,
        )


class GroupPlan(Config):
    """One way of dividing people."""

    name: Name
    by: Literal["attribute", "activity", "language", "partner"] = "attribute"
    """A declared attribute; events in history; the language of most items in history; the sources somebody is at."""
    column: str | None = None
    """The attribute's column; default: ``name``."""
    merge: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """New group to the values it takes in, e.g. ``"under 25" = ["under 18", "18-24"]``."""
    bands: tuple[int, ...] = ()
    """``activity``: the first number of each band after the first."""
    values: tuple[str, ...] = ()
    """Groups that must be there; one that has nobody is reported as vanished. In a federation no others are told of."""
    at: tuple[str, ...] = ()
    """Sources where it is asked; default: all. Elsewhere people count as unknown. For federations alone."""
    small: Literal["refuse", "pool", "withhold"] = "refuse"
    """Groups below the minimum cell: an error; one group together; or not shown (then nothing can pass)."""
    required: bool = True
    """Whether almost nobody declaring the attribute is an error; in a federation also whether one value alone is."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.by == "activity" and (not self.bands or list(self.bands) != sorted(set(self.bands))):
            raise ValueError(f"group {self.name}: give bands in rising order, e.g. [20, 100]")
        if self.by != "activity" and self.bands:
            raise ValueError(f"group {self.name}: only activity has bands")
        return self


class ReportPlan(Config):
    """How the report is written; no figure depends on it."""

    language: ReportLanguage = "en"
    """Of ``report.html``; others are written beside it on demand (``koinon audit report``)."""
    pdf: bool = False
    """Whether ``report.pdf`` is made when the audit is run; needs the extra ``pdf``."""


class PrimaryPlan(Config):
    """One question that gets a verdict: do the groups differ by more than the tolerance?"""

    metric: str
    group: str
    """A group's name, or several joined by ``*`` for their intersection."""
    tolerance: float = Field(gt=0)
    """Largest difference between two groups' means that is accepted, in the metric's units."""


class ProviderPlan(Config):
    """One way of dividing items by who stands behind them."""

    by: Literal["language", "popularity", "creator"]
    """See ``providers.divided`` in ``words/en.toml``; judged for each source by itself."""
    tolerance: float | None = Field(default=None, gt=0)
    """Largest accepted distance of a class's share of exposure from its share of what people took; with it, a primary
    question; without, exploratory."""


class AuditPlan(Config):
    """An audit, before it is run. The content of ``plan.toml``."""

    name: Name
    question: str = Field(min_length=10)
    system: SystemPlan
    data: DataPlan
    groups: tuple[GroupPlan, ...] = Field(min_length=1)
    intersections: tuple[tuple[str, ...], ...] = ()
    """Groups to be crossed; cells below the minimum are withheld."""
    control: tuple[str, ...] = ()
    """Groups at whose equal levels every primary comparison is repeated, e.g. activity."""
    primary: tuple[PrimaryPlan, ...] = Field(min_length=1)
    exploratory: tuple[str, ...] = ()
    """Metrics compared over all groups and intersections, without a verdict."""
    providers: tuple[ProviderPlan, ...] = ()
    k: int = Field(default=10, ge=1, le=100)
    """Length of lists."""
    minimum_cell: int = Field(default=20, ge=5)
    """Smallest group that is shown."""
    patience: float = Field(default=0.85, gt=0, lt=1)
    """Chance that somebody who has looked at one place of a list looks at the next (Moffat and Zobel 2008)."""
    level: float = Field(default=0.95, gt=0.5, lt=1)
    draws: int = Field(default=2000, ge=200, le=100_000)
    """Bootstrap draws, and permutations."""
    seed: int = Field(default=0, ge=0)
    federated: FederatedPlan | None = None
    """Set: partners answer within a federation."""
    privacy: PrivacyPlan | None = None
    """``federated``: its budget, charged to the partners' accounts as training is; ``None``: no noise, or, where the
    federation has a budget, all that it keeps for audits."""
    probes: ProbesPlan | None = None
    """What is stated of people to see whether their lists change, and what the space is asked."""
    federation: str | None = None
    """A demonstration's or study's output with every arm's figures; adds what federating brought each partner."""
    mitigation: MitigationPlan | None = None
    """Which remedies are weighed where a primary question does not pass; ``None``: none."""
    report: ReportPlan = ReportPlan()
    """Language and form of the report."""
    record: str | None = None
    """Folder of the federation in whose ledger the audit is entered; default: a record beside the plan."""

    @model_validator(mode="after")
    def _names_that_are_there(self) -> Self:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError("two groups have one name")
        for by in ("activity", "language", "partner"):
            if sum(group.by == by for group in self.groups) > 1:
                raise ValueError(f"groups: {by} is there twice")
        crossed = ["*".join(parts) for parts in self.intersections]
        wanted = [*self.control, *(name for parts in self.intersections for name in parts)]
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(f"there is no group {missing[0]!r}")
        if small := [parts for parts in self.intersections if len(set(parts)) < 2]:
            raise ValueError(f"an intersection takes two different groups at least, not {list(small[0])}")
        for question in self.primary:
            if question.group not in (*names, *crossed):
                raise ValueError(f"primary: there is no group or intersection {question.group!r}")
        metrics = [*(question.metric for question in self.primary), *self.exploratory]
        if unknown := [name for name in metrics if name not in METRICS]:
            raise ValueError(f"there is no metric {unknown[0]!r}; choose from {', '.join(METRICS)}")
        asked = [(question.metric, question.group) for question in self.primary]
        if len(set(asked)) != len(asked):
            raise ValueError("a primary question is asked twice")
        if len({provider.by for provider in self.providers}) != len(self.providers):
            raise ValueError("providers: one division is named twice")
        return self

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.mitigation is not None and self.system.recommender is None:
            raise ValueError("`mitigation` is chosen on validation, which a kept recommender has seen: name one to fit")
        if self.federated is None:
            if self.privacy is not None or any(group.at for group in self.groups):
                raise ValueError("`privacy` and a group's `at` are for an audit of a federation")
            return self
        if self.system.kept is None:
            raise ValueError("a federation audits what is kept: set system.kept")
        if self.providers or self.probes is not None or self.federation is not None:
            raise ValueError("a federation's audit has no providers, probes or federation: they need rows")
        if "attention_fairness" in self.metrics:
            raise ValueError("attention_fairness of one person depends on all others' events; leave it out")
        for group in self.groups:
            if group.by in ("attribute", "language") and len(set(group.values)) < 2:
                raise ValueError(f"group {group.name}: name the `values` that all partners count, two at least")
            if group.small == "pool":
                raise ValueError(f"group {group.name}: cells are fixed before anybody is counted; merge, or withhold")
            if unknown := set(group.at) - set(self.data.sources):
                raise ValueError(f"group {group.name}: {sorted(unknown)[0]!r} is none of the sources")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric asked for, primary ones first."""
        return tuple(dict.fromkeys((*(question.metric for question in self.primary), *self.exploratory)))

    @classmethod
    def read(cls, path: Path) -> tuple[Self, str]:
        """Return a plan and the SHA-256 (hex) of its file's bytes (errors: :meth:`koinon.config.Config.from_toml`)."""
        plan = cls.from_toml(path)
        return plan, hashlib.sha256(path.read_bytes()).hexdigest()
