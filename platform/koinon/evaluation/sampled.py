"""Secondary, for setting beside published figures only: leave-last-out with a few sampled negatives.

Ranking a target among 99 drawn items says little about ranking it in the catalogue, and papers differ in what they
draw from. Where a published protocol draws before it splits, the test item is the only candidate never trained as a
negative; here negatives are drawn *after* the split, from items the user has in none of training, validation and test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain, EvaluationSet, Split
from koinon.errors import EvaluationError
from koinon.evaluation.metrics import METRICS, place, ranking_metrics
from koinon.evaluation.protocol import Chance, masked_scores
from koinon.recommenders.protocol import Recommender

__all__ = ["SampledEvaluation", "draw_negatives", "evaluate_sampled"]


@dataclass(frozen=True)
class SampledEvaluation:
    """Means over users among sampled candidates.

    Attributes
    ----------
    means
        ``hr@k``, ``ndcg@k``, ``mrr@k``.
    negatives
        Items drawn per target.
    n
        Users.
    secondary
        Always true: never a main figure.
    """

    means: dict[str, float]
    negatives: int
    n: int
    secondary: bool = True


def draw_negatives(
    domain: Domain, split: Split, evaluation: EvaluationSet, negatives: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Draw ``int32[rows, negatives]``: distinct items per row that the user has in no event at all.

    Raises
    ------
    EvaluationError
        K507 a user has too few items left to draw from.
    """
    taken = split.events.matrix(domain.n_users, domain.n_items)
    drawn = np.empty((len(evaluation), negatives), dtype=np.int32)
    for row, user in enumerate(evaluation.user.tolist()):
        free = np.ones(domain.n_items, dtype=bool)
        free[taken.indices[taken.indptr[user] : taken.indptr[user + 1]]] = False
        left = np.flatnonzero(free)
        if len(left) < negatives:
            raise EvaluationError(
                "K507", f"A user has {len(left)} items left, {negatives} are to be drawn.", "Draw fewer negatives."
            )
        drawn[row] = rng.choice(left, size=negatives, replace=False)
    return drawn


def evaluate_sampled(
    recommender: Recommender | Chance,
    split: Split,
    *,
    negatives: int = 99,
    k: int = 10,
    rng: np.random.Generator,
    batch: int = 512,
) -> SampledEvaluation:
    """Rank each user's single test item among ``negatives`` drawn ones (PFedRec's protocol, without its leak).

    Parameters
    ----------
    recommender
        Fitted on ``split.train``.
    split
        Protocol ``leave-last-out``: one test item per user.
    negatives, k, batch
        Candidates drawn per user, ranks that count, rows scored at once.
    rng
        Draws the negatives.

    Raises
    ------
    EvaluationError
        K507 too few items to draw from, K508 a user has other than one test item.
    """
    test = split.test
    if (np.diff(test.target_indptr) != 1).any():
        raise EvaluationError(
            "K508", "Sampled evaluation takes exactly one test item per user.", "Split with `leave-last-out`."
        )
    drawn = draw_negatives(split.train, split, test, negatives, rng)
    values = []
    for rows, scores in masked_scores(recommender, split.train.n_items, test, batch):
        span = slice(rows.start, rows.stop)
        candidates = np.column_stack([test.target_items[span], drawn[span]])
        table = np.take_along_axis(scores, candidates.astype(np.int64), axis=1)
        own, first = np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64)
        values.append(ranking_metrics(place(table, own, first, k), own, len(rows), k))
    means = np.concatenate(values).mean(axis=0) if values else np.full(len(METRICS), np.nan)
    named = {f"{name}@{k}": float(mean) for name, mean in zip(METRICS, means, strict=True) if name != "recall"}
    return SampledEvaluation(named, negatives, len(test))
