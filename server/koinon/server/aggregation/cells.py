"""Which cells of a tensor a partner can speak of, and for how many people or items it does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from koinon.recommenders.federated.identities import look_up
from koinon.recommenders.protocol import Catalogue, Contribution, Measure, Release, TensorSpec

__all__ = ["Cells"]


class Cells:
    """What follows from the catalogues alone: a partner that does not list a work sends 0 there, and 0 is no opinion.

    Parameters
    ----------
    release
        The release the contributions were asked with; its ``hashes`` and ``identity`` name the works, ``start`` and
        ``other`` the pairs.
    measures
        As the plan says.
    catalogues
        By partner.
    noise
        Standard deviation of the privacy noise that a partner's tensor has by the policy, by tensor: noise is nobody's
        fault.
    """

    def __init__(
        self,
        release: Release,
        measures: Mapping[str, Measure],
        catalogues: Mapping[str, Catalogue],
        noise: Mapping[str, float] | None = None,
    ) -> None:
        self.release = release
        self.measures = measures
        self.catalogues = catalogues
        self.noise = noise or {}
        self._works: dict[str, NDArray[np.bool_]] = {}
        self._ends: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    def measure(self, spec: TensorSpec) -> Measure:
        """What one unit may add to a tensor; no bound for one that the plan does not describe."""
        return self.measures.get(spec.name, Measure())

    def held(self, partner: str, spec: TensorSpec) -> NDArray[np.bool_]:
        """Rows of a tensor that a partner can speak of, ``bool[spec.shape[0]]``; all of one that counts no works."""
        match self.measure(spec).rows:
            case "works":
                return self._listed(partner)
            case "pairs":
                listed = self._listed(partner)
                first, second = self.ends()
                return listed[first] & listed[second]
            case _:
                return np.ones(spec.shape[:1], dtype=np.bool_)

    def units(self, partner: str, spec: TensorSpec, contribution: Contribution) -> int:
        """How many people, or items, a tensor of this partner is a sum over."""
        if self.measure(spec).unit == "item":
            return len(self.catalogues[partner].keys)
        return contribution.n_users

    def ends(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The two works of every pair, ``int32[pairs]`` each."""
        if self._ends is None:
            start = self.release.arrays["start"].astype(np.int64)
            first = np.repeat(np.arange(len(start) - 1, dtype=np.int32), np.diff(start))
            self._ends = first, self.release.arrays["other"].astype(np.int32)
        return self._ends

    def of_works(self, spec: TensorSpec, values: NDArray[np.float64], held: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Sum a counting tensor's ``held`` cells by work, ``float64[works]``; a pair counts for both its works."""
        if self.measure(spec).rows == "works":
            cells = np.zeros(self.works)
            cells[held] = values
            return cells
        by_first, by_second = (np.bincount(end[held], values, self.works) for end in self.ends())
        return np.asarray(by_first + by_second, dtype=np.float64)

    @property
    def works(self) -> int:
        """How many works the release names."""
        return len(self.release.arrays["counts"])

    def norm_bound(self, spec: TensorSpec) -> float:
        """What one unit may add to a tensor's L2 norm."""
        return min(spec.clip, self.measure(spec).norm)

    def _listed(self, partner: str) -> NDArray[np.bool_]:
        if partner not in self._works:
            arrays = self.release.arrays
            hashes, identity = arrays["hashes"].astype(np.uint64), arrays["identity"].astype(np.int32)
            named = look_up(hashes, identity, self.catalogues[partner].keys)
            self._works[partner] = np.zeros(self.works, dtype=np.bool_)
            self._works[partner][named[named >= 0]] = True
        return self._works[partner]
