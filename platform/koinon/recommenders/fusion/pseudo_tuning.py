"""How much a pseudo-event is worth beside an event, found on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from koinon.data import Split
from koinon.evaluation import Evaluation, evaluate
from koinon.recommenders.fusion.pseudo import PseudoFeedback
from koinon.recommenders.protocol import Recommender
from koinon.space import Space

__all__ = ["WEIGHTS", "TunedPseudo", "choose", "tune_pseudo"]

WEIGHTS: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True)
class TunedPseudo:
    """What validation says.

    Attributes
    ----------
    value
        The best for one list of everything: most cold items found at a bearable cost; 0 where none is better.
    shelf
        The best for a shelf of cold items alone.
    cold, among, all
        Value to mean NDCG@k over held-out cold items, the whole catalogue ranked and cold items alone, and over all
        held-out items.
    """

    value: float
    shelf: float
    cold: Mapping[float, float]
    among: Mapping[float, float]
    all: Mapping[float, float]


def tune_pseudo(
    fitted: PseudoFeedback,
    split: Split,
    space: Space | None,
    *,
    seed: int = 0,
    weights: Sequence[float] = WEIGHTS,
    cost: float = 0.05,
    k: int = 10,
) -> TunedPseudo:
    """Choose the weight of a recommender fitted on ``split.train``; the language model is not asked again.

    Parameters
    ----------
    fitted, split, space
        What it was fitted on; validation is asked, the test set is not.
    seed
        Of a base that draws.
    weights, cost, k
        As :func:`choose`.
    """

    def build(weight: float) -> Recommender:
        return fitted.with_weight(weight).fit(split.train, space, rng=np.random.default_rng(seed))

    return choose(build, split, weights, cost=cost, k=k)


def choose(
    build: Callable[[float], Recommender], split: Split, values: Sequence[float], *, cost: float = 0.05, k: int = 10
) -> TunedPseudo:
    """Choose a setting by NDCG@k over cold validation items.

    Parameters
    ----------
    build
        A value's recommender, fitted on ``split.train``.
    split
        Its validation is asked, the test set is not.
    values
        Those tried; 0 always is.
    cost
        The share of NDCG@k over all validation items that a value may cost against 0, to be chosen for the whole
        catalogue.
    k
        Ranks that count.
    """
    parts = {"cold_items": dict[float, float](), "cold_among_cold": dict[float, float](), "all": dict[float, float]()}
    for value in dict.fromkeys((0.0, *values)):
        found: Evaluation = evaluate(build(value), split.train, split.validation, k=k, slices=tuple(parts))
        for part, means in parts.items():
            means[value] = float(np.nan_to_num(found.mean(slice_=part)))
    cold, among, whole = parts.values()
    bearable = [value for value in whole if whole[value] >= (1 - cost) * whole[0.0]]
    best = max(bearable, key=lambda value: (cold[value], -value))
    return TunedPseudo(best, max(among, key=lambda value: (among[value], -value)), cold, among, whole)
