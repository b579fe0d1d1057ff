"""Which pipeline suits which requests, found on validation and guarded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.stats import norm

from koinon.data import Split
from koinon.errors import RecommenderError
from koinon.recommenders.fusion.controller._config import SEGMENTS, Segment
from koinon.recommenders.fusion.controller.controller import Controller
from koinon.recommenders.fusion.controller.routing import order_of, shape_of
from koinon.recommenders.tuning import Validator

__all__ = ["TunedRoutes", "tune_routes"]

LEAST = 30
"""People of a shape below which nothing is learned of it."""


@dataclass(frozen=True)
class TunedRoutes:
    """What validation says.

    Attributes
    ----------
    choices
        The pipeline preferred for a shape, where it beats what the rule says by ``caution`` standard errors.
    caution
        Standard errors of the paired gain that it must win by.
    table
        ``segment, users, pipeline, mean, rule, gain, error, chosen``: ``gain`` over the rule's pipeline.
    """

    choices: Mapping[Segment, str]
    caution: float
    table: pl.DataFrame


def tune_routes(
    controller: Controller,
    split: Split,
    *,
    metric: str = "ndcg@10",
    rng: np.random.Generator,
    rows: int = 2000,
    level: float = 0.05,
) -> TunedRoutes:
    """Ask every pipeline that is quick enough for everybody on validation, and choose by shape.

    The best of a shape must beat the rule's pipeline at ``level``, one-sided, divided by all that was compared in all
    shapes (Bonferroni). Wishes in words are not in a validation set: their rule stays.

    Parameters
    ----------
    controller, split
        Fitted on the split's training events; validation is asked, the test set is not.
    metric, rows, rng
        What is maximised over how many validation people, drawn where there are more; people with few events are among
        them.
    level
        Chance of a choice that differs from the rules where no pipeline is better.

    Raises
    ------
    RecommenderError
        K406 unknown metric, K407 nobody to validate on, K494 no pipeline is quick enough.
    """
    everybody = replace(split.validation, main=np.ones(len(split.validation), dtype=np.bool_))
    validator = Validator(split.train, everybody, metric, rng, rows)
    config = controller.config
    shapes = np.array([shape_of(request, controller.counts, config)[0] for request in validator.requests])
    quick = [
        name for name in controller.recommenders if controller.profile.of(name, "plain").p95_ms <= config.budget_ms
    ]
    if not quick:
        raise RecommenderError(
            "K494",
            f"No pipeline answers within {config.budget_ms:g} ms.",
            "Raise budget_ms, or add a quicker pipeline.",
        )
    values = {
        name: validator.values(np.array(controller.recommenders[name].score(validator.requests), dtype=np.float32))
        for name in quick
    }
    asked = [segment for segment in SEGMENTS if (shapes == segment).sum() >= LEAST]
    compared = max(1, len(asked) * (len(quick) - 1))
    caution = float(norm.ppf(1 - level / compared))
    found, choices = [], {}
    for segment in asked:
        own = shapes == segment
        rule = next(name for name in order_of(segment, config) if name in quick)
        gains = {name: values[name][own] - values[rule][own] for name in quick}
        best = max(quick, key=lambda name: float(gains[name].mean()))
        errors = {name: float(each.std() / np.sqrt(len(each))) for name, each in gains.items()}
        if best != rule and gains[best].mean() > caution * errors[best]:
            choices[segment] = best
        found += [
            {
                "segment": segment,
                "users": int(own.sum()),
                "pipeline": name,
                "mean": float(values[name][own].mean()),
                "rule": rule,
                "gain": float(gains[name].mean()),
                "error": errors[name],
                "chosen": choices.get(segment, rule) == name,
            }
            for name in quick
        ]
    return TunedRoutes(choices, caution, pl.DataFrame(found))
