"""From attributes to cells: who is in which group, who is unknown, which cells are too small to be told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.errors import EvaluationError
from koinon.fairness.groups import UNKNOWN
from koinon.fairness.plan import GroupPlan

__all__ = ["Grouping", "activity", "activity_labels", "cross", "divide", "hide", "merged"]

_KNOWN_AT_LEAST = 0.1
_OTHER = "small groups together"


@dataclass(frozen=True)
class Grouping:
    """People divided.

    Attributes
    ----------
    name
        Of the group in the plan, or several joined by ``*``.
    labels
        Cells, in the order of their numbers.
    cell
        ``int64[users]``; -1: unknown, in no cell.
    hidden
        ``bool[cells]``: too small to be told of, or needed to hide one that is.
    vanished
        Cells that ought to be there and have nobody.
    pooled
        Small groups that make up the cell ``small groups together``, also those of which nobody was measured.
    declared
        The label of everybody declared, measured or not, where an attribute tells; else ``None``.
    """

    name: str
    labels: tuple[str, ...]
    cell: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    vanished: tuple[str, ...] = ()
    pooled: tuple[str, ...] = ()
    declared: pl.Series | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``int64[cells]``: users."""
        return np.bincount(self.cell[self.cell >= 0], minlength=len(self.labels))

    @property
    def unknown(self) -> int:
        """Users whose value is not known."""
        return int((self.cell < 0).sum())

    @property
    def shown(self) -> NDArray[np.int64]:
        """Numbers of the cells that are told of."""
        return np.flatnonzero(~self.hidden)

    @property
    def complete(self) -> bool:
        """Whether every group that ought to be judged is."""
        return not self.vanished and not self.hidden.any()


def divide(plan: GroupPlan, values: pl.Series, declared: pl.Series | None, minimum: int) -> Grouping:
    """Divide people by the values of one attribute.

    Parameters
    ----------
    plan
        How.
    values
        One text or null per user that was measured.
    declared
        The same for everybody in the users table, measured or not: a value that only stands here has vanished.
    minimum
        The smallest cell that is shown.

    Raises
    ------
    EvaluationError
        K522 there is but one value, K523 almost nobody's is known, K524 a group is below the minimum and the plan does
        not say what to do with it.
    """
    values, declared = merged(values, plan), None if declared is None else merged(declared, plan)
    known = values.len() - values.null_count()
    if plan.required and known < _KNOWN_AT_LEAST * max(values.len(), 1):
        raise EvaluationError(
            "K523",
            f"Group {plan.name!r}: of {values.len():,} people only {known:,} declare it.",
            "Leave the group out, or set `required = false` in the plan.",
        )
    sizes: dict[str, int] = dict(values.drop_nulls().value_counts().iter_rows())
    if len(sizes) < 2:
        raise _one_value(plan.name, next(iter(sizes), "none"))
    small = sorted(name for name, size in sizes.items() if size < minimum)
    if small and plan.small == "refuse":
        raise EvaluationError(
            "K524",
            f"Group {plan.name!r}: {', '.join(small)} {'has' if len(small) == 1 else 'have'} fewer than {minimum} "
            "people.",
            'Merge it with another in the plan, or say `small = "pool"` or `small = "withhold"`.',
        )
    pooled: tuple[str, ...] = ()
    if small and plan.small == "pool":
        people: dict[str, int] = {} if declared is None else dict(declared.drop_nulls().value_counts().iter_rows())
        few = {name for name, size in people.items() if name not in sizes and size < minimum}
        pooled = tuple(sorted({*_together(sizes, minimum), *few}))
        named = dict.fromkeys(pooled, _OTHER)
        values, declared = values.replace(named), None if declared is None else declared.replace(named)
        sizes = dict(values.drop_nulls().value_counts().iter_rows())
        if len(sizes) < 2:
            raise _one_value(plan.name, _OTHER)
    expected = set(plan.values) | (set() if declared is None else set(declared.drop_nulls().unique()))
    vanished = tuple(sorted(expected - set(sizes) - set(pooled)))
    labels = tuple(sorted(sizes, key=_natural))
    number = {label: place for place, label in enumerate(labels)}
    cell = np.array([number.get(value, -1) for value in values], dtype=np.int64)
    counts = np.array([sizes[label] for label in labels])
    hidden = hide(counts, np.zeros((len(labels), 1), dtype=np.int64), minimum)
    return Grouping(plan.name, labels, cell, hidden, vanished, pooled, declared)


def cross(parts: Sequence[Grouping], minimum: int) -> Grouping:
    """Intersect groupings: a cell for every combination that somebody is in; small ones are hidden.

    A hidden cell cannot be worked out from the groups' totals: among the cells of each single group that is crossed,
    never exactly one is hidden.
    """
    names = "*".join(part.name for part in parts)
    combined = np.zeros(len(parts[0].cell), dtype=np.int64)
    unknown = np.zeros(len(combined), dtype=np.bool_)
    for part in parts:
        combined = combined * len(part.labels) + np.maximum(part.cell, 0)
        unknown |= part.cell < 0
    every = [" × ".join(words) for words in product(*(part.labels for part in parts))]
    counts = np.bincount(combined[~unknown], minlength=len(every))
    there = np.flatnonzero(counts > 0)
    place = np.full(len(every), -1, dtype=np.int64)
    place[there] = np.arange(len(there))
    single = np.array(list(product(*(range(len(part.labels)) for part in parts))), dtype=np.int64)[there]
    margins = np.column_stack([np.zeros(len(there), dtype=np.int64), single])
    hidden = hide(counts[there], margins, minimum)
    for axis, part in enumerate(parts):
        hidden |= part.hidden[single[:, axis]]
    cell = np.where(unknown, -1, place[combined])
    labels = tuple(every[number] for number in there)
    return Grouping(names, labels, cell, hidden, tuple(sorted(_declared(parts) - set(labels))))


def _declared(parts: Sequence[Grouping]) -> set[str]:
    """Combinations that declared people are in, measured or not."""
    columns = [part.declared for part in parts if part.declared is not None]
    if len(columns) < len(parts):
        return set()
    table = pl.DataFrame({str(place): column for place, column in enumerate(columns)}).drop_nulls().unique()
    return {" × ".join(row) for row in table.iter_rows()}


def activity(history: NDArray[np.integer], bands: Sequence[int]) -> pl.Series:
    """Say in words how many events each person has in history."""
    words = activity_labels(bands)
    return pl.Series([words[band] for band in np.searchsorted(list(bands), history, side="right")], dtype=pl.String)


def activity_labels(bands: Sequence[int]) -> list[str]:
    """Say each band in words, lowest first."""
    between = [f"{a} to {b - 1}" for a, b in pairwise(bands)]
    return [f"fewer than {bands[0]}", *between, f"{bands[-1]} and more"]


def _one_value(name: str, value: str) -> EvaluationError:
    said = f"Group {name!r} has one value ({value}): nobody to compare with."
    return EvaluationError("K522", said, "Leave the group out.")


def _together(sizes: Mapping[str, int], minimum: int) -> list[str]:
    """Groups below the minimum, and the next smallest until together they reach it."""
    chosen: list[str] = []
    total = 0
    for size, name in sorted((size, name) for name, size in sizes.items()):
        if size >= minimum and total >= minimum:
            break
        chosen.append(name)
        total += size
    return chosen


def merged(values: pl.Series, plan: GroupPlan) -> pl.Series:
    """One text or null per user: trimmed, "unknown" is nothing, and the plan's groups for the values they take in."""
    clean = values.cast(pl.String).str.strip_chars()
    clean = pl.select(pl.when(clean != "", clean.str.to_lowercase() != UNKNOWN).then(clean)).to_series()
    renamed: Mapping[str, str] = {old: new for new, olds in plan.merge.items() for old in olds}
    return clean.replace(renamed) if renamed else clean


def hide(sizes: NDArray[np.number], margins: NDArray[np.int64], minimum: float) -> NDArray[np.bool_]:
    """Cells below the minimum, and as many more as keep them from being the one unknown of a published total.

    ``margins`` ``int[cells, totals]`` says which total of each kind a cell adds to.
    """
    hidden: NDArray[np.bool_] = sizes < minimum
    changed = True
    while changed:
        changed = False
        for column in margins.T:
            for total in np.unique(column):
                mine = np.flatnonzero(column == total)
                if hidden[mine].sum() == 1 and len(mine) > 1:
                    rest = mine[~hidden[mine]]
                    hidden[rest[np.argmin(sizes[rest])]] = True
                    changed = True
    return hidden


def _natural(label: str) -> tuple[float, str]:
    """Bands by their number, "under" and "fewer" first; then names by the alphabet."""
    digits = "".join(c if c.isdigit() else " " for c in label).split()
    if not digits:
        return (float("inf"), label)
    return (float(digits[0]) - (0.5 if label.startswith(("under", "fewer", "<")) else 0.0), label)
