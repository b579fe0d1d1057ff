"""The one evaluation: the whole catalogue minus history, ties by expectation, one value per user and slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.config import atomic_path
from koinon.data import Domain, EvaluationSet
from koinon.errors import EvaluationError
from koinon.evaluation.lists import coverage, gini, intra_list_diversity, novelty, top_lists
from koinon.evaluation.metrics import METRICS, place, ranking_metrics
from koinon.evaluation.significance import bootstrap_mean
from koinon.evaluation.slices import Slice, build_slices
from koinon.recommenders.protocol import Recommender, Request

__all__ = ["DEFAULT_SLICES", "Chance", "Evaluation", "evaluate", "requests_of"]

DEFAULT_SLICES: tuple[str, ...] = (
    "all",
    "cold_items",
    "cold_among_cold",
    "cold_users",
    "long_tail",
    "known_elsewhere",
)

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    per_user
        One row per slice and user: ``slice, row`` (of the evaluation set)``, user`` (row of ``Domain.user_ids``)``,
        targets, ndcg@k, recall@k, hr@k, mrr@k``; in slice ``all`` also ``novelty@k`` and ``diversity@k`` if asked for.
    k
        The cut.
    catalogue
        Figures of all lists together: ``coverage@k``, ``gini@k``; empty unless asked for.
    """

    per_user: pl.DataFrame
    k: int
    catalogue: Mapping[str, float] = field(default_factory=dict)

    def values(self, metric: str | None = None, slice_: str = "all") -> NDArray[np.float64]:
        """Per-user values ``float64[users]`` of one slice, in row order; ``metric`` defaults to NDCG."""
        chosen = self.per_user.filter(pl.col("slice") == slice_)
        return chosen[metric or f"ndcg@{self.k}"].to_numpy().astype(np.float64)

    def mean(self, metric: str | None = None, slice_: str = "all") -> float:
        """Mean over users; nan for an empty slice."""
        values = self.values(metric, slice_)
        return float(values.mean()) if len(values) else float("nan")

    @property
    def summary(self) -> pl.DataFrame:
        """One row per slice: ``slice, n, targets`` and each metric's mean."""
        means = pl.col(self.metrics).mean()
        grouped = self.per_user.group_by("slice", maintain_order=True)
        return grouped.agg(pl.len().alias("n"), pl.col("targets").sum(), means)

    @property
    def metrics(self) -> list[str]:
        """Names of the per-user metrics."""
        return [name for name in self.per_user.columns if name.endswith(f"@{self.k}")]

    def intervals(self, *, seed: int = 0) -> dict[str, dict[str, dict[str, float | int | None]]]:
        """Return ``{slice: {metric: {mean, lo, hi, n}}}``, 95 % bootstrap over users; JSON-ready."""
        names = [f"{name}@{self.k}" for name in METRICS]
        return {
            part: {name: bootstrap_mean(self.values(name, part), seed=seed).as_dict() for name in names}
            for part in self.per_user["slice"].unique(maintain_order=True)
        }

    def save(self, path: Path) -> None:
        """Write the per-user values as Parquet, whole or not at all."""
        with atomic_path(path) as temporary:
            self.per_user.write_parquet(temporary)


class Chance:
    """Gives every item the same score: what ranking at random gets, exactly."""

    name = "chance"

    def fit(self, domain: Domain, space: object, *, rng: np.random.Generator) -> Chance:
        """Remember the size of the catalogue."""
        self.items = domain.n_items
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return zeros, ``float32[requests, candidates]``."""
        return np.zeros((len(requests), self.items if candidates is None else len(candidates)), dtype=np.float32)


def requests_of(evaluation: EvaluationSet, rows: Sequence[int] | NDArray[np.integer] | None = None) -> list[Request]:
    """Turn rows of an evaluation set into requests: user, what may be known of the history, the time asked at."""
    chosen = range(len(evaluation)) if rows is None else rows
    times, indptr, known = evaluation.time, evaluation.history_indptr, evaluation.history_times
    marks = evaluation.history_marks
    return [
        Request(
            history=evaluation.history(row),
            user=int(evaluation.user[row]),
            time=None if times is None else int(times[row]),
            times=None if known is None else known[indptr[row] : indptr[row + 1]],
            marks=None if marks is None else marks.take(slice(indptr[row], indptr[row + 1])),
        )
        for row in chosen
    ]


def evaluate(
    recommender: Recommender | Chance,
    domain: Domain,
    evaluation: EvaluationSet,
    *,
    k: int = 10,
    slices: tuple[str, ...] = DEFAULT_SLICES,
    known_elsewhere: NDArray[np.integer] | None = None,
    vectors: Scores | None = None,
    beyond: bool = False,
    batch: int = 512,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Rank the catalogue for every row of an evaluation set and measure where its held-out items stand.

    Parameters
    ----------
    recommender
        Fitted on ``domain``.
    domain
        The training domain: tells which items are cold and which are the long tail.
    evaluation
        Whom to ask about; its histories are masked.
    k
        Ranks that count.
    slices
        Keys of :data:`koinon.evaluation.RULES`.
    known_elsewhere
        ``int[n]`` user rows of ``domain``; without them the slice of that name is left out.
    vectors
        ``float32[items, d]`` unit vectors; with ``beyond``, gives ``diversity@k``.
    beyond
        Also measure the lists themselves (coverage, Gini, novelty, diversity) in slice ``all``; equal scores are
        listed in random order.
    seed
        Of that order.
    batch
        Rows scored at once; memory is ``batch × items × 4`` bytes a few times over.
    on_progress
        Called with rows done and rows in all.

    Raises
    ------
    EvaluationError
        K501 a score is not finite, K502 a held-out item is in its own history, K504 unknown slice, K505 the
        recommender's scores have the wrong shape.
    """
    _refuse_leaks(evaluation, domain.n_items)
    parts = build_slices(slices, domain, evaluation, known_elsewhere)
    rng = np.random.default_rng(seed)
    found: dict[str, list[pl.DataFrame]] = {part.name: [] for part in parts}
    listed: list[NDArray[np.int32]] = []
    for rows, scores in masked_scores(recommender, domain.n_items, evaluation, batch):
        for part in parts:
            frame = _measure(part, scores, evaluation, rows, k)
            if beyond and part.name == "all":
                lists = top_lists(scores[frame["row"].to_numpy() - rows.start], k, rng)
                listed.append(lists)
                frame = frame.with_columns(_list_columns(lists, domain, vectors, k))
            found[part.name].append(frame)
        if on_progress is not None:
            on_progress(rows.stop, len(evaluation))
    frames = [frame for part in parts for frame in found[part.name]]
    per_user = pl.concat(frames, how="diagonal") if frames else _frame("all", evaluation, [], np.empty((0, 4)), [], k)
    catalogue = {}
    if beyond:
        lists = np.concatenate(listed) if listed else np.empty((0, k), dtype=np.int32)
        catalogue = {f"coverage@{k}": coverage(lists, domain.n_items), f"gini@{k}": gini(lists, domain.n_items)}
    return Evaluation(per_user, k, catalogue)


def masked_scores(
    recommender: Recommender | Chance, items: int, evaluation: EvaluationSet, batch: int
) -> Iterator[tuple[range, Scores]]:
    """Give ``(rows, float32[rows, items])`` batch by batch, histories at ``-inf``.

    Raises
    ------
    EvaluationError
        K501 a score is not finite, K505 the shape is wrong.
    """
    for start in range(0, len(evaluation), batch):
        rows = range(start, min(start + batch, len(evaluation)))
        given = recommender.score(requests_of(evaluation, rows))
        if given.shape != (len(rows), items):
            raise EvaluationError(
                "K505",
                f"The recommender gave scores of shape {given.shape}; {(len(rows), items)} were asked for.",
                "Fit it on the domain it is evaluated on.",
            )
        if not np.isfinite(given).all():
            raise EvaluationError("K501", "A score is not a finite number.", "Check the recommender's training.")
        scores = np.array(given, dtype=np.float32)
        indptr = evaluation.history_indptr
        history = evaluation.history_items[indptr[rows.start] : indptr[rows.stop]]
        scores[np.repeat(np.arange(len(rows)), np.diff(indptr[rows.start : rows.stop + 1])), history] = -np.inf
        yield rows, scores


def _measure(part: Slice, scores: Scores, evaluation: EvaluationSet, rows: range, k: int) -> pl.DataFrame:
    """Measure one slice on one batch."""
    indptr = evaluation.target_indptr
    span = slice(int(indptr[rows.start]), int(indptr[rows.stop]))
    counts = np.diff(indptr[rows.start : rows.stop + 1])
    keep = part.targets[span]
    row = np.repeat(np.arange(len(rows)), counts)[keep]
    column = evaluation.target_items[span][keep]
    asked, compact = np.unique(row, return_inverse=True)
    table = scores[asked] if len(asked) < len(rows) else scores
    if part.candidates is not None:
        table = table[:, part.candidates]
        column = np.searchsorted(part.candidates, column).astype(np.int32)
    values = ranking_metrics(place(table, compact, column, k), compact, len(asked), k)
    return _frame(part.name, evaluation, asked + rows.start, values, np.bincount(compact, minlength=len(asked)), k)


def _frame(
    name: str,
    evaluation: EvaluationSet,
    rows: NDArray[np.integer] | list[int],
    values: NDArray[np.float64],
    targets: NDArray[np.integer] | list[int],
    k: int,
) -> pl.DataFrame:
    where = np.asarray(rows, dtype=np.int64)
    columns = {f"{metric}@{k}": values[:, place_] for place_, metric in enumerate(METRICS)}
    fixed = {"row": where, "user": evaluation.user[where], "targets": np.asarray(targets, dtype=np.int64)}
    return pl.DataFrame({**fixed, **columns}).select(pl.lit(name).alias("slice"), pl.all())


def _list_columns(lists: NDArray[np.int32], domain: Domain, vectors: Scores | None, k: int) -> list[pl.Series]:
    columns = [pl.Series(f"novelty@{k}", novelty(lists, domain.item_counts, domain.n_users))]
    if vectors is not None:
        columns.append(pl.Series(f"diversity@{k}", intra_list_diversity(lists, vectors)))
    return columns


def _refuse_leaks(evaluation: EvaluationSet, items: int) -> None:
    """No held-out item may stand in its own row's history."""
    rows = np.arange(len(evaluation), dtype=np.int64) * items
    known = np.repeat(rows, np.diff(evaluation.history_indptr)) + evaluation.history_items
    asked = np.repeat(rows, np.diff(evaluation.target_indptr)) + evaluation.target_items
    leaked = np.isin(asked, known)
    if leaked.any():
        first = int(asked[np.argmax(leaked)])
        raise EvaluationError(
            "K502",
            f"{int(leaked.sum())} held-out items stand in their own history (first: row {first // items}, item "
            f"{first % items}).",
            "Use a split made by koinon.data.",
        )
