"""Whom the lists show: attention by place, shares by class of items, and how they stand to what people took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ExpectedExposure",
    "attention",
    "attention_by_class",
    "attention_fairness",
    "expected_exposure",
    "gini_of",
    "rarefied_coverage",
]

Doubles = NDArray[np.float64]
Lists = NDArray[np.int32]


def attention(k: int, patience: float) -> Doubles:
    """Attention that each place of a list gets, ``float64[k]``: ``patience ** (place - 1)``.

    The browsing model of rank-biased precision (Moffat and Zobel 2008): who has looked at one place looks at the next
    with probability ``patience``.
    """
    weights: Doubles = np.power(patience, np.arange(k, dtype=np.float64))
    return weights


def attention_by_class(lists: Lists, class_: NDArray[np.integer], classes: int, weights: Doubles) -> Doubles:
    """Attention that each class of items gets from each user, ``float64[users, classes]``, rows summing to 1.

    ``class_`` ``int[items]``, below 0: of no class. A list without items gives nan.
    """
    there = lists >= 0
    label = np.where(there, class_[lists], -1)
    user, place = np.nonzero(label >= 0)
    flat = np.bincount(
        user * classes + label[user, place], np.broadcast_to(weights, lists.shape)[user, place], len(lists) * classes
    )
    shares = flat.reshape(len(lists), classes)
    total = np.where(there, weights, 0.0).sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Doubles = shares / total
    return result


def attention_fairness(lists: Lists, class_: NDArray[np.integer], shares: Doubles, weights: Doubles) -> Doubles:
    """Attention-weighted rank fairness of each list, ``float64[users]``, 0 to 1.

    One minus the Jensen-Shannon divergence (base 2) between the classes' attention in the list and ``shares``
    ``float64[classes]``, which they ought to get (Sapiezynski, Zeng, Robertson, Mislove and Wilson 2019).
    """
    p = attention_by_class(lists, class_, len(shares), weights)
    middle = (p + shares) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(p > 0, p * np.log2(p / middle), 0.0)
        terms += np.where(shares > 0, shares * np.log2(shares / middle), 0.0)
    fairness: Doubles = 1.0 - np.clip(terms.sum(axis=1) / 2, 0.0, 1.0)
    return np.where(np.isfinite(p).all(axis=1), fairness, np.nan)


@dataclass(frozen=True)
class ExpectedExposure:
    """Expected exposure, mean over users (Diaz, Mitra, Ekstrand, Biega and Carterette 2020).

    Attributes
    ----------
    loss
        EE-L, the squared distance of what items get from what they ought to: ``disparity - 2 relevance + ideal``.
    disparity
        EE-D, the squared length of what they get: large where the same items are always on top.
    relevance
        EE-R, its product with what they ought to get: large where relevant items are on top.
    ideal
        Squared length of what they ought to get.
    """

    loss: float
    disparity: float
    relevance: float
    ideal: float


def expected_exposure(
    samples: NDArray[np.int32], targets: NDArray[np.int32], owner: NDArray[np.integer], items: int, weights: Doubles
) -> ExpectedExposure:
    """Compare what items get with what a policy gives that treats equally relevant items alike.

    A user's relevant items ought to share the attention of the first places equally, all others that of the rest of
    the list. Attention beyond place k is 0 for both.

    Parameters
    ----------
    samples
        ``int32[samples, users, k]``: lists drawn from the policy; one sample for one that always answers alike.
    targets, owner
        ``int[held-out items]``: the relevant items, and whose they are.
    items
        Size of the catalogue.
    weights
        ``float64[k]``: attention by place.
    """
    many, users, k = samples.shape
    relevant = np.bincount(owner, minlength=users)
    reach = np.concatenate(([0.0], np.cumsum(weights)))
    within = np.minimum(relevant, k)
    due = np.where(relevant > 0, reach[within] / np.maximum(relevant, 1), 0.0)
    rest = (reach[k] - reach[within]) / np.maximum(items - relevant, 1)
    marked = np.sort(owner.astype(np.int64) * items + targets)
    disparity = np.zeros(users)
    product = np.zeros(users)
    for user in range(users):
        lists = samples[:, user]
        there = lists >= 0
        shown, where = np.unique(lists[there], return_inverse=True)
        got = np.bincount(where, np.broadcast_to(weights, lists.shape)[there]) / many
        disparity[user] = (got**2).sum()
        wanted = np.isin(user * items + shown.astype(np.int64), marked, assume_unique=False)
        product[user] = (got * np.where(wanted, due[user], rest[user])).sum()
    ideal = relevant * due**2 + (items - relevant) * rest**2
    asked = relevant > 0
    d, r, i = (float(figure[asked].mean()) for figure in (disparity, product, ideal))
    return ExpectedExposure(d - 2 * r + i, d, r, i)


def gini_of(exposure: Doubles) -> float:
    """Gini coefficient of what items get, ``float64[items]``: 0 all alike, towards 1 a few take all; nan if nothing."""
    total = float(exposure.sum())
    if total <= 0:
        return float("nan")
    rank = np.arange(1, len(exposure) + 1)
    return float(((2 * rank - len(exposure) - 1) * np.sort(exposure)).sum() / (len(exposure) * total))


def rarefied_coverage(lists: Lists, items: int, users: int) -> float:
    """Share of the catalogue that the lists of ``users`` of these people show, on average over all ways to choose them.

    A larger group shows more items merely by being larger; at an equal number of people groups can be compared
    (Hurlbert's rarefaction, 1971). At most as many users as there are lists.
    """
    from scipy.special import gammaln

    people = len(lists)
    user, place = np.nonzero(lists >= 0)
    pairs = np.unique(np.column_stack([user, lists[user, place]]), axis=0)
    shown = np.bincount(pairs[:, 1], minlength=items).astype(np.float64)

    def log_choose(n: Doubles | float, m: float) -> Doubles:
        result: Doubles = gammaln(np.asarray(n) + 1.0) - gammaln(m + 1.0) - gammaln(np.asarray(n) - m + 1.0)
        return result

    left = people - shown
    missed = np.zeros(items)
    possible = left >= users
    missed[possible] = np.exp(log_choose(left[possible], users) - log_choose(float(people), users))
    return float((1.0 - missed).sum() / items)
