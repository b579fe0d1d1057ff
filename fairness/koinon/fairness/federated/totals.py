"""The total of all partners' sums, as it may be told: ``totals.json``.

What lies below the minimum, or may do so but for the noise, is struck out here, before anything is judged or written:
the report, and whoever recomputes it, know no more than this file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from koinon.errors import EvaluationError
from koinon.fairness.cells import hide
from koinon.fairness.federated.layout import FIGURES, GAINS, PEOPLE, Division, Layout
from koinon.fairness.federated.noisy import Noise
from koinon.fairness.plan import AuditPlan
from koinon.fairness.results import Answered, Spent

__all__ = ["TOTALS_FILE", "CellSums", "DivisionSums", "Totals", "totals_of"]

TOTALS_FILE = "totals.json"
_SURE = 2.0
"""Standard deviations of its noise by which a count must be above the minimum."""

Doubles = NDArray[np.float64]
Triple = tuple[float, float, float]
"""People, sum and sum of squares of standardised figures (:meth:`Layout.standard`)."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CellSums(_Record):
    """One cell."""

    label: str
    people: float | None
    """``null``: hidden, and so is all else."""
    figures: dict[str, Triple]
    """By metric."""


class DivisionSums(_Record):
    """One group, or several crossed."""

    name: str
    unknown: float
    """People in none of its cells."""
    vanished: list[str]
    cells: list[CellSums]


class Totals(_Record):
    """What an audit of a federation has brought."""

    plan_sha256: str
    policy_sha256: str
    federation: str
    created: str
    secure: bool
    partners: list[Answered]
    privacy: Spent | None
    everybody: dict[str, Triple]
    divisions: list[DivisionSums]
    gains: dict[str, tuple[float, float, float, float, float]] | None
    """By partner what :func:`~koinon.fairness.federated.layout.gains_of` says; ``null``: not asked for."""

    @property
    def noise(self) -> Noise:
        """In the sums of cells."""
        told = {} if self.privacy is None else self.privacy.noise
        return Noise(told.get(PEOPLE, 0.0), told.get(FIGURES, 0.0))

    @property
    def gains_noise(self) -> float:
        """In the gains."""
        return 0.0 if self.privacy is None else self.privacy.noise.get(GAINS, 0.0)

    @property
    def missing(self) -> bool:
        """Whether somebody who was to be asked is not in the sums."""
        return any(one.code is not None for one in self.partners)

    def to_json(self) -> str:
        """Return the document as text, the same for the same totals."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def sha256(self) -> str:
        """SHA-256 (hex) of :meth:`to_json`."""
        return hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Totals:
        """Read and validate a document.

        Raises
        ------
        EvaluationError
            K534 it cannot be read, or is none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise EvaluationError(
                "K534", f"{path} cannot be read as an audit's totals.", "Ask whoever made the audit for it."
            ) from error


def totals_of(
    layout: Layout,
    arrays: Mapping[str, Doubles],
    *,
    plan_sha256: str,
    policy_sha256: str,
    federation: str,
    created: str,
    secure: bool,
    partners: list[Answered],
    privacy: Spent | None,
) -> Totals:
    """Strike out what is too small to be told of.

    Raises
    ------
    EvaluationError
        K522 there are not two groups, K523 almost nobody's is known, K524 a group is below the minimum and the plan
        does not say what to do with it.
    """
    exact = privacy is None
    least = {name: layout.plan.minimum_cell + _SURE * noise for name, noise in _noise(privacy).items()}
    moments = layout.moments(arrays)
    found, hidden = [], dict[str, NDArray[np.bool_]]()
    for start, division in zip(layout.starts(), layout.divisions, strict=True):
        rows = moments[:, start : start + division.size]
        hidden[division.name] = _hidden(division, rows[0].max(axis=1)[:-1], hidden, least[PEOPLE])
        found.append(_division(layout, division, rows, hidden[division.name], least[PEOPLE], exact=exact))
    for one in found[: len(layout.plan.groups)]:
        _check(layout.plan, one, everybody=_everybody(arrays, layout))
    stacked = moments[:, : layout.divisions[0].size].sum(axis=1)
    everybody = {metric: _triple(stacked[:, place]) for place, metric in enumerate(layout.metrics)}
    return Totals(
        plan_sha256=plan_sha256,
        policy_sha256=policy_sha256,
        federation=federation,
        created=created,
        secure=secure,
        partners=partners,
        privacy=privacy,
        everybody=everybody,
        divisions=found,
        gains=_gains(layout, arrays, least[GAINS]) if layout.gains else None,
    )


def _noise(privacy: Spent | None) -> dict[str, float]:
    told = {} if privacy is None else privacy.noise
    return {name: told.get(name, 0.0) for name in (PEOPLE, GAINS)}


def _everybody(arrays: Mapping[str, Doubles], layout: Layout) -> float:
    return float(arrays[PEOPLE][: layout.divisions[0].size].max(axis=1).sum())


def _hidden(
    division: Division, people: Doubles, single: Mapping[str, NDArray[np.bool_]], least: float
) -> NDArray[np.bool_]:
    there = people >= 0.5
    crossed = [*division.parts] if len(division.parts) > 1 else []
    margins = np.column_stack([np.zeros(len(people), dtype=np.int64), *crossed])
    hidden = ~there
    hidden[there] = hide(people[there], margins[there], least)
    if crossed:
        for name, part in zip(division.name.split("*"), division.parts, strict=True):
            hidden |= single[name][part]
    return hidden


def _division(
    layout: Layout,
    division: Division,
    rows: Doubles,
    hidden: NDArray[np.bool_],
    least: float,
    *,
    exact: bool,
) -> DivisionSums:
    people = rows[0].max(axis=1)
    cells, vanished = [], []
    for place, label in enumerate(division.labels):
        if exact and people[place] < 0.5:  # nobody: a group has vanished, a combination need not be there
            if len(division.parts) == 1:
                vanished.append(label)
            continue
        if hidden[place]:
            cells.append(CellSums(label=label, people=None, figures={}))
            continue
        sums = rows[:, place]
        figures = {
            metric: _triple(sums[:, column]) for column, metric in enumerate(layout.metrics) if sums[0, column] >= least
        }
        cells.append(CellSums(label=label, people=float(people[place]), figures=figures))
    return DivisionSums(name=division.name, unknown=float(max(people[-1], 0.0)), vanished=vanished, cells=cells)


def _check(plan: AuditPlan, division: DivisionSums, *, everybody: float) -> None:
    group = next(one for one in plan.groups if one.name == division.name)
    if group.required and everybody - division.unknown < 0.1 * everybody:
        raise EvaluationError(
            "K523",
            f"Group {group.name!r}: of {everybody:,.0f} people almost nobody's is known.",
            "Leave the group out, or set `required = false` in the plan.",
        )
    if group.required and len(division.cells) < 2:
        raise EvaluationError(
            "K522",
            f"Group {group.name!r} has one value: nobody to compare with.",
            "Leave the group out, or set `required = false` in the plan.",
        )
    small = [cell.label for cell in division.cells if cell.people is None]
    if small and group.small == "refuse":
        raise EvaluationError(
            "K524",
            f"Group {group.name!r}: {', '.join(small)}: fewer than {plan.minimum_cell} people, or needed to hide such.",
            'Merge it with another in the plan, or say `small = "withhold"`.',
        )


def _gains(
    layout: Layout, arrays: Mapping[str, Doubles], least: float
) -> dict[str, tuple[float, float, float, float, float]]:
    rows = zip(layout.plan.data.sources, arrays[GAINS].tolist(), strict=True)
    return {name: tuple(row) for name, row in rows if row[0] >= least}


def _triple(values: Doubles) -> Triple:
    people, sums, squares = values.tolist()
    return people, sums, squares
