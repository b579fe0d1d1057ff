"""A federation within the study: every data set is a partner, rounds run in one process, sums are added in the open.

What crosses is what would cross: the tensors that a plan's task names. How a federation runs for real, between
machines, masked, is :mod:`koinon.server`'s and :mod:`koinon.clients`' matter and changes no figure here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from koinon.config import Config
from koinon.data import Domain
from koinon.recommenders.federated import catalogue_of, registry
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import FederatedRecommender
from koinon.space import Space

__all__ = ["Rounds", "apart", "federate"]


@dataclass(frozen=True)
class Rounds:
    """What came of a federation for one partner.

    Attributes
    ----------
    recommender
        The partner's, fitted on its own events and the last release.
    rounds
        How many there were.
    bytes_per_round
        What one partner sent in a round, on average.
    """

    recommender: FederatedRecommender
    rounds: int
    bytes_per_round: float


def apart(names: Sequence[str], own: str) -> list[str]:
    """Data sets that may be partners of ``own``: none that is cut from the same events, and one of each.

    ``books-en`` and ``books-en-us`` are cut from the same events, ``ml-1m`` and ``ml-1m-drama`` too, and a data set
    under two divisions: one partner's training would hold another's test.
    """
    chosen = [own]
    for name in names:
        if not any(_related(name, other) for other in chosen):
            chosen.append(name)
    return chosen


def federate(
    name: str,
    domains: Mapping[str, Domain],
    own: str,
    config: Config,
    space: Space | None,
    *,
    seed: int,
) -> Rounds:
    """Run all rounds of a learner and fit one partner's recommender.

    Parameters
    ----------
    name
        A learner of :data:`koinon.recommenders.federated.registry.LEARNERS`.
    domains
        By partner: what each learns from.
    own
        Whose recommender is wanted.
    config
        The learner's settings; all partners share them.
    space, seed
        As for every recommender.

    Raises
    ------
    RecommenderError
        As the plan's and the partners'.
    """
    settings: dict[str, Any] = config.model_dump(exclude_defaults=True, exclude_none=True)
    plan = registry.plan(name, settings)
    partners = {partner: registry.recommender(name, settings) for partner in domains}
    catalogues = [catalogue_of(partner, domain.items) for partner, domain in domains.items()]
    release = plan.initial(catalogues, space, rng=np.random.default_rng(seed))
    sent = 0
    for partner, learner in partners.items():
        learner.receive(release)
        if hasattr(learner, "attach"):  # learners that read texts while they contribute
            learner.attach(domains[partner], space)
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        sent += sum(int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in task.specs)
        answers = {
            partner: learner.contribute(domains[partner], release, task) for partner, learner in partners.items()
        }
        release = plan.aggregate(release, add_up(task.specs, answers))
        for learner in partners.values():
            learner.receive(release)
    mine = partners[own].fit(domains[own], space, rng=np.random.default_rng(seed))
    return Rounds(mine, plan.rounds, sent / max(plan.rounds, 1))


def _related(one: str, other: str) -> bool:
    first, second = (name.replace("book-crossing", "books") for name in (one, other))
    return first == second or first.startswith(f"{second}-") or second.startswith(f"{first}-")
