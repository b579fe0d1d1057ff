"""Which sums an audit's plan asks for: the cells of every grouping, fixed before anybody is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from koinon.fairness.cells import activity_labels
from koinon.fairness.metrics import METRICS
from koinon.fairness.plan import AuditPlan, GroupPlan
from koinon.recommenders.protocol import TensorSpec

__all__ = ["FIGURES", "GAINS", "PEOPLE", "Division", "Layout", "controls", "gains_of", "joint_name"]

Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]

PEOPLE, FIGURES, GAINS = "people", "figures", "gains"


@dataclass(frozen=True)
class Division:
    """The cells of one group, or of several crossed.

    Attributes
    ----------
    name
        As in a plan.
    labels
        Cells, in the order of their numbers; people of none of them are counted in one more, the last.
    parts
        For each group that is crossed, the number of its label in each cell, ``int64[parts, cells]``.
    """

    name: str
    labels: tuple[str, ...]
    parts: Labels

    @property
    def size(self) -> int:
        """Rows in the sums: cells, and one for everybody else."""
        return len(self.labels) + 1


@dataclass(frozen=True)
class Layout:
    """Where everything lies in an audit's sums.

    A person's figure ``v`` travels as ``x = (v - low) / (high - low) - 1/2`` with its metric's span, taken to the ends
    where it lies beyond. Beside the sums of ``x`` travel those of ``2 (1/4 - x²)``, from which the squares follow. A
    person moves the two together by ``√(x² + 4 (1/4 - x²)²) ≤ 1/2`` (L2; convex in ``x²``, and 1/2 at 0 and at 1/4),
    no more than ``x`` alone: the squares cost no privacy of their own.

    Parameters
    ----------
    plan
        Of a federation.
    """

    plan: AuditPlan

    @cached_property
    def divisions(self) -> tuple[Division, ...]:
        """Groups, then intersections, then what else is crossed with a control."""
        single = {group.name: _labels(group, self.plan.data.sources) for group in self.plan.groups}
        found = [Division(name, labels, np.arange(len(labels))[None]) for name, labels in single.items()]
        controlled = [tuple(joint_name(group, control).split("*")) for group, control in controls(self.plan)]
        for names in dict.fromkeys((*self.plan.intersections, *controlled)):
            every = list(product(*(single[name] for name in names)))
            place = np.array(list(product(*(range(len(single[name])) for name in names))), dtype=np.int64)
            found.append(Division("*".join(names), tuple(" × ".join(words) for words in every), place.T))
        return tuple(found)

    @property
    def metrics(self) -> tuple[str, ...]:
        """As in the plan."""
        return self.plan.metrics

    @property
    def rows(self) -> int:
        """Of the sums."""
        return sum(division.size for division in self.divisions)

    def starts(self) -> list[int]:
        """First row of each division."""
        sizes = [division.size for division in self.divisions]
        return [sum(sizes[:place]) for place in range(len(sizes))]

    def specs(self) -> tuple[TensorSpec, ...]:
        """Return the tensors of the one round.

        What one person may add (L2): with G divisions and M metrics √(GM) to ``people`` and half of it to ``figures``
        (sums of ``x`` above, of ``2 (1/4 - x²)`` below), since it is in one cell of each division; √5 to ``gains``.
        """
        metrics = len(self.metrics)
        person = float(np.sqrt(len(self.divisions) * metrics))
        specs = [
            TensorSpec(PEOPLE, (self.rows, metrics), "float64", "sum", person),
            TensorSpec(FIGURES, (2 * self.rows, metrics), "float64", "sum", person / 2),
        ]
        if self.gains:
            specs.append(TensorSpec(GAINS, (len(self.plan.data.sources), 5), "float64", "sum", float(np.sqrt(5))))
        return tuple(specs)

    @property
    def gains(self) -> bool:
        """Whether partners' own gains are asked for: a row per partner, see :func:`gains_of`."""
        return self.plan.federated is not None and self.plan.federated.gains

    @cached_property
    def spans(self) -> Doubles:
        """``float64[2, metrics]``: low ends and widths."""
        spans = np.array([METRICS[name].span for name in self.metrics])
        return np.stack([spans[:, 0], spans[:, 1] - spans[:, 0]])

    def standard(self, values: Doubles) -> Doubles:
        """Figures ``float64[..., metrics]`` as they travel."""
        low, width = self.spans
        scaled: Doubles = np.clip((values - low) / width, 0.0, 1.0) - 0.5
        return scaled

    def number(self, division: Division, values: Mapping[str, Sequence[str | None]]) -> Labels:
        """Which row of a division each person is counted in, ``int64[people]``.

        Parameters
        ----------
        division
            One of :attr:`divisions`.
        values
            Group to the value of each person, or ``None``.
        """
        names = division.name.split("*")
        by_label = {label: place for place, label in enumerate(division.labels)}
        rows = zip(*(values[name] for name in names), strict=True)
        last = len(division.labels)
        return np.array(
            [last if None in row else by_label.get(" × ".join(map(str, row)), last) for row in rows], dtype=np.int64
        )

    def sums(self, values: Doubles, people: Mapping[str, Sequence[str | None]]) -> dict[str, Doubles]:
        """Add people up.

        Parameters
        ----------
        values
            ``float64[people, metrics]``; nan where somebody has no figure.
        people
            Group to the value of each person, or ``None``.

        Returns
        -------
        ``people`` ``float64[rows, metrics]`` and ``figures`` ``float64[2 rows, metrics]``.
        """
        known = np.isfinite(values)
        figures = np.where(known, self.standard(np.where(known, values, 0.0)), 0.0)
        middles = np.where(known, 2 * (0.25 - figures**2), 0.0)
        people_, sums, below = (np.zeros((self.rows, len(self.metrics))) for _ in range(3))
        for start, division in zip(self.starts(), self.divisions, strict=True):
            row = start + self.number(division, people)
            for found, part in ((people_, known.astype(np.float64)), (sums, figures), (below, middles)):
                np.add.at(found, row, part)
        return {PEOPLE: people_, FIGURES: np.vstack([sums, below])}

    def moments(self, arrays: Mapping[str, Doubles]) -> Doubles:
        """People, sums and sums of squares of standardised figures, ``float64[3, rows, metrics]``, from a total."""
        people, figures = arrays[PEOPLE], arrays[FIGURES]
        sums, middles = figures[: self.rows], figures[self.rows :]
        return np.stack([people, sums, people / 4 - middles / 2])


def controls(plan: AuditPlan) -> list[tuple[str, str]]:
    """Each primary question's group with each control at whose equal levels it is asked once more."""
    groups = dict.fromkeys(question.group for question in plan.primary)
    return [(group, control) for group in groups for control in plan.control if control not in group.split("*")]


def joint_name(group: str, control: str) -> str:
    """Name of the division that crosses a group with a control."""
    return f"{group}*{control}"


def gains_of(deployed: Doubles, local: Doubles) -> Doubles:
    """One partner's row of ``gains``, ``float64[5]``.

    People, the sums of their figures under the own local model and under the deployed one (0 to 1 each), of the
    squared differences, and how many are served worse.
    """
    difference = deployed - local
    row = [len(deployed), local.sum(), deployed.sum(), (difference**2).sum(), (difference < 0).sum()]
    return np.array(row, dtype=np.float64)


def _labels(group: GroupPlan, sources: Sequence[str]) -> tuple[str, ...]:
    if group.by == "activity":
        return tuple(activity_labels(group.bands))
    return tuple(sources) if group.by == "partner" else tuple(dict.fromkeys(group.values))
