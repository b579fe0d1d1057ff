"""What some arms leave open until validation: the weight of a language model's word, a gate, routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from koinon.config import Config
from koinon.evaluation import evaluate
from koinon.recommenders.fusion.controller import Controller, tune_routes
from koinon.recommenders.fusion.pseudo import PseudoFeedback
from koinon.recommenders.fusion.pseudo_tuning import tune_pseudo
from koinon.recommenders.fusion.scoring import Gated, tune_gate
from koinon.recommenders.llm_as_rs.reranking import Reranker
from koinon.recommenders.llm_as_rs.weighing import tune_weight
from koinon.recommenders.protocol import Recommender
from koinon.space import Space
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared

__all__ = ["SETTLED", "settle"]

Settled = tuple[Config, dict[str, Any]]
ROWS = 2000


def settle(
    model: Recommender, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, seed: int
) -> Settled:
    """Choose on validation what a model fitted on training events leaves open.

    Returns the settings, and facts: ``validation`` (mean NDCG), ``validation_users``, and what was chosen.

    Raises
    ------
    RecommenderError
        As the model's.
    """
    return SETTLED[type(model).name](model, config, prepared, space, study, seed)


def _weight(
    model: Any, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, seed: int
) -> Settled:
    assert isinstance(model, Reranker)
    if "weight" in config.model_fields_set:  # the arm states it
        return config, {"validation": None, "validation_users": 0}
    rng = np.random.default_rng(seed)
    tuned = tune_weight(model, prepared.split, metric=f"ndcg@{study.k}", rng=rng, rows=study.validation_users)
    facts = {"weight": tuned.weight, "validation": tuned.means[tuned.weight], "validation_users": tuned.users}
    return config.model_copy(update={"weight": tuned.weight}), facts


def _gate(
    model: Any, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, seed: int
) -> Settled:
    assert isinstance(model, Gated)
    tuned = tune_gate(model, prepared.split, metric=f"ndcg@{study.k}", rng=np.random.default_rng(seed), rows=ROWS)
    facts = {"weight": tuned.gate.weight, "validation": tuned.means[tuned.gate], "validation_users": tuned.users}
    return config.model_copy(update={"gate": tuned.gate}), facts


def _routes(
    model: Any, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, seed: int
) -> Settled:
    assert isinstance(model, Controller)
    tuned = tune_routes(model, prepared.split, metric=f"ndcg@{study.k}", rng=np.random.default_rng(seed), rows=ROWS)
    routed = model.with_choices(tuned.choices)
    found = evaluate(routed, prepared.split.train, prepared.split.validation, k=study.k, slices=("all",))
    facts = {"validation": found.mean(), "validation_users": found.per_user.height}
    return config.model_copy(update={"choices": dict(tuned.choices)}), facts


def _pseudo(
    model: Any, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, seed: int
) -> Settled:
    assert isinstance(model, PseudoFeedback)
    tuned = tune_pseudo(model, prepared.split, space, seed=seed, k=study.k)
    facts = {"weight": tuned.value, "validation": tuned.all[tuned.value]}
    facts["validation_users"] = int(prepared.split.validation.main.sum())
    return config.model_copy(update={"weight": tuned.value}), facts


SETTLED: Mapping[str, Callable[..., Settled]] = {
    "prompted": _weight,
    "tuned": _weight,
    "gated": _gate,
    "controller": _routes,
    "pseudo": _pseudo,
}
"""By recommender."""
