"""The parts of an evaluation set that are reported apart, each by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain, EvaluationSet
from koinon.errors import EvaluationError

__all__ = ["RULES", "Slice", "build_slices", "head_items"]

RULES: dict[str, str] = {
    "all": "main users, every held-out item, the whole catalogue minus the user's history",
    "cold_items": "main users, only held-out items without a training event, the whole catalogue minus history",
    "cold_among_cold": "main users, only held-out items without a training event, among such items alone",
    "cold_users": "users with at most two events in history, every held-out item, the whole catalogue minus history",
    "long_tail": "main users, only held-out items with a training event that are not among the fifth of the catalogue "
    "with most training events, the whole catalogue minus history",
    "known_elsewhere": "main users who are also at another partner, every held-out item, the whole catalogue minus "
    "history",
}
"""What each slice holds; the texts stand in reports."""


@dataclass(frozen=True)
class Slice:
    """One part of an evaluation set.

    Attributes
    ----------
    name
        A key of :data:`RULES`.
    targets
        ``bool[all targets]``: which held-out items count.
    candidates
        ``int32[n]`` the items ranked, or ``None`` for the whole catalogue.
    """

    name: str
    targets: NDArray[np.bool_]
    candidates: NDArray[np.int32] | None = None


def head_items(domain: Domain, share: float = 0.2) -> NDArray[np.bool_]:
    """``bool[items]``: the ``share`` of the catalogue with most training events (ties at the edge all belong to it)."""
    counts = domain.item_counts
    size = max(1, round(share * domain.n_items))
    edge = np.partition(counts, domain.n_items - size)[domain.n_items - size]
    head: NDArray[np.bool_] = counts >= max(edge, 1)
    return head


def build_slices(
    names: tuple[str, ...],
    domain: Domain,
    evaluation: EvaluationSet,
    known_elsewhere: NDArray[np.integer] | None,
) -> list[Slice]:
    """Build the slices asked for; ``known_elsewhere`` holds user rows of ``domain`` and is left out when ``None``.

    Raises
    ------
    EvaluationError
        K504 a slice of that name does not exist.
    """
    unknown = [name for name in names if name not in RULES]
    if unknown:
        raise EvaluationError("K504", f"There is no slice {unknown[0]!r}.", f"Choose from {', '.join(RULES)}.")
    row = np.repeat(np.arange(len(evaluation)), np.diff(evaluation.target_indptr))
    main = evaluation.main[row]
    cold = domain.item_counts == 0
    cold_target = cold[evaluation.target_items]
    tail_target = ~cold_target & ~head_items(domain)[evaluation.target_items]
    masks = {
        "all": main,
        "cold_items": main & cold_target,
        "cold_among_cold": main & cold_target,
        "cold_users": evaluation.cold_user[row],
        "long_tail": main & tail_target,
    }
    if known_elsewhere is not None:
        masks["known_elsewhere"] = main & np.isin(evaluation.user, known_elsewhere)[row]
    cold_candidates = np.flatnonzero(cold).astype(np.int32)
    return [
        Slice(name, masks[name], cold_candidates if name == "cold_among_cold" else None)
        for name in names
        if name in masks
    ]
