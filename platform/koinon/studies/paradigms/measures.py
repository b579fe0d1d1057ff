"""What is asked of a fitted arm: one function for each question, on metrics that stand elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data import Domain, EvaluationSet
from koinon.errors import EvaluationError
from koinon.evaluation import evaluate, requests_of
from koinon.evaluation.lists import top_lists
from koinon.evaluation.protocol import masked_scores
from koinon.fairness.lists import divergence_js, kinds_of_items
from koinon.fairness.subject import Source
from koinon.recommenders.protocol import Recommendation, Recommender, Request
from koinon.recommenders.ranking import best, history_matrix
from koinon.space import Space
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import Prepared, rows_of, sample_rows

__all__ = ["STRANGERS", "Answered", "accuracy", "latency", "lists_of", "overlap", "strangers"]

Scores = NDArray[np.float32]
Lists = NDArray[np.int32]
SLICES = ("all", "cold_items", "cold_among_cold", "cold_users", "long_tail")
STRANGERS = (1, 3, 5)
"""Events that a stranger has."""
BATCH = 256


@dataclass
class Answered:
    """Scores that a recommender has given once, handed out again: a language model is not asked twice.

    Attributes
    ----------
    scores
        ``float32[rows, items]``.
    row
        User to row.
    """

    name: ClassVar[str] = "answered"
    scores: Scores
    row: dict[int | None, int]

    @classmethod
    def by(cls, model: Recommender, asked: EvaluationSet, items: int) -> Answered:
        """Ask for every row of an evaluation set."""
        scores = np.empty((len(asked), items), dtype=np.float32)
        for start in range(0, len(asked), BATCH):
            rows = range(start, min(start + BATCH, len(asked)))
            given = model.score(requests_of(asked, rows))
            if given.shape != (len(rows), items):
                raise EvaluationError("K505", f"Scores have the shape {given.shape}.", "Fit on the evaluated domain.")
            scores[start : rows.stop] = given
        return cls(scores, {int(user): row for row, user in enumerate(asked.user)})

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Answered:
        """Nothing is learned."""
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``."""
        scores = self.scores[[self.row[request.user] for request in requests]]
        return scores if candidates is None else scores[:, candidates]

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """Return the best unseen."""
        return best(self.score(requests), requests, k)


class _Stranger:
    """Asks as somebody without an account who has done so many things; the whole history stays masked."""

    name = "stranger"

    def __init__(self, model: Recommender, events: int) -> None:
        self.model, self.events = model, events

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        return self.model.score([_cut(request, self.events) for request in requests], candidates)


def accuracy(
    model: Recommender, prepared: Prepared, asked: EvaluationSet, vectors: Scores | None, k: int
) -> tuple[pl.DataFrame, dict[str, float], Lists]:
    """Rank the whole catalogue for everybody asked.

    Returns
    -------
    per_user
        As :class:`koinon.evaluation.Evaluation`'s, and in slice ``all`` also ``miscalibration@k`` (Jensen-Shannon
        divergence of the list's kinds from the history's, 0 to 1) where items have kinds.
    catalogue
        ``coverage@k``, ``gini@k``.
    lists
        ``int32[main users, k]``, in the order of slice ``all``.

    Raises
    ------
    EvaluationError
        K501, K502, K505 as :func:`koinon.evaluation.evaluate`.
    """
    answered = Answered.by(model, asked, prepared.known.n_items)
    found = evaluate(answered, prepared.known, asked, k=k, slices=SLICES, vectors=vectors, beyond=True, batch=BATCH)
    everybody = found.per_user.filter(pl.col("slice") == "all")["row"].to_numpy()
    lists = lists_of(answered, prepared.known.n_items, asked, k)[everybody]
    kinds = _kinds(prepared, model)
    per_user = found.per_user
    if kinds is not None and len(everybody):
        requests = requests_of(asked, everybody)
        liked = _shares(history_matrix(requests, len(kinds)) @ kinds)
        shown = _shares(np.where((lists >= 0)[:, :, None], kinds[lists], 0.0).sum(axis=1))
        values = np.full(per_user.height, np.nan)
        values[(per_user["slice"] == "all").to_numpy()] = divergence_js(liked, shown)
        per_user = per_user.with_columns(pl.Series(f"miscalibration@{k}", values))
    return per_user, dict(found.catalogue), lists


def lists_of(model: Recommender, items: int, asked: EvaluationSet, k: int) -> Lists:
    """Everybody's list, ``int32[rows, k]``, best first; equal scores in one seeded order."""
    rng = np.random.default_rng(0)
    parts = [top_lists(scores, k, rng) for _, scores in masked_scores(model, items, asked, BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, k), dtype=np.int32)


def strangers(model: Recommender, prepared: Prepared, study: StudyConfig) -> pl.DataFrame:
    """Rank for the same people as strangers with their latest 1, 3 and 5 events.

    Only people with at least five are asked, so that the three figures are about the same ones. Returns per-user
    values with slices ``stranger_1`` ….
    """
    rows = sample_rows(prepared.split.test, study.strangers, seed=0, least=max(STRANGERS))
    asked = rows_of(prepared.split.test, rows)
    frames = []
    for events in STRANGERS:
        shown: Any = _Stranger(model, events)
        found = evaluate(shown, prepared.known, asked, k=study.k, slices=("all",), batch=BATCH)
        frames.append(found.per_user.with_columns(pl.lit(f"stranger_{events}").alias("slice")))
    return pl.concat(frames)


def latency(model: Recommender, asked: EvaluationSet, requests: int, *, k: int) -> dict[str, float]:
    """Milliseconds waited from one request to its list: median and 95th percentile, after a warm-up.

    By the clock: processor time is counted too coarsely on some machines for what takes less than a few milliseconds.
    """
    count = min(requests, len(asked))
    spent = []
    for place, request in enumerate(requests_of(asked, range(count))):
        if place == 0:
            model.recommend([request], k)
        begun = perf_counter()
        model.recommend([request], k)
        spent.append(1000 * (perf_counter() - begun))
    p50, p95 = np.quantile(spent, [0.5, 0.95])
    return {"requests": count, "p50_ms": float(p50), "p95_ms": float(p95)}


def overlap(lists: Lists, others: Lists) -> NDArray[np.float64]:
    """Share of each list that stands in the other, in any order, ``float64[rows]``, 0 to 1; nan for empty lists."""
    size = (lists >= 0).sum(axis=1)
    both = ((lists[:, :, None] == others[:, None, :]) & (lists >= 0)[:, :, None]).any(axis=2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shared: NDArray[np.float64] = np.where(size > 0, both / size, np.nan)
    return shared


def _cut(request: Request, events: int) -> Request:
    return Request(
        history=request.history[-events:],
        time=request.time,
        times=None if request.times is None else request.times[-events:],
        marks=None if request.marks is None else request.marks.take(slice(-events, None)),
    )


def _kinds(prepared: Prepared, model: Recommender) -> NDArray[np.float64] | None:
    """Kinds of items: categories, or else languages; ``None`` where there are fewer than two."""
    try:
        return kinds_of_items(Source(prepared.name, prepared.tables, prepared.split, prepared.known, model))
    except EvaluationError as error:
        if error.code != "K530":
            raise
        return None


def _shares(counts: Any) -> NDArray[np.float64]:
    table = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: NDArray[np.float64] = table / table.sum(axis=1, keepdims=True)
    return shares
