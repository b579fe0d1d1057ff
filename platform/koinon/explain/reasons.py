"""Why an item is recommended, from the recommender's own arithmetic; nothing is invented.

A linear model's score is a sum of parts, each of which belongs to one thing the request holds: a history item, a liked
text, the wish in words, or how popular the item is. Those parts are the reasons. For a recommender that only has
vectors, the nearest history items are named as what they are: near, not causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Recommender, Request

__all__ = ["Additive", "Reason", "Spatial", "explain"]

Kind = Literal["history", "liked", "query", "popularity", "near"]


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for a recommended item.

    Attributes
    ----------
    kind
        ``history``, ``liked``, ``query``, ``popularity``: a part of the score. ``near``: a history item whose text is
        near; no part of the score.
    item
        The history item's index, or ``None``.
    text
        The history item's title, the liked text or the wish; empty for popularity, or where no domain is given.
    value
        What it adds to the score; the cosine for ``near``.
    share
        ``value`` over all that speaks for the item, 0 to 1; 0 for ``near``.
    """

    kind: Kind
    item: int | None
    text: str
    value: float
    share: float


@runtime_checkable
class Additive(Protocol):
    """A recommender whose score is a sum of parts that belong to what the request holds."""

    def attribute(self, request: Request, item: int) -> dict[str, NDArray[np.float64]]:
        """Return ``history``, ``liked``, ``query``, ``popularity`` (those that apply); they sum to the score."""
        ...


@runtime_checkable
class Spatial(Protocol):
    """A recommender that knows every item's place: unit rows ``float32[items, d]``."""

    vectors: NDArray[np.float32]


def explain(
    recommender: Recommender, request: Request, item: int, *, domain: Domain | None = None, limit: int = 3
) -> list[Reason]:
    """Name what speaks for ``item``, the strongest first.

    Parameters
    ----------
    recommender
        Fitted. Without parts or vectors of its own there is nothing to say, and nothing is said.
    request, item
        Who asked, and the item's index in the catalogue.
    domain
        Gives the titles.
    limit
        Reasons at most.

    Returns
    -------
    Only things that the request holds, or popularity, and only those that speak *for* the item. May be empty.

    Raises
    ------
    RecommenderError
        K409 the item is outside the catalogue given.
    """
    if domain is not None and not 0 <= item < domain.n_items:
        raise RecommenderError(
            "K409", f"There is no item {item}; the catalogue has {domain.n_items}.", "Name an item of this catalogue."
        )
    if isinstance(recommender, Additive):
        reasons = _parts(recommender.attribute(request, item), request, domain)
    elif isinstance(recommender, Spatial):
        reasons = _near(recommender.vectors, request, item, domain)
    else:
        reasons = []
    return sorted(reasons, key=lambda reason: -reason.value)[:limit]


def _parts(parts: dict[str, NDArray[np.float64]], request: Request, domain: Domain | None) -> list[Reason]:
    speaking = sum(float(values[values > 0].sum()) for values in parts.values())
    if speaking <= 0:
        return []
    reasons: list[Reason] = []
    together: dict[int, float] = {}
    for taken, value in zip(request.history.tolist(), parts.get("history", np.empty(0)).tolist(), strict=False):
        together[taken] = together.get(taken, 0.0) + value
    for taken, value in together.items():
        reasons.append(Reason("history", taken, _title(domain, taken), value, value / speaking))
    for text, value in zip(request.liked, parts.get("liked", np.empty(0)).tolist(), strict=False):
        reasons.append(Reason("liked", None, text, value, value / speaking))
    for value in parts.get("query", np.empty(0)).tolist():
        reasons.append(Reason("query", None, request.query or "", value, value / speaking))
    for value in parts.get("popularity", np.empty(0)).tolist():
        reasons.append(Reason("popularity", None, "", value, value / speaking))
    return [reason for reason in reasons if reason.value > 0]


def _near(vectors: NDArray[np.float32], request: Request, item: int, domain: Domain | None) -> list[Reason]:
    taken = np.unique(request.history)
    cosines = vectors[taken] @ vectors[item]
    return [
        Reason("near", one, _title(domain, one), cosine, 0.0)
        for one, cosine in zip(taken.tolist(), cosines.tolist(), strict=True)
        if cosine > 0 and one != item
    ]


def _title(domain: Domain | None, item: int) -> str:
    return "" if domain is None else str(domain.items["title"][item])
