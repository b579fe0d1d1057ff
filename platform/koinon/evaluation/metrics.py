"""Ranking metrics at k, exact in expectation over ties.

Where several candidates have the same score, no order among them is better than another; the metrics below are the
expected value over all orders of each tied block (McSherry and Najork 2008, "Computing information retrieval
performance measures efficiently in the presence of tied scores"). A scorer that gives every item the same score thus
gets exactly what chance gets, and not a perfect rank.

A target is *placed* by two counts: ``above``, the candidates with a strictly greater score, and ``tied``, those with
an equal one, itself included; its rank is uniform over ``above + 1 … above + tied``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.errors import EvaluationError

__all__ = ["METRICS", "Placements", "place", "ranking_metrics"]

METRICS: tuple[str, ...] = ("ndcg", "recall", "hr", "mrr")
"""Names in the order of :func:`ranking_metrics`'s columns."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Placements:
    """Where each target stands among its row's candidates, as far as the first k ranks go.

    Attributes
    ----------
    above
        ``int64[targets]`` candidates with a greater score; at least ``k`` (not exact) for targets beyond rank k.
    tied
        ``int64[targets]`` candidates with an equal score, the target included.
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]

    def take(self, keep: NDArray[np.bool_]) -> Placements:
        """Return the placements of some targets."""
        return Placements(self.above[keep], self.tied[keep])


def place(
    scores: NDArray[np.float32], target_row: NDArray[np.integer], target_column: NDArray[np.integer], k: int
) -> Placements:
    """Place targets among their rows' candidates.

    Parameters
    ----------
    scores
        ``float32[rows, candidates]``; ``-inf`` marks what is no candidate for the row (its history).
    target_row, target_column
        ``int[targets]`` each: where each target's own score stands.
    k
        Ranks beyond it do not matter.

    Raises
    ------
    EvaluationError
        K501 a target is no candidate or its score is not a number.
    """
    if len(target_row) == 0:
        return Placements(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    own = scores[target_row, target_column]
    if not np.isfinite(own).all():
        raise EvaluationError(
            "K501",
            "A held-out item is masked as history, or its score is not finite.",
            "Check that the split keeps targets out of histories and that the recommender gives finite scores.",
        )
    width = min(k, scores.shape[1])
    best = -np.partition(-scores, width - 1, axis=1)[:, :width]
    entry = best.min(axis=1)
    above = (best[target_row] > own[:, None]).sum(axis=1)
    tied = (best[target_row] == own[:, None]).sum(axis=1)
    # only a block that reaches the k-th place may go on beyond the k best
    edge = np.flatnonzero(own == entry[target_row])
    rows, where = np.unique(target_row[edge], return_inverse=True)
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        block = (scores[part] == entry[part, None]).sum(axis=1)
        inside = (where >= start) & (where < start + 1024)
        tied[edge[inside]] = block[where[inside] - start]
    beyond = own < entry[target_row]
    above[beyond], tied[beyond] = scores.shape[1], 1
    return Placements(above.astype(np.int64), tied.astype(np.int64))


def ranking_metrics(placed: Placements, target_row: NDArray[np.integer], rows: int, k: int) -> Doubles:
    """Return ``float64[rows, 4]``: NDCG, recall, hit rate and reciprocal rank at k, per row.

    - NDCG: gain 1 per target, discount ``1 / log2(1 + rank)``, over the best order's sum (cut at k).
    - recall: targets among the first k over all targets of the row.
    - hit rate: whether any target is among the first k (here: its probability).
    - reciprocal rank: ``1 / rank`` of the first target, 0 beyond k.

    Rows without targets are ``nan``: they have no value and must not be averaged as zero.
    """
    reach = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))))
    first, last = np.minimum(placed.above, k), np.minimum(placed.above + placed.tied, k)
    targets = np.bincount(target_row, minlength=rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.bincount(target_row, (reach[last] - reach[first]) / placed.tied, minlength=rows)
        found = np.bincount(target_row, (last - first) / placed.tied, minlength=rows)
        ndcg = np.where(targets > 0, gain / reach[np.minimum(targets, k)], np.nan)
        recall = np.where(targets > 0, found / targets, np.nan)
    hit, reciprocal = _first_hit(placed, target_row, rows, k)
    hit[targets == 0], reciprocal[targets == 0] = np.nan, np.nan
    values: Doubles = np.minimum(np.column_stack([ndcg, recall, hit, reciprocal]), 1.0)
    return values


def _first_hit(placed: Placements, target_row: NDArray[np.integer], rows: int, k: int) -> tuple[Doubles, Doubles]:
    """Probability that the first target stands within k, and the expected ``1 / rank`` of it, ``float64[rows]`` each.

    The first target lies in the highest block that holds any; with m targets among its e members, the first of them
    is the block's j-th with probability ``C(e-j, m-1) / C(e, m)``, built up by its ratio from one j to the next.
    """
    above = np.full(rows, np.iinfo(np.int64).max // 2)
    np.minimum.at(above, target_row, placed.above)
    leading = placed.above == above[target_row]
    many = np.bincount(target_row[leading], minlength=rows).astype(np.float64)
    size = np.ones(rows)
    size[target_row[leading]] = placed.tied[leading]
    hit, reciprocal = np.zeros(rows), np.zeros(rows)
    chance = many / size
    for j in range(1, k + 1):
        counts = np.where(above + j <= k, chance, 0.0)
        hit += counts
        reciprocal += counts / (above + j)
        left = size - j
        chance = np.where(left > 0, chance * np.maximum(left - many + 1, 0.0) / np.maximum(left, 1.0), 0.0)
    return hit, reciprocal
