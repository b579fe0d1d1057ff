"""Adding up what partners contribute, in the open: one contribution in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from koinon.recommenders.protocol import Contribution, TensorSpec, Total

__all__ = ["add_up"]


def add_up(specs: Sequence[TensorSpec], contributions: Mapping[str, Contribution]) -> Total:
    """Return the sum of ``sum`` tensors and the mean, weighted by users, of ``mean`` tensors.

    Partners are taken in the order of their names, so that the same contributions give the same bytes whoever
    answered first.
    """
    totals: dict[str, NDArray[np.float64]] = {spec.name: np.zeros(spec.shape) for spec in specs}
    users = 0
    for partner in sorted(contributions):
        contribution = contributions[partner]
        users += contribution.n_users
        for spec in specs:
            weight = contribution.n_users if spec.aggregation == "mean" else 1
            totals[spec.name] += weight * contribution.arrays[spec.name].astype(np.float64)
    for spec in specs:
        if spec.aggregation == "mean":
            totals[spec.name] /= max(users, 1)
    return Total(totals, users, tuple(sorted(contributions)))
