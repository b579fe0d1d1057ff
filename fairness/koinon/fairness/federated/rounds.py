"""The audit as a round of a federation: the server's half."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from koinon.config import Config
from koinon.errors import EvaluationError, PrivacyError
from koinon.fairness.federated.layout import FIGURES, GAINS, PEOPLE, Layout
from koinon.fairness.plan import AuditPlan
from koinon.privacy.budget import PrivacyConfig, mass_of
from koinon.recommenders.protocol import Catalogue, Measure, Release, Task, Total
from koinon.space import Space

__all__ = ["QUESTION", "AuditQuestion", "AuditRounds"]

QUESTION = "federated_audit"
"""Its name in a federation's policy."""

_SHARES: Mapping[str, float] = {PEOPLE: 0.4, FIGURES: 0.6}
"""Of the audit's budget: what makes means of cells most exact where they lie near .2 of the span, as NDCG does. With
``m`` their distance from its middle the noise in a mean is least at ``m`` to 1/2."""
_GAINS = 0.2


class AuditQuestion(Config):
    """What the policy says of an audit, and every partner accepts with it."""

    plan: str
    """Content of ``plan.toml``."""
    plan_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of it, as it was entered before anybody was asked."""

    @model_validator(mode="after")
    def _one_plan(self) -> Self:
        if hashlib.sha256(self.plan.encode()).hexdigest() != self.plan_sha256:
            raise EvaluationError(
                "K550",
                "The plan that partners are asked by is not the one whose hash was entered.",
                "Restore the plan, or plan another audit.",
            )
        return self

    @cached_property
    def audit(self) -> AuditPlan:
        """The plan, read."""
        return AuditPlan.from_dict(tomllib.loads(self.plan), source="the audit's plan")


class AuditRounds:
    """Asks every partner once for the sums of its people by cell, and hands their total on.

    Parameters
    ----------
    config
        The plan.
    """

    name: ClassVar[str] = QUESTION
    config_type: ClassVar[type[AuditQuestion]] = AuditQuestion
    measures: ClassVar[Mapping[str, Measure]] = {
        PEOPLE: Measure(least=0.0, most=1.0),
        FIGURES: Measure(least=-0.5, most=0.5),
        GAINS: Measure(least=0.0, most=1.0),
    }
    rounds = 1

    def __init__(self, config: AuditQuestion) -> None:
        self.config = config
        self.layout = Layout(config.audit)

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Nothing is known before; no argument is used."""
        return Release(0, self.name, {}, {"plan_sha256": self.config.plan_sha256})

    def shares(self) -> tuple[Mapping[str, float], ...]:
        """Divide the audit's budget among its sums."""
        if not self.layout.gains:
            return (_SHARES,)
        return ({name: share * (1 - _GAINS) for name, share in _SHARES.items()} | {GAINS: _GAINS},)

    def part(self, privacy: PrivacyConfig) -> float:
        """Share of the federation's budget: what the plan's ε needs, or all that is kept for audits.

        Raises
        ------
        PrivacyError
            K676 the plan wants more than is kept for audits.
        """
        kind = "gaussian" if privacy.mechanism == "local" else "zcdp"
        planned = self.layout.plan.privacy
        part = privacy.audits
        if planned is not None:
            whole = mass_of(privacy.epsilon, privacy.delta, kind)
            part = mass_of(planned.epsilon, privacy.delta, kind) / whole
        if not 0 < part <= privacy.audits * (1 + 1e-9):
            raise PrivacyError(
                "K676",
                f"The audit would take {part:.0%} of the federation's budget; {privacy.audits:.0%} are for audits.",
                "Lower the plan's epsilon, or keep more (`privacy.audits`) with all members' consent.",
            )
        return part

    def task(self, release: Release, round_: int) -> Task:
        """Ask for the sums."""
        return Task(round_, self.layout.specs())

    def aggregate(self, release: Release, total: Total) -> Release:
        """Hand the total on, with the noise in it."""
        noise = {f"noise/{name}": deviation for name, deviation in total.noise.items()}
        return Release(release.number + 1, self.name, dict(total.arrays), {**release.info, **noise})
