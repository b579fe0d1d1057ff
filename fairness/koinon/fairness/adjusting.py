"""From comparisons to judged comparisons: p-values adjusted over the whole of each family, then verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from koinon.fairness.results import Comparison, Provider
from koinon.fairness.verdicts import adjust, judge

__all__ = ["adjusted"]


def adjusted(
    comparisons: Sequence[Comparison], providers: Sequence[Provider], everybody: Callable[[Comparison], bool]
) -> tuple[list[Comparison], list[Provider]]:
    """Adjust p-values over the whole of each family, then judge the primary questions.

    ``everybody`` says whether every group was compared: all are shown, and in all enough people have a value.
    """
    both: list[Comparison | Provider] = [*comparisons, *providers]
    corrected: dict[int, float] = {}
    for family in ("primary", "exploratory"):
        places = [place for place, one in enumerate(both) if one.family == family]
        values = [np.nan if (p := both[place].p) is None else p for place in places]
        corrected |= dict(zip(places, adjust(values, primary=family == "primary"), strict=True))
    done: list[Comparison | Provider] = []
    for place, one in enumerate(both):
        p = corrected[place]
        update: dict[str, object] = {"p_adjusted": p if np.isfinite(p) else None}
        if one.tolerance is not None:
            complete = isinstance(one, Provider) or everybody(one)
            lo, hi = (np.nan if end is None else end for end in (one.lo, one.hi))
            update["verdict"], update["reason"] = judge(one.tolerance, lo, hi, p, complete=complete)
        done.append(one.model_copy(update=update))
    return (
        [one for one in done if isinstance(one, Comparison)],
        [one for one in done if isinstance(one, Provider)],
    )
