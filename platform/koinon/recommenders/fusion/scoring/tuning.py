"""The gate, found on validation and guarded: what is not worth reading is not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from koinon.data import Split
from koinon.recommenders.fusion.scoring._config import Gate
from koinon.recommenders.fusion.scoring.gated import Gated, mixed, standard
from koinon.recommenders.fusion.scoring.sources import Evidence
from koinon.recommenders.tuning import Validator

__all__ = ["TunedGate", "tune_gate"]

WEIGHTS = (0.1, 0.4, 0.8, 1.6, 3.2, 6.4)
ITEM_EVENTS = (0.5, 2.0, 5.0, 20.0, 100.0, None)
USER_EVENTS = (3.0, 10.0, 30.0)


@dataclass(frozen=True)
class TunedGate:
    """What validation says.

    Attributes
    ----------
    gate
        The best; of weight 0 where none beats the base by ``caution`` standard errors of the paired gain.
    leader
        The best before that question is asked.
    gain, error
        The leader's mean paired gain over the base and its standard error.
    caution
        Standard errors that it must win by.
    means
        Mean of the metric by gate; of weight 0: the base.
    users
        How many were asked.
    """

    gate: Gate
    leader: Gate
    gain: float
    error: float
    caution: float
    means: Mapping[Gate, float]
    users: int


def tune_gate(
    recommender: Gated,
    split: Split,
    *,
    metric: str = "ndcg@10",
    rng: np.random.Generator,
    rows: int = 2000,
    level: float = 0.05,
) -> TunedGate:
    """Choose the gate of a recommender fitted on ``split.train``; texts are read once for every person.

    Weights and ``item_events`` are tried in every combination, then ``user_events`` at the best of them. The best of
    all that was tried must beat the base at ``level``, one-sided, divided by their number (Bonferroni).

    Parameters
    ----------
    recommender, split
        Fitted on the split's training events; validation is asked, the test set is not.
    metric, rows, rng
        What is maximised over how many validation people, drawn where there are more.
    level
        Chance of a gate above 0 where texts are worth nothing.

    Raises
    ------
    RecommenderError
        K406 unknown metric, K407 nobody to validate on; those of :meth:`Gated.score`.
    """
    validator = Validator(split.train, split.validation, metric, rng, rows)
    base = np.array(recommender.base.score(validator.requests), dtype=np.float32)
    known: list[Evidence | None] = []
    for row, request in zip(base, validator.requests, strict=True):
        known.append(recommender.source.evidence(request, row))
        row[:] = standard(row, request)
    lengths = [len(request.history) for request in validator.requests]

    def values(gate: Gate) -> NDArray[np.float64]:
        scores = base.copy()
        if gate.weight:
            for row, evidence, count in zip(scores, known, lengths, strict=True):
                if evidence is not None:
                    row[evidence.places] += mixed(evidence, gate, recommender.counts, count, recommender.config.bound)
        return validator.values(scores)

    found = {Gate(): values(Gate())}
    for weight in WEIGHTS:
        for half in ITEM_EVENTS:
            gate = Gate(weight=weight, item_events=half)
            found[gate] = values(gate)
    leader = _best(found)
    for half in USER_EVENTS:
        gate = leader.model_copy(update={"user_events": half})
        found[gate] = values(gate)
    leader = _best(found)
    gains = found[leader] - found[Gate()]
    error = float(gains.std() / np.sqrt(len(gains)))
    caution = float(norm.ppf(1 - level / (len(found) - 1)))
    worth = bool(gains.mean() > caution * error)
    means = {gate: float(each.mean()) for gate, each in found.items()}
    return TunedGate(leader if worth else Gate(), leader, float(gains.mean()), error, caution, means, len(lengths))


def _best(found: Mapping[Gate, NDArray[np.float64]]) -> Gate:
    return max((gate for gate in found if gate.weight), key=lambda gate: float(found[gate].mean()))
