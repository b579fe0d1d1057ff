"""What one source's people were given: their lists, their figures, and the attention that items got."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data import EvaluationSet
from koinon.errors import EvaluationError
from koinon.evaluation.lists import intra_list_diversity, novelty, top_lists
from koinon.evaluation.metrics import place, ranking_metrics
from koinon.evaluation.protocol import masked_scores
from koinon.evaluation.slices import head_items
from koinon.fairness.exposure import attention, attention_fairness
from koinon.fairness.metrics import METRICS
from koinon.fairness.plan import WindowPlan
from koinon.fairness.subject import Source

__all__ = ["Given", "kinds_of_items", "look"]

Doubles = NDArray[np.float64]

_SMOOTHING = 0.01


@dataclass(frozen=True)
class Given:
    """What one source gave its people.

    Attributes
    ----------
    source
        Whose.
    people
        ``user_id``, ``activity`` (events in history, int), ``language`` (of most items in history), and a column per
        metric asked for; one row per user who was asked about.
    lists
        ``int32[users, k]``: items, best first, -1 where there were too few.
    targets, target_user
        ``int32[held-out items]``: item, and row of ``people``.
    liked
        ``bool[held-out items]``, or ``None`` where the plan states no threshold.
    """

    source: Source
    people: pl.DataFrame
    lists: NDArray[np.int32]
    targets: NDArray[np.int32]
    target_user: NDArray[np.int64]
    liked: NDArray[np.bool_] | None


def look(
    source: Source,
    metrics: tuple[str, ...],
    *,
    k: int,
    patience: float,
    like_from: float | None,
    seed: int,
    window: WindowPlan | None = None,
) -> Given:
    """Ask a source's recommender for every main test user and measure what comes.

    Parameters
    ----------
    source
        Opened.
    metrics
        Keys of :data:`~koinon.fairness.metrics.METRICS`.
    k, patience
        Length of a list, and the browsing model's chance of looking on.
    like_from
        Weight from which a held-out event counts as liked.
    seed
        Of the order of equal scores in lists.
    window
        Only people who are asked within these days; ``None``: all.

    Raises
    ------
    EvaluationError
        K530 a metric or the window needs what the data do not hold, K535 nobody can be asked about; K501, K505 the
        recommender's scores cannot be used.
    """
    test, domain = source.split.test, source.known
    kinds = kinds_of_items(source) if any(METRICS[name].needs == "kinds" for name in metrics) else None
    if like_from is None and any(METRICS[name].needs == "labels" for name in metrics):
        raise _lacking("labels", source.name, "State `data.like_from`, the weight from which an event is a liked one.")
    rng = np.random.default_rng(seed)
    listed, ranked = [], []
    for rows, scores in masked_scores(source.recommender, domain.n_items, test, 512):
        listed.append(top_lists(scores, k, rng))
        row, column = _targets(test, rows)
        ranked.append(ranking_metrics(place(scores, row, column, k), row, len(rows), k))
    main = np.flatnonzero(test.main & _within(source.name, test, window))
    lists = np.concatenate(listed)[main] if listed else np.empty((0, k), dtype=np.int32)
    rank = np.concatenate(ranked)[main] if ranked else np.empty((0, 4))
    if len(main) == 0:
        raise EvaluationError("K535", f"{source.name} has nobody to be asked about.", "Bring more events.")
    row_of = np.full(len(test), -1, dtype=np.int64)
    row_of[main] = np.arange(len(main))
    owner = np.repeat(row_of, np.diff(test.target_indptr))
    targets, owner = test.target_items[owner >= 0], owner[owner >= 0]
    liked = None if like_from is None else _liked(source, targets, test.user[main][owner], like_from)
    history = _history(test, main)
    columns: dict[str, Doubles] = {
        "ndcg": rank[:, 0],
        "recall": rank[:, 1],
        "mrr": rank[:, 3],
        "novelty": novelty(lists, domain.item_counts, domain.n_users),
        "popularity_lift": _popularity_lift(lists, history, domain.item_counts),
        "cold_share": _mean_over(lists, (domain.item_counts == 0).astype(np.float64)),
    }
    if kinds is not None:
        columns |= _kind_figures(lists, history, kinds)
    if "attention_fairness" in metrics:
        tail = (~head_items(domain)).astype(np.int64)
        share = np.bincount(tail[targets], minlength=2) / max(len(targets), 1)
        columns["attention_fairness"] = attention_fairness(lists, tail, share, attention(k, patience))
    if liked is not None:
        columns |= _labels(lists, targets, owner, liked)
    ids = domain.user_ids
    people = pl.DataFrame(
        {
            "user_id": [ids[user] for user in test.user[main]],
            "activity": np.diff(test.history_indptr)[main],
            "language": _languages(source, history),
            **{name: columns[name] for name in metrics},
        },
        schema_overrides={"language": pl.String, "user_id": pl.String},
    )
    return Given(source, people, lists, targets, owner, liked)


def kinds_of_items(source: Source) -> Doubles:
    """What kind each item is of, ``float64[items, kinds]``, rows sum to 1: its categories, or else its language.

    Raises
    ------
    EvaluationError
        K530 items have neither.
    """
    items = source.known.items
    column = "categories" if items["categories"].list.len().sum() else "language"
    each = items.select(pl.col(column) if column == "categories" else pl.concat_list(column))[column]
    names = sorted({kind for kinds in each if kinds is not None for kind in kinds if kind})
    if len(names) < 2:
        raise _lacking("kinds", source.name, "Leave out diversity and miscalibration, or give items categories.")
    number = {name: place_ for place_, name in enumerate(names)}
    table = np.zeros((len(each), len(names)))
    for item, kinds in enumerate(each):
        for kind in kinds if kinds is not None else ():
            if kind:
                table[item, number[kind]] = 1.0
    size = table.sum(axis=1, keepdims=True)
    shares: Doubles = np.divide(table, size, out=np.zeros_like(table), where=size > 0)
    return shares


@dataclass(frozen=True)
class _History:
    """Items of histories and whose they are, rows as in ``Given.people``."""

    user: NDArray[np.int64]
    item: NDArray[np.int32]
    users: int

    def mean(self, of_item: Doubles) -> Doubles:
        """Mean of an item's figures over each history, ``float64[users, ...]``; nan for an empty one."""
        count = np.bincount(self.user, minlength=self.users)
        flat = of_item.reshape(len(of_item), -1)
        sums = np.column_stack([np.bincount(self.user, column[self.item], minlength=self.users) for column in flat.T])
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: Doubles = (sums / count[:, None]).reshape(self.users, *of_item.shape[1:])
        return mean


def _history(test: EvaluationSet, main: NDArray[np.int64]) -> _History:
    lengths = np.diff(test.history_indptr)[main]
    starts = np.repeat(test.history_indptr[:-1][main], lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return _History(np.repeat(np.arange(len(main)), lengths), test.history_items[starts + within], len(main))


def _within(name: str, test: EvaluationSet, window: WindowPlan | None) -> NDArray[np.bool_]:
    if window is None:
        return np.ones(len(test), dtype=np.bool_)
    if test.time is None:
        raise EvaluationError("K530", f"{name}'s events have no time, which a window needs.", "Leave data.window out.")
    first, after = window.milliseconds
    return (test.time >= first) & (test.time < after)


def _targets(test: EvaluationSet, rows: range) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    indptr = test.target_indptr
    row = np.repeat(np.arange(len(rows)), np.diff(indptr[rows.start : rows.stop + 1]))
    return row, test.target_items[indptr[rows.start] : indptr[rows.stop]]


def _mean_over(lists: NDArray[np.int32], of_item: Doubles) -> Doubles:
    """Mean of an item's figures over each list, ``float64[users, ...]``; nan for an empty one."""
    there = lists >= 0
    extra = (1,) * (of_item.ndim - 1)
    total = np.where(there.reshape(*there.shape, *extra), of_item[lists], 0.0).sum(axis=1)
    size = there.sum(axis=1).astype(np.float64).reshape(-1, *extra)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Doubles = np.where(size > 0, total / size, np.nan)
    return mean


def _popularity_lift(lists: NDArray[np.int32], history: _History, counts: NDArray[np.int64]) -> Doubles:
    popularity = counts.astype(np.float64)
    usual = history.mean(popularity)
    with np.errstate(invalid="ignore", divide="ignore"):
        lift: Doubles = _mean_over(lists, popularity) / usual - 1.0
    return np.where(usual > 0, lift, np.nan)


def _kind_figures(lists: NDArray[np.int32], history: _History, kinds: Doubles) -> dict[str, Doubles]:
    norm = np.linalg.norm(kinds, axis=1, keepdims=True)
    units = np.divide(kinds, norm, out=np.zeros_like(kinds), where=norm > 0).astype(np.float32)
    liked, shown = _normalised(history.mean(kinds)), _normalised(_mean_over(lists, kinds))
    return {
        "diversity": intra_list_diversity(lists, units),
        "miscalibration_kl": divergence_kl(liked, shown),
        "miscalibration_js": divergence_js(liked, shown),
    }


def _normalised(shares: Doubles) -> Doubles:
    total = shares.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normalised: Doubles = shares / total
    return normalised


def divergence_kl(p: Doubles, q: Doubles) -> Doubles:
    """Kullback-Leibler divergence of ``q`` from ``p``, rows of shares ``float64[users, kinds]``, in nats.

    ``q`` is smoothed with 1 % of ``p`` (Steck 2018, equation 6), so that it is finite.
    """
    smooth = (1 - _SMOOTHING) * q + _SMOOTHING * p
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(p > 0, p * np.log(p / smooth), 0.0)
    return np.where(np.isfinite(p).all(axis=1) & np.isfinite(q).all(axis=1), terms.sum(axis=1), np.nan)


def divergence_js(p: Doubles, q: Doubles) -> Doubles:
    """Jensen-Shannon divergence of rows of shares ``float64[users, kinds]``, base 2, 0 to 1; nan where a row is."""
    middle = (p + q) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(p > 0, p * np.log2(p / middle), 0.0) + np.where(q > 0, q * np.log2(q / middle), 0.0)
    known = np.isfinite(p).all(axis=1) & np.isfinite(q).all(axis=1)
    return np.where(known, np.clip(terms.sum(axis=1) / 2, 0.0, 1.0), np.nan)


def _labels(
    lists: NDArray[np.int32], targets: NDArray[np.int32], owner: NDArray[np.int64], liked: NDArray[np.bool_]
) -> dict[str, Doubles]:
    listed = is_listed(lists, targets, owner)

    def rate(of: NDArray[np.bool_]) -> Doubles:
        many = np.bincount(owner[of], minlength=len(lists))
        hits = np.bincount(owner[of], listed[of], minlength=len(lists))
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Doubles = np.where(many > 0, hits / many, np.nan)
        return found

    return {"listed": rate(np.ones_like(liked)), "listed_liked": rate(liked), "listed_disliked": rate(~liked)}


def is_listed(lists: NDArray[np.int32], targets: NDArray[np.int32], owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each held-out item stands in its owner's list, ``bool[held-out items]``."""
    found: NDArray[np.bool_] = (lists[owner] == targets[:, None]).any(axis=1)
    return found


def _liked(
    source: Source, targets: NDArray[np.int32], users: NDArray[np.integer], like_from: float
) -> NDArray[np.bool_]:
    ids, items = source.known.user_ids, source.known.items["item_id"].to_list()
    asked = pl.DataFrame({"user_id": [ids[u] for u in users], "item_id": [items[i] for i in targets]})
    first = source.tables.events.group_by("user_id", "item_id").agg(pl.col("weight").first())
    weight = asked.join(first, on=["user_id", "item_id"], how="left", maintain_order="left")["weight"]
    found: NDArray[np.bool_] = (weight >= like_from).fill_null(False).to_numpy()
    return found


def _languages(source: Source, history: _History) -> list[str | None]:
    """The language of most items in each history; the alphabet's first of equals; ``None`` for an empty one."""
    column = source.known.items["language"]
    names = sorted(column.drop_nulls().unique())
    number = {name: place_ for place_, name in enumerate(names)}
    one_hot = np.zeros((len(column), len(names)))
    for item, name in enumerate(column):
        if name is not None:
            one_hot[item, number[name]] = 1.0
    shares = history.mean(one_hot)
    return [names[int(row.argmax())] if np.isfinite(row).all() and row.any() else None for row in shares]


def _lacking(what: str, name: str, remedy: str) -> EvaluationError:
    words = {"kinds": "categories or languages of items", "labels": "a mark of what was liked"}[what]
    needing = ", ".join(metric for metric, about in METRICS.items() if about.needs == what)
    return EvaluationError("K530", f"{name} has no {words}, which {needing} need.", remedy)
