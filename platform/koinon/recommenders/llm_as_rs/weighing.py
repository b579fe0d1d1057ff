"""How much a language model's word is worth beside the base's score, found on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from koinon.data import Split
from koinon.recommenders._search import Validator
from koinon.recommenders.llm_as_rs.reranking import Parts, Reranker, blend

__all__ = ["WEIGHTS", "TunedWeight", "choose_weight", "tune_weight"]

WEIGHTS: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
CAUTION = 2.39
"""The best of six weights must win at 5 %, one-sided, divided among the six."""


@dataclass(frozen=True)
class TunedWeight:
    """What validation says.

    Attributes
    ----------
    weight
        The best; 0 where none beats the base by ``caution`` standard errors of the paired gain.
    means
        Weight to mean metric.
    users
        How many were asked.
    """

    weight: float
    means: Mapping[float, float]
    users: int


def tune_weight(
    ranker: Reranker,
    split: Split,
    *,
    metric: str = "ndcg@10",
    rng: np.random.Generator,
    rows: int = 200,
    weights: Sequence[float] = WEIGHTS,
    caution: float = CAUTION,
) -> TunedWeight:
    """Choose the weight of a ranker fitted on ``split.train``.

    The model is asked once for each candidate of every user whose value can hang on it: those with a validation event
    among the candidates (:meth:`Reranker.parts_that_matter`).

    Parameters
    ----------
    ranker, split
        Fitted on the split's training events; validation is asked, the test set is not.
    metric, rows, rng
        What is maximised over how many validation users, drawn where there are more.
    weights
        Those tried; 0, the base alone, is always among them.
    caution
        Standard errors of its paired gain over the base that a weight must win by.

    Raises
    ------
    RecommenderError
        K406 unknown metric, K407 nobody to validate on; those of :meth:`Reranker.score`.
    """
    validator = Validator(split.train, split.validation, metric, rng, rows)
    base = ranker.base.score(validator.requests)
    targets = [validator.target_item[validator.target_row == row] for row in range(len(base))]
    asked = zip(validator.requests, base, targets, strict=True)
    parts = [ranker.parts_that_matter(*row) for row in asked]
    return choose_weight(validator, base, parts, weights=weights, caution=caution)


def choose_weight(
    validator: Validator,
    base: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    parts: Sequence[Parts],
    *,
    weights: Sequence[float] = WEIGHTS,
    caution: float = CAUTION,
) -> TunedWeight:
    """:func:`tune_weight` from what was asked before."""
    found = {}
    for weight in dict.fromkeys((0.0, *weights)):
        scores = base.copy()
        if weight:
            for row, part in zip(scores, parts, strict=True):
                blend(row, part, weight)
        found[weight] = validator.values(scores)
    best = max(found, key=lambda weight: float(found[weight].mean()))
    gain = found[best] - found[0.0]
    if gain.mean() <= caution * gain.std() / np.sqrt(len(gain)):
        best = 0.0
    return TunedWeight(best, {weight: float(values.mean()) for weight, values in found.items()}, len(parts))
