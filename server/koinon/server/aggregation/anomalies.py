"""Who stands out: what a contribution looks like beside the others', on the works that it shares with them.

Three figures per partner and tensor, each free of the partner's size and of which works it lists:

=============== ============================================================================================
``rate``         ``log₂`` of its sum per person over the others', on common rows
``cosine``       of its rates to the others', on common rows
``excess``       share of its sum above what :func:`~koinon.server.aggregation.rules.within_reason` allows
``heaviest``     share of its sum on its heaviest work; ``usual``: this work's share of the others'
=============== ============================================================================================

A flag is a reason to look, not a verdict: nobody is left out for it. The thresholds lie beyond what ten honest partners
of eight thousand to sixteen hundred people in four languages show (docs/attacks.md has their figures).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koinon.recommenders.protocol import Contribution, TensorSpec
from koinon.server.aggregation.cells import Cells
from koinon.server.aggregation.rules import Robustness, whole_of, within_reason

__all__ = ["Anomaly", "anomalies"]

Doubles = NDArray[np.float64]

EVIDENCE = 100.0
"""Partners whose common sum is smaller are not judged."""
RATE = 3.0
COSINE = 0.05
EXCESS = 0.05
HEAVIEST = 0.05
UNUSUAL = 5.0
"""A heavy work is flagged where it weighs so many times what it weighs with the others."""


@dataclass(frozen=True)
class Anomaly:
    """One partner's figures in one tensor of one round.

    Attributes
    ----------
    codes
        ``K793`` far more or less per person than the others, ``K794`` another direction, ``K795`` much above what
        the others let expect, ``K792`` one work carries much of it; empty where nothing stands out.
    """

    partner: str
    tensor: str
    rate: float
    cosine: float
    excess: float
    heaviest: float
    usual: float
    codes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        figures = {name: round(value, 4) for name, value in vars(self).items() if isinstance(value, float)}
        return {"partner": self.partner, "tensor": self.tensor, **figures, "codes": list(self.codes)}


def anomalies(
    specs: Sequence[TensorSpec], contributions: Mapping[str, Contribution], cells: Cells, settings: Robustness
) -> list[Anomaly]:
    """Compare every partner with the others together, tensor by tensor; only tensors that count works, without noise.

    A partner that shares too little with the others to say anything is not in the list.
    """
    found = []
    for spec in specs:
        if cells.measure(spec).rows is None or cells.measure(spec).least < 0 or spec.name in cells.noise:
            continue
        whole, units = whole_of(spec, contributions, cells)
        for partner in sorted(contributions):
            own = cells.units(partner, spec, contributions[partner])
            sent = contributions[partner].arrays[spec.name].astype(np.float64)
            held = cells.held(partner, spec)
            common = held & (units > own)
            others = (whole - sent)[common]
            mine, theirs = sent[common] / max(own, 1), others / (units - own)[common]
            if min(sent[common].sum(), own * theirs.sum()) < EVIDENCE:
                continue
            believed = within_reason(spec, sent, own, whole, units, held, cells, settings)
            figures = (
                math.log2(mine.sum() / theirs.sum()),
                float(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs))),
                float(1.0 - believed.sum() / sent.sum()),
                *_heaviest(cells.of_works(spec, sent[common], common), cells.of_works(spec, others, common)),
            )
            found.append(Anomaly(partner, spec.name, *figures, codes=_codes(*figures)))
    return found


def _heaviest(mine: Doubles, theirs: Doubles) -> tuple[float, float]:
    """Share of the heaviest work in one's sums by work, and its share in the others'."""
    work = int(np.argmax(mine))
    return float(mine[work] / mine.sum()), float(theirs[work] / theirs.sum())


def _codes(rate: float, cosine: float, excess: float, heaviest: float, usual: float) -> tuple[str, ...]:
    said = (
        ("K792", heaviest > HEAVIEST and heaviest > UNUSUAL * usual),
        ("K793", abs(rate) > RATE),
        ("K794", cosine < COSINE),
        ("K795", excess > EXCESS),
    )
    return tuple(code for code, stands_out in said if stands_out)
