"""Training in which groups count by a stated weight: the same recommender, fitted on people drawn by weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain

__all__ = ["balancing_weights", "weighted_domain"]

Doubles = NDArray[np.float64]


def balancing_weights(group: NDArray[np.integer], dial: float) -> Doubles:
    """Weight of each person, ``float64[users]``, at least 1 in every group.

    At dial 1 every group counts as much in sum as the largest (``n_largest / n_group`` each), at 0 everybody counts
    once; between, the power of that. People of no group (-1) count once. (Reweighing of Kamiran and Calders 2012 for
    groups alone.)
    """
    sizes = np.bincount(group[group >= 0])
    of_group = np.divide(sizes.max(initial=1), sizes, out=np.ones(len(sizes)), where=sizes > 0) ** dial
    return np.where(group >= 0, np.append(of_group, 1.0)[group], 1.0)


def weighted_domain(domain: Domain, weights: Doubles, *, rng: np.random.Generator) -> Domain:
    """Return a domain in which each person stands ``weights`` times on average, so that any recommender can be fitted.

    What is left of a weight after whole copies is drawn. With whole weights a Gram matrix of it is exactly
    ``Xᵀ diag(weights) X``. Copies stand behind the people themselves, whose rows stay what they were; nobody may be
    left out, so a weight is at least 1.

    Parameters
    ----------
    domain
        Catalogue, people, training events.
    weights
        ``float64[users]``, at least 1.
    rng
        Draws the parts.
    """
    extra = np.floor(weights - 1 + rng.random(len(weights))).astype(np.int64)
    copied = np.repeat(np.arange(domain.n_users), extra)
    starts = np.searchsorted(domain.events.user, np.arange(domain.n_users + 1))
    length = np.diff(starts)[copied]
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    copies = np.repeat(starts[copied], length) + within
    owner = np.repeat(domain.n_users + np.arange(len(copied)), length)
    events = domain.events.take(np.concatenate([np.arange(len(domain.events)), copies]))
    events = replace(events, user=np.concatenate([domain.events.user, owner]).astype(np.int32))
    names = tuple(f"{domain.user_ids[user]}\x1f{place}" for place, user in enumerate(copied.tolist()))
    return replace(domain, user_ids=domain.user_ids + names, events=events)
