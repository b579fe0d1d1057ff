"""The part of an audit plan that says what is probed; without verdicts, as a changed list alone is not yet harm."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.fairness.probes.terms import TESTS
from koinon.fairness.probes.wording import ATTRIBUTES, NEUTRAL, SENTENCE, Language

__all__ = ["AssociationPlan", "ProbePlan", "ProbesPlan"]


class ProbePlan(Config):
    """One attribute that is stated, value by value, in the person's own words."""

    attribute: str = Field(min_length=1)
    """``gender``, ``age``, ``country``, or another with ``values`` of its own. Where a group of the plan has this name,
    people's declared values are compared with the stated ones."""
    values: dict[str, dict[Language, str]] = Field(default_factory=dict)
    """Value to language to words, e.g. ``teacher = { en = "a teacher" }``; default: the attribute's own."""
    languages: tuple[Language, ...] = ("en",)
    people: int = Field(default=200, ge=20)
    """Asked in each source, drawn by the plan's seed; each once for every value and once without."""

    @model_validator(mode="after")
    def _can_be_said(self) -> Self:
        if len(self.stated) < 2:
            known = ", ".join(ATTRIBUTES)
            raise ValueError(f"probe {self.attribute}: give two `values` at least, or use one of {known}")
        if not self.languages:
            raise ValueError(f"probe {self.attribute}: name a language")
        for value, words in self.stated.items():
            if missing := [language for language in self.languages if language not in words]:
                raise ValueError(f"probe {self.attribute}: {value!r} has no words in {missing[0]}")
        return self

    @property
    def stated(self) -> dict[str, dict[Language, str]]:
        """Value to language to words."""
        known: dict[str, dict[Language, str]] = ATTRIBUTES.get(self.attribute, {})  # type: ignore[assignment]
        return self.values or known

    def sentence(self, language: Language, value: str | None) -> str:
        """What the person says; without a value, the neutral sentence."""
        who = NEUTRAL[language] if value is None else self.stated[value][language]
        return SENTENCE[language].format(who=who)


class AssociationPlan(Config):
    """Which associations of the space are tested, in which languages."""

    encoder: str | None = None
    """The space's encoder; default: ``system.encoder``."""
    languages: tuple[Language, ...] = ("en",)
    tests: tuple[str, ...] = tuple(TESTS)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := [name for name in self.tests if name not in TESTS]:
            raise ValueError(f"there is no association test {unknown[0]!r}; choose from {', '.join(TESTS)}")
        return self


class ProbesPlan(Config):
    """``[probes]`` of an audit plan."""

    counterfactual: tuple[ProbePlan, ...] = ()
    association: AssociationPlan | None = None

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [one.attribute for one in self.counterfactual]
        if len(set(names)) != len(names):
            raise ValueError("probes: an attribute is probed twice")
        return self
