"""A partner's half of an audit: it asks its own model for its own people, and tells sums alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data import Domain, Split, Tables
from koinon.errors import EvaluationError
from koinon.fairness.cells import activity, merged
from koinon.fairness.federated.layout import GAINS, Layout, gains_of
from koinon.fairness.federated.rounds import QUESTION, AuditQuestion
from koinon.fairness.lists import Given, look
from koinon.fairness.plan import GroupPlan
from koinon.fairness.subject import Source, attribute_table, open_tables
from koinon.recommenders.protocol import Contribution, Recommender, Release, Task
from koinon.recommenders.store import load
from koinon.space import Space

__all__ = ["DEPLOYED", "LOCAL", "AuditedPartner"]

DEPLOYED, LOCAL = "deployed", "local"
"""What a partner serves with, whatever arm that is; and its own model, without texts and without the others."""

_GAIN = "ndcg"


class Home(Protocol):
    """Where a partner lives."""

    @property
    def folder(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def models(self) -> Path: ...


class Partner(Protocol):
    """A partner's data under the federation's policy."""

    @property
    def home(self) -> Home: ...
    @property
    def split(self) -> Split: ...
    @property
    def space(self) -> Space | None: ...


class AuditedPartner:
    """Answers an audit.

    Parameters
    ----------
    config
        The plan, as it stands in the policy that the partner has accepted.
    partner
        Its data.
    """

    name: ClassVar[str] = QUESTION
    config_type: ClassVar[type[AuditQuestion]] = AuditQuestion

    def __init__(self, config: AuditQuestion, *, partner: Partner) -> None:
        self.plan = config.audit
        self.layout = Layout(self.plan)
        self.partner = partner

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Measure every test person's list and add them up by cell; ``domain`` is not used.

        Raises
        ------
        EvaluationError
            K512 an attribute is not declared here, K525 it is sensitive and nobody has said that it may be used, K526
            what is deployed is not of the release that the plan names, K530 the data lack what a metric needs, K535
            nobody can be asked about, K551 the plan does not name this partner.
        RecommenderError
            K410, K412 the model cannot be read, or the vault has changed since it was fitted.
        """
        if self.partner.home.name not in self.plan.data.sources:
            raise EvaluationError("K551", f"The plan does not name {self.partner.home.name}.", "Plan the audit anew.")
        given = self._look(self._deployed(), self.plan.metrics)
        values = given.people.select(pl.col(list(self.plan.metrics)).cast(pl.Float64).fill_null(np.nan)).to_numpy()
        arrays = self.layout.sums(values, {group.name: self._values(group, given) for group in self.plan.groups})
        if self.layout.gains:
            arrays[GAINS] = np.zeros((len(self.plan.data.sources), 5))
            row = self.plan.data.sources.index(self.partner.home.name)
            arrays[GAINS][row] = self._gain(given)
        return Contribution(arrays, n_users=given.people.height)

    def _look(self, recommender: Recommender, metrics: tuple[str, ...]) -> Given:
        plan, split = self.plan, self.partner.split
        source = Source(self.partner.home.name, self._tables, split, split.train, recommender)
        return look(
            source,
            metrics,
            k=plan.k,
            patience=plan.patience,
            like_from=plan.data.like_from,
            seed=plan.seed,
            window=plan.data.window,
        )

    @cached_property
    def _tables(self) -> Tables:
        mine = [g for g in self.plan.groups if g.by == "attribute" and self._asked(g)]
        attributes = tuple(dict.fromkeys(group.column or group.name for group in mine))
        return open_tables(str(self.partner.home.folder.resolve()), Path(), attributes, self.plan.data.basis)

    def _asked(self, group: GroupPlan) -> bool:
        return not group.at or self.partner.home.name in group.at

    def _deployed(self) -> Recommender:
        """The model that is audited, if it is of the release that was planned."""
        arm = str(self.plan.system.kept)
        folder, manifest = arm, ""
        try:
            if arm == DEPLOYED:
                said = json.loads((self.partner.home.models / "deployed.json").read_text(encoding="utf-8"))
                arm, folder, manifest = said["arm"], said.get("folder", said["arm"]), said.get("release", "")
            else:
                note = json.loads((self.partner.home.models / arm / "arm.json").read_text(encoding="utf-8"))
                manifest = note["made_of"].get("manifest", "")
        except (OSError, ValueError, KeyError) as error:
            raise EvaluationError("K526", f"No {arm} model is kept here.", "Run the federation first.") from error
        if manifest != self.plan.system.release.get(arm, ""):
            raise EvaluationError(
                "K526",
                f"The {arm} model here is not of the release that the plan names.",
                "Audit the release that is deployed, or adopt the one that is planned.",
            )
        return load(self.partner.home.models / folder, self.partner.split.train, self.partner.space)

    def _gain(self, given: Given) -> NDArray[np.float64]:
        """NDCG of the same people under the deployed model and the partner's own."""
        deployed = given if _GAIN in self.plan.metrics else self._look(self._deployed(), (_GAIN,))
        own = load(self.partner.home.models / LOCAL, self.partner.split.train, self.partner.space)
        local = self._look(own, (_GAIN,))
        return gains_of(deployed.people[_GAIN].to_numpy(), local.people[_GAIN].to_numpy())

    def _values(self, group: GroupPlan, given: Given) -> Sequence[str | None]:
        """The group of each person asked about, or ``None``."""
        people = given.people
        if not self._asked(group):
            return [None] * people.height
        if group.by == "partner":
            return [self.partner.home.name] * people.height
        if group.by == "activity":
            return activity(people["activity"].to_numpy(), group.bands).to_list()
        if group.by == "language":
            return people["language"].to_list()
        table = attribute_table(given.source, {group.name: group.column or group.name})
        column = people.select("user_id").join(table, on="user_id", how="left", maintain_order="left")[group.name]
        return merged(column, group).to_list()
