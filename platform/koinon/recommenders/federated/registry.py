"""Federated learners by name: the server asks for the plan, a partner for the recommender.

A name maps to two classes of one module, imported when they are first asked for. Both are built from the same plain
settings, the ones that stand in the federation's policy, by way of their ``config_type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from koinon.errors import RecommenderError
from koinon.recommenders.protocol import FederatedRecommender, FederationPlan

if TYPE_CHECKING:
    from koinon.privacy.budget import PrivacyConfig

__all__ = ["LEARNERS", "QUESTIONS", "Entry", "Question", "Stateful", "plan", "recommender", "restore", "state"]

Settings = Mapping[str, bool | int | float | str]


@dataclass(frozen=True)
class Entry:
    """Where a learner's two halves live."""

    module: str
    plan: str
    recommender: str


LEARNERS: dict[str, Entry] = {
    "federated_popularity": Entry("koinon.recommenders.federated.popularity", "PopularityPlan", "FederatedPopularity"),
    "federated_gram": Entry("koinon.recommenders.federated.gram", "GramPlan", "FederatedGram"),
    "federated_adapters": Entry("koinon.recommenders.federated.adapters", "AdaptersPlan", "FederatedAdapters"),
    "federated_hstu": Entry("koinon.recommenders.federated.hstu", "HSTUPlan", "FederatedHSTU"),
    "federated_lora": Entry("koinon.recommenders.federated.lora", "LoraPlan", "FederatedLora"),
    "federated_codebook": Entry("koinon.recommenders.federated.codebook", "CodebookPlan", "FederatedCodebook"),
}
"""Every learner a federation can name."""

QUESTIONS: dict[str, Entry] = {
    "federated_audit": Entry("koinon.fairness.federated", "AuditRounds", "AuditedPartner"),
}
"""What else partners may be asked for in rounds: nothing is learned, so nobody is given a release to adopt."""


@runtime_checkable
class Question(Protocol):
    """The plan of a question: its part of a budget is not a learner's."""

    def part(self, privacy: PrivacyConfig) -> float:
        """Share of the whole budget that it takes, of what is kept for audits.

        Raises
        ------
        PrivacyError
            K676 it wants more.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A plan that keeps something between rounds beside the release (the state of an optimiser, say).

    What it gives is written to the server's disk after every round and handed back after a restart. Partners get the
    release alone.
    """

    def state(self) -> Mapping[str, NDArray[np.generic]]:
        """Return what must survive, as named arrays."""
        ...

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take it back."""
        ...


def plan(name: str, settings: Settings) -> FederationPlan:
    """Build the server's half of a learner.

    Raises
    ------
    RecommenderError
        K440 no such learner, K441 a setting it does not take or a value it refuses.
    """
    made: FederationPlan = _build(name, "plan", settings, {})
    return made


def recommender(name: str, settings: Settings, **private: object) -> FederatedRecommender:
    """Build a partner's half of a learner.

    ``private`` is what only the partner knows, e.g. ``match_key``; a learner that takes no such argument does without.

    Raises
    ------
    RecommenderError
        K440, K441 as :func:`plan`.
    """
    made: FederatedRecommender = _build(name, "recommender", settings, private)
    return made


def state(made: FederationPlan) -> Mapping[str, NDArray[np.generic]]:
    """Return what a plan keeps between rounds; nothing for one that keeps nothing."""
    return made.state() if isinstance(made, Stateful) else {}


def restore(made: FederationPlan, kept: Mapping[str, NDArray[np.generic]]) -> None:
    """Hand back what :func:`state` gave."""
    if kept and isinstance(made, Stateful):
        made.restore(kept)


def _build(name: str, half: str, settings: Settings, private: Mapping[str, object]) -> Any:
    entry = LEARNERS.get(name) or QUESTIONS.get(name)
    if entry is None:
        raise RecommenderError(
            "K440", f"There is no federated learner called {name}.", f"Choose one of {', '.join(LEARNERS)}."
        )
    made = getattr(import_module(entry.module), getattr(entry, half))
    taken = {key: value for key, value in private.items() if key in signature(made).parameters}
    try:
        return made(made.config_type(**settings), **taken)
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise RecommenderError(
            "K441", f"{name} cannot be set up as the federation says: {said}", "Correct its settings."
        ) from error
