"""The other side of a list: which items and whose get attention, and how that stands to what people took."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.errors import EvaluationError
from koinon.evaluation.lists import coverage
from koinon.evaluation.slices import head_items
from koinon.fairness.exposure import attention, attention_by_class, attention_fairness, expected_exposure, gini_of
from koinon.fairness.gaps import largest_deviation
from koinon.fairness.lists import Given
from koinon.fairness.plan import AuditPlan, ProviderPlan
from koinon.fairness.resampling import bootstrap_means
from koinon.fairness.results import Catalogue, Class, Exposure, Provider
from koinon.fairness.subject import Source

__all__ = ["catalogue_of", "classes_of", "compare_providers"]

Doubles = NDArray[np.float64]

_LARGE = 0.2


def catalogue_of(given: Given, plan: AuditPlan) -> Catalogue:
    """Figures of all lists of one source together."""
    items = given.source.known.n_items
    weights = attention(plan.k, plan.patience)
    there = given.lists >= 0
    got = np.bincount(given.lists[there], np.broadcast_to(weights, there.shape)[there], minlength=items).astype(
        np.float64
    )
    found = expected_exposure(given.lists[None], given.targets, given.target_user, items, weights)
    unequal = gini_of(got)
    return Catalogue(
        source=given.source.name,
        coverage=coverage(given.lists, items),
        gini=unequal if np.isfinite(unequal) else None,
        expected_exposure=Exposure(
            loss=found.loss, disparity=found.disparity, relevance=found.relevance, ideal=found.ideal
        ),
    )


def compare_providers(plan: AuditPlan, given: Sequence[Given]) -> list[Provider]:
    """Compare, for every source and every planned division of its items, attention with what people took.

    Raises
    ------
    EvaluationError
        K530 a source's items all belong to one class.
    """
    return [_compare(division, plan, one) for division in plan.providers for one in given]


def _compare(division: ProviderPlan, plan: AuditPlan, given: Given) -> Provider:
    labels, class_ = classes_of(given.source, division.by)
    weights = attention(plan.k, plan.patience)
    got = attention_by_class(given.lists, class_, len(labels), weights)
    users = len(given.lists)
    each = np.bincount(given.target_user, minlength=users)
    flat = given.target_user * len(labels) + class_[given.targets]
    taken = np.bincount(flat, minlength=users * len(labels)).reshape(users, len(labels)) / each[:, None]
    nobody = np.zeros(users, dtype=np.int64)
    drawn = bootstrap_means(np.hstack([got, taken]), [nobody], [1], nobody, draws=plan.draws, seed=plan.seed)[0][:, 0]
    exposure, due = np.nanmean(got, axis=0), taken.mean(axis=0)
    spread = drawn[:, : len(labels)] - drawn[:, len(labels) :]
    deviation, lo, hi, p = largest_deviation(exposure - due, spread, level=plan.level)
    low, high = np.quantile(drawn[:, : len(labels)], [(1 - plan.level) / 2, (1 + plan.level) / 2], axis=0)
    counts = np.bincount(class_, minlength=len(labels))
    classes = [
        Class(
            label=label,
            items=int(counts[place]),
            exposure=float(exposure[place]),
            lo=float(low[place]),
            hi=float(high[place]),
            taken=float(due[place]),
            catalogue=float(counts[place] / len(class_)),
            over_taken=float(exposure[place] / due[place]) if due[place] > 0 else None,
        )
        for place, label in enumerate(labels)
    ]
    fairness = attention_fairness(given.lists, class_, due, weights)
    return Provider(
        by=division.by,
        source=given.source.name,
        family="exploratory" if division.tolerance is None else "primary",
        classes=classes,
        attention_fairness=float(np.nanmean(fairness)),
        deviation=deviation,
        lo=lo,
        hi=hi,
        p=p,
        p_adjusted=None,
        tolerance=division.tolerance,
        verdict=None,
        reason="",
    )


def classes_of(source: Source, by: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Divide a source's catalogue.

    Returns
    -------
    labels
        Of the classes.
    class_
        ``int64[items]``.

    Raises
    ------
    EvaluationError
        K530 all items are of one class.
    """
    domain = source.known
    if by == "popularity":
        tail = ~head_items(domain, _LARGE)
        return ("head", "long tail"), tail.astype(np.int64)
    if by == "creator":
        names = domain.items["creator"].fill_null("").to_numpy()
        words = _creator_classes(names, domain.item_counts)
    else:
        words = domain.items["language"].fill_null("unknown").to_numpy()
    labels, class_ = np.unique(words, return_inverse=True)
    if len(labels) < 2:
        raise EvaluationError(
            "K530",
            f"{source.name}: by {by} all items are of one class ({labels[0]}).",
            f"Leave the division by {by} out of the plan.",
        )
    return tuple(str(label) for label in labels), class_.astype(np.int64)


def _creator_classes(names: NDArray[np.object_], counts: NDArray[np.int64]) -> NDArray[np.object_]:
    """``large`` for the fifth of creators with most training events (ties at the edge included), else ``small``."""
    events = (
        pl.DataFrame({"name": names, "n": counts}).filter(pl.col("name") != "").group_by("name").agg(pl.col("n").sum())
    )
    if events.is_empty():
        return np.array(["no creator named"] * len(names), dtype=object)
    ordered = events["n"].sort(descending=True)
    edge = max(int(ordered[max(1, round(_LARGE * len(ordered))) - 1]), 1)
    large = set(events.filter(pl.col("n") >= edge)["name"])
    return np.array(
        ["no creator named" if not name else "large" if name in large else "small" for name in names], dtype=object
    )
