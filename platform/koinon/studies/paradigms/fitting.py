"""One arm fitted on one data set with one seed, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from koinon.config import Config
from koinon.data import Domain
from koinon.evaluation import evaluate
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.sequential import SequenceRecommender
from koinon.recommenders.store import Storable
from koinon.recommenders.training import build
from koinon.space import Space
from koinon.studies.paradigms import memory
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared, rows_of, sample_rows
from koinon.studies.paradigms.federation import federate
from koinon.studies.paradigms.settling import SETTLED, settle

__all__ = ["Fitted", "fit", "fit_federated", "learned_numbers", "refit"]


@dataclass(frozen=True)
class Fitted:
    """A recommender that knows everything before the test.

    Attributes
    ----------
    recommender
        Fitted on training and validation events.
    config
        With what was settled on validation: epochs, a weight.
    facts
        JSON-ready: ``validation`` (mean NDCG on validation) and ``validation_users``, ``fit_seconds`` and
        ``fit_wall_seconds`` of the last fit, ``search_seconds`` of what came before it (processor seconds), ``peak_mb``
        of the process in this time and ``begun_mb`` before, ``parameters``.
    """

    recommender: Recommender
    config: Config
    facts: dict[str, Any]


def fit(
    arm: Arm, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, *, seed: int, folder: Path
) -> Fitted:
    """Fit on training events, measure on validation, fit anew on all that is not test.

    A network stops early by validation and is trained again for as many epochs as were best; what an arm leaves open
    (a weight, a gate, routes) is settled there. ``folder`` keeps checkpoints.

    Raises
    ------
    RecommenderError, SpaceError
        As the recommender's.
    """
    assert arm.recommender is not None
    begun_mb, begun = memory.begin(), process_time()
    split = prepared.split
    model = build(arm.recommender, config)
    facts: dict[str, Any] = {"begun_mb": begun_mb}
    if isinstance(model, SequenceRecommender):
        model.fit(
            split.train,
            space,
            rng=np.random.default_rng(seed),
            validation=split.validation,
            checkpoint=folder / "checkpoint-early-stop",
        )
        assert model.training is not None
        facts |= {"validation": model.training.best, "epochs": model.training.best_epoch}
        facts["validation_users"] = int(split.validation.main.sum())
        config = config.model_copy(update={"epochs": max(1, model.training.best_epoch)})
    elif arm.recommender in SETTLED:
        model.fit(split.train, space, rng=np.random.default_rng(seed))
        config, chosen = settle(model, config, prepared, space, study, seed)
        facts |= chosen
    else:
        model.fit(split.train, space, rng=np.random.default_rng(seed))
        rows = sample_rows(split.validation, 3000, seed=0)
        asked = rows_of(split.validation, rows)
        facts["validation"] = evaluate(model, split.train, asked, k=study.k, slices=("all",)).mean()
        facts["validation_users"] = len(rows)
    facts["search_seconds"] = process_time() - begun
    begun, wall = process_time(), perf_counter()
    last = refit(arm, config, prepared.known, space, seed=seed, checkpoint=folder / "checkpoint-again")
    facts |= {"fit_seconds": process_time() - begun, "fit_wall_seconds": perf_counter() - wall}
    facts["peak_mb"] = memory.peak_mb()
    facts["parameters"] = learned_numbers(last)
    return Fitted(last, config, facts)


def fit_federated(
    arm: Arm, config: Config, partners: Mapping[str, Prepared], space: Space | None, study: StudyConfig, *, seed: int
) -> Fitted:
    """:func:`fit` for the first of the partners, who run the rounds together; seconds are those of all of them.

    Adds ``rounds`` and ``bytes_per_round`` of one partner to the facts.

    Raises
    ------
    RecommenderError, SpaceError
        As the learner's.
    """
    assert arm.recommender is not None
    begun_mb, begun = memory.begin(), process_time()
    own, prepared = next(iter(partners.items()))
    domains = {name: one.split.train for name, one in partners.items()}
    model = federate(arm.recommender, domains, own, config, space, seed=seed).recommender
    asked = rows_of(prepared.split.validation, sample_rows(prepared.split.validation, 3000, seed=0))
    value = evaluate(model, prepared.split.train, asked, k=study.k, slices=("all",)).mean()
    facts: dict[str, Any] = {"begun_mb": begun_mb, "validation": value, "validation_users": len(asked)}
    facts["search_seconds"] = process_time() - begun
    begun, wall = process_time(), perf_counter()
    known = {name: one.known for name, one in partners.items()}
    last = federate(arm.recommender, known, own, config, space, seed=seed)
    facts |= {"fit_seconds": process_time() - begun, "fit_wall_seconds": perf_counter() - wall}
    facts |= {"peak_mb": memory.peak_mb(), "parameters": learned_numbers(last.recommender)}
    facts |= {"rounds": last.rounds, "bytes_per_round": last.bytes_per_round}
    return Fitted(last.recommender, config, facts)


def refit(
    arm: Arm, config: Config, domain: Domain, space: Space | None, *, seed: int, checkpoint: Path | None = None
) -> Recommender:
    """Fit once, with settled settings."""
    assert arm.recommender is not None
    model = build(arm.recommender, config)
    if isinstance(model, SequenceRecommender):
        return model.fit(domain, space, rng=np.random.default_rng(seed), checkpoint=checkpoint)
    return model.fit(domain, space, rng=np.random.default_rng(seed))


def learned_numbers(model: Recommender) -> int | None:
    """How many numbers with a fraction a recommender keeps; a language model's own are not among them."""
    if not isinstance(model, Storable):
        return None
    kept = model.state().values()
    return sum(array.size for array in kept if np.issubdtype(array.dtype, np.floating))
