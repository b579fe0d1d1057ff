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
from koinon.recommenders.serial.notellm import NoteLLM
from koinon.recommenders.store import Storable
from koinon.recommenders.training import build
from koinon.space import Space
from koinon.studies.paradigms import memory
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared, rows_of, sample_rows
from koinon.studies.paradigms.federation import join, run_rounds
from koinon.studies.paradigms.settling import SETTLED, settle

__all__ = ["SETTLED_AT_HOME", "Fitted", "fit", "fit_federated", "learned_numbers", "refit"]

SETTLED_AT_HOME = ("federated_hstu", "federated_lora")
"""Learners of which every partner chooses on its validation set how far it heeds what was learned together."""


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
        model = refit(arm, config, split.train, space, seed=seed, folder=folder)
        rows = sample_rows(split.validation, 3000, seed=0)
        asked = rows_of(split.validation, rows)
        facts["validation"] = evaluate(model, split.train, asked, k=study.k, slices=("all",)).mean()
        facts["validation_users"] = len(rows)
    facts["search_seconds"] = process_time() - begun + _spent(model)
    begun, wall = process_time(), perf_counter()
    last = refit(arm, config, prepared.known, space, seed=seed, folder=folder, checkpoint="checkpoint-again")
    facts |= {"fit_seconds": process_time() - begun + _spent(last)}
    facts |= {"fit_wall_seconds": perf_counter() - wall + _spent(last)}
    facts["peak_mb"] = memory.peak_mb()
    facts["parameters"] = learned_numbers(last)
    return Fitted(last, config, facts)


def fit_federated(
    arm: Arm,
    config: Config,
    partners: Mapping[str, Prepared],
    own: str,
    space: Space | None,
    study: StudyConfig,
    *,
    seed: int,
    folder: Path,
) -> Fitted:
    """:func:`fit` for one of the partners, who run the rounds together; seconds are those of all of them.

    ``arm.settings`` are the federation's, ``config`` also holds the partner's own. ``folder`` keeps the rounds, for all
    partners. What a learner of :data:`SETTLED_AT_HOME` leaves open is settled on the partner's validation set. Adds
    ``rounds`` and ``bytes_per_round`` of one partner to the facts.

    Raises
    ------
    RecommenderError, SpaceError
        As the learner's.
    """
    assert arm.recommender is not None
    name, split = arm.recommender, partners[own].split
    begun_mb = memory.begin()
    domains = {partner: one.split.train for partner, one in partners.items()}
    rounds = run_rounds(name, domains, arm.settings, space, seed=seed, file=folder / "train.safetensors")
    begun = process_time()
    model = join(name, rounds, own, split.train, _settings(config), space)
    if name in SETTLED_AT_HOME:
        settling: Any = model
        start = getattr(config, "own", None)
        settling.tune(split, space, rng=np.random.default_rng(seed), start=start)
        config = settling.config
    model.fit(split.train, space, rng=np.random.default_rng(seed))
    asked = rows_of(split.validation, sample_rows(split.validation, 3000, seed=0))
    value = evaluate(model, split.train, asked, k=study.k, slices=("all",)).mean()
    facts: dict[str, Any] = {"begun_mb": begun_mb, "validation": value, "validation_users": len(asked)}
    facts["search_seconds"] = rounds.seconds + process_time() - begun
    known = {partner: one.known for partner, one in partners.items()}
    rounds = run_rounds(name, known, arm.settings, space, seed=seed, file=folder / "known.safetensors")
    begun, wall = process_time(), perf_counter()
    last = join(name, rounds, own, known[own], _settings(config), space)
    last.fit(known[own], space, rng=np.random.default_rng(seed))
    facts |= {"fit_seconds": rounds.seconds + process_time() - begun}
    facts |= {"fit_wall_seconds": rounds.seconds + perf_counter() - wall}
    facts |= {"peak_mb": memory.peak_mb(), "parameters": learned_numbers(last)}
    facts |= {"rounds": rounds.number, "bytes_per_round": rounds.bytes_per_round}
    return Fitted(last, config, facts)


def _settings(config: Config) -> dict[str, Any]:
    return config.model_dump(exclude_defaults=True, exclude_none=True)


def refit(
    arm: Arm,
    config: Config,
    domain: Domain,
    space: Space | None,
    *,
    seed: int,
    folder: Path,
    checkpoint: str | None = None,
) -> Recommender:
    """Fit once, with settled settings.

    ``folder`` is the job's: a network has its checkpoint there, and maps that arms of one data set have in common stand
    beside the arms.
    """
    assert arm.recommender is not None
    model = build(arm.recommender, config)
    rng = np.random.default_rng(seed)
    if isinstance(model, SequenceRecommender):
        return model.fit(domain, space, rng=rng, checkpoint=folder / checkpoint if checkpoint else None)
    if isinstance(model, NoteLLM):
        return model.fit(domain, space, rng=rng, maps=folder.parent.parent / "maps")
    return model.fit(domain, space, rng=rng)


def _spent(model: Recommender) -> float:
    """Processor seconds that an earlier arm spent on what this one took from it."""
    return model.spent if isinstance(model, NoteLLM) else 0.0


def learned_numbers(model: Recommender) -> int | None:
    """How many numbers with a fraction a recommender keeps; a language model's own are not among them."""
    if not isinstance(model, Storable):
        return None
    kept = model.state().values()
    return sum(array.size for array in kept if np.issubdtype(array.dtype, np.floating))
