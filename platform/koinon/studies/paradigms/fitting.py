"""One arm fitted on one data set with one seed, and what that cost."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil

from koinon.config import Config
from koinon.data import Domain
from koinon.evaluation import evaluate
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.sequential import SequenceRecommender
from koinon.recommenders.store import Storable
from koinon.recommenders.training import build
from koinon.space import Space
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared, rows_of, sample_rows

__all__ = ["Fitted", "fit", "learned_numbers", "refit"]


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
        of the whole process and ``begun_mb`` before, ``parameters``.
    """

    recommender: Recommender
    config: Config
    facts: dict[str, Any]


def fit(
    arm: Arm, config: Config, prepared: Prepared, space: Space | None, study: StudyConfig, *, seed: int, folder: Path
) -> Fitted:
    """Fit on training events, measure on validation, fit anew on all that is not test.

    A network stops early by validation and is trained again for as many epochs as were best; an arm that weighs a
    language model's word chooses the weight on a sample of validation users. ``folder`` keeps checkpoints.

    Raises
    ------
    RecommenderError, SpaceError
        As the recommender's.
    """
    assert arm.recommender is not None
    begun_mb, begun = psutil.Process().memory_info().rss / 1e6, process_time()
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
    elif arm.sampled:
        model.fit(split.train, space, rng=np.random.default_rng(seed))
        config = _weighed(model, config, prepared, study, seed, facts)
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
    facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # kilobytes on Linux
    facts["parameters"] = learned_numbers(last)
    return Fitted(last, config, facts)


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


def _weighed(
    model: Recommender, config: Config, prepared: Prepared, study: StudyConfig, seed: int, facts: dict[str, Any]
) -> Config:
    """Choose the weight of a language model's word, where the arm leaves it open."""
    from koinon.recommenders.llm_as_rs.prompted import PromptedRanker, tune_weight

    if not isinstance(model, PromptedRanker) or "weight" in config.model_fields_set:
        return config
    tuned = tune_weight(model, prepared.split, rng=np.random.default_rng(seed), rows=study.validation_users)
    facts |= {"weight": tuned.weight, "validation": tuned.means[tuned.weight], "validation_users": tuned.users}
    return config.model_copy(update={"weight": tuned.weight})
