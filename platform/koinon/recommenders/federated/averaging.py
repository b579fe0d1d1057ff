"""Averages of partners' changes: what a partner's change counts, how far it may go, and the server's step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ServerStep", "Weighting", "weight_of", "within"]

Weighting = Literal["people", "root", "equal"]

MOMENTUM, SPREAD, FLOOR = 0.9, 0.99, 1e-3
"""β₁, β₂ and τ of FedAdam."""


def weight_of(weighting: Weighting, people: int) -> float:
    """What a partner's change counts: its people, the root of their number, or 1; 0 where there is nobody."""
    return {"people": float(people), "root": math.sqrt(people), "equal": float(people > 0)}[weighting]


def within(clip: float, changes: Mapping[str, NDArray[np.float64]]) -> float:
    """The factor that brings changes, taken together, to a norm of at most ``clip``."""
    norm = math.sqrt(sum(float((change**2).sum()) for change in changes.values()))
    return min(1.0, clip * (1 - 1e-6) / norm) if norm > 0 else 1.0


class ServerStep:
    """A step along the mean change.

    ``average`` takes it, ``rate`` times (FedAvg, McMahan et al. 2017); with ``adam`` it is what Adam steps along (Reddi
    et al. 2021, "Adaptive federated optimization", algorithm 2): ``m = β₁m + (1-β₁)Δ``, ``v = β₂v + (1-β₂)Δ²``,
    ``x + η m / (√v + τ)``.

    Parameters
    ----------
    kind
        Which of the two.
    rate
        ``η``; 1 for the plain average.
    """

    def __init__(self, kind: Literal["average", "adam"], rate: float) -> None:
        self.kind, self.rate = kind, rate
        self._first: dict[str, NDArray[np.float64]] = {}
        self._second: dict[str, NDArray[np.float64]] = {}

    def __call__(self, name: str, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """The step of one parameter, ``float64`` in its shape."""
        if self.kind == "average":
            return self.rate * mean
        first = self._first.get(name, np.zeros(mean.shape))
        second = self._second.get(name, np.full(mean.shape, FLOOR**2))
        self._first[name] = MOMENTUM * first + (1 - MOMENTUM) * mean
        self._second[name] = SPREAD * second + (1 - SPREAD) * mean**2
        step: NDArray[np.float64] = self.rate * self._first[name] / (np.sqrt(self._second[name]) + FLOOR)
        return step

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return Adam's moments."""
        kept: dict[str, NDArray[np.generic]] = {f"first/{name}": value for name, value in self._first.items()}
        return {**kept, **{f"second/{name}": value for name, value in self._second.items()}}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take them back."""
        for name, value in state.items():
            moment, _, parameter = name.partition("/")
            (self._first if moment == "first" else self._second)[parameter] = value.astype(np.float64)
