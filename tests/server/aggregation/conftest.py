"""Five made shops over one list of works, and what they would answer in the two rounds of federated Gram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from koinon.recommenders.federated.gram import GramPlan
from koinon.recommenders.protocol import Catalogue, Contribution, Release, TensorSpec, Total
from koinon.server.aggregation import Cells

WORKS = 120
PEOPLE = {"alpha": 900, "beta": 400, "gamma": 250, "delta": 150, "epsilon": 80}


@dataclass
class Shops:
    """Contributions of honest shops.

    Attributes
    ----------
    release
        The second round's: counts and pairs are named.
    counts, pairs
        By partner.
    """

    release: Release
    catalogues: dict[str, Catalogue]
    counts: dict[str, Contribution]
    pairs: dict[str, Contribution]
    bought: dict[str, NDArray[np.bool_]]

    @property
    def cells(self) -> Cells:
        return Cells(self.release, GramPlan.measures, self.catalogues)

    def spec(self, name: str) -> TensorSpec:
        return TensorSpec(name, next(iter(getattr(self, name).values())).arrays[name].shape, "float32", "sum", 60.0)

    def ends(self, work: int) -> NDArray[np.bool_]:
        """Which pairs a work is in."""
        first, second = self.cells.ends()
        return (first == work) | (second == work)


def _shops(seed: int = 0) -> Shops:
    """Readers of three tastes; shop number n does not list the works n·10 … n·10 + 9."""
    rng = np.random.default_rng(seed)
    taste = rng.dirichlet(np.full(WORKS, 0.15), size=3)
    missing = {name: np.arange(n * 10, n * 10 + 10) for n, name in enumerate(PEOPLE)}
    bought = {}
    for name, people in PEOPLE.items():
        mine = np.zeros((people, WORKS), dtype=np.bool_)
        for row, kind in zip(mine, rng.choice(3, size=people), strict=True):
            row[rng.choice(WORKS, size=6, replace=False, p=0.9 * taste[kind] + 0.1 / WORKS)] = True
        mine[:, missing[name]] = False
        bought[name] = mine
    keys = [f"work {number:03d}|" for number in range(WORKS)]
    catalogues = {
        name: Catalogue(name, tuple(k for n, k in enumerate(keys) if n not in missing[name]), None, None)
        for name in PEOPLE
    }
    plan = GramPlan()
    release = plan.initial(list(catalogues.values()), None, rng=rng)
    counts = {
        name: Contribution({"counts": mine.sum(axis=0).astype(np.float32)}, len(mine)) for name, mine in bought.items()
    }
    whole = np.sum([given.arrays["counts"] for given in counts.values()], axis=0, dtype=np.float64)
    release = plan.aggregate(release, Total({"counts": whole}, sum(PEOPLE.values()), tuple(sorted(PEOPLE))))
    first, second = Cells(release, GramPlan.measures, catalogues).ends()
    pairs = {}
    for name, mine in bought.items():
        gram = mine.astype(np.float32).T @ mine.astype(np.float32)
        pairs[name] = Contribution({"pairs": gram[first, second]}, len(mine))
    return Shops(release, catalogues, counts, pairs, bought)


@pytest.fixture(scope="session")
def shops() -> Shops:
    return _shops()


@pytest.fixture(scope="session")
def make_shops() -> Callable[[int], Shops]:
    return _shops
