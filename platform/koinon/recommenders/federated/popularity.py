"""Federated popularity: the smallest learner that is worth federating.

Partners add up how often each shared work is taken. It gives a partner a ranking for works it lists but has hardly
sold, serves as a floor for the learners above it, and is small enough to read as an example of how one is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.federated.gram_sums import weights
from koinon.recommenders.federated.identities import catalogue_of, look_up, match_identities
from koinon.recommenders.protocol import Catalogue, Contribution, Measure, Release, Request, Task, TensorSpec, Total
from koinon.recommenders.ranking import Ranked
from koinon.space import Space

__all__ = ["FederatedPopularity", "PopularityFederationConfig", "PopularityPlan"]

Scores = NDArray[np.float32]


class PopularityFederationConfig(Config):
    """Settings of federated popularity, the same at the server and at every partner."""

    rounds: int = Field(default=1, ge=1)
    """Sums gathered; with ``memory`` later ones weigh more."""
    memory: float = Field(default=0.0, ge=0, lt=1)
    """Share of the earlier rounds' counts that a round keeps: shops whose readers change forget slowly."""
    clip: float = Field(default=3.0, gt=0)
    """Bound on the L2 norm of what one person adds to the counts."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the others' counts against the partner's own."""


class PopularityPlan:
    """The server's half: asks for clipped counts over the works that several partners list, and adds them up."""

    name: ClassVar[str] = "federated_popularity"
    config_type: ClassVar[type[PopularityFederationConfig]] = PopularityFederationConfig
    measures: ClassVar[Mapping[str, Measure]] = {"counts": Measure("works", least=0.0, most=1.0)}

    def __init__(self, config: PopularityFederationConfig | None = None) -> None:
        self.config = config or PopularityFederationConfig()
        self.rounds = self.config.rounds

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Match equal keys; ``space`` and ``rng`` are not used."""
        works = match_identities(catalogues, None)
        return Release(
            0,
            self.name,
            {"hashes": works.hashes, "identity": works.identity, "counts": np.zeros(works.n, dtype=np.float32)},
        )

    def shares(self) -> tuple[Mapping[str, float], ...]:
        """Every round's counts get the same."""
        return ({"counts": 1 / self.rounds},) * self.rounds

    def task(self, release: Release, round_: int) -> Task:
        """Ask for one count per work."""
        works = release.arrays["counts"].shape
        return Task(round_, (TensorSpec("counts", works, "float32", "sum", self.config.clip),))

    def aggregate(self, release: Release, total: Total) -> Release:
        """Add the counts to what is remembered of the earlier ones."""
        memory = self.config.memory
        counts = memory * release.arrays["counts"].astype(np.float64) + (1 - memory) * total.arrays["counts"]
        arrays = {**release.arrays, "counts": counts.astype(np.float32)}
        return Release(release.number + 1, self.name, arrays, release.info)


class FederatedPopularity(Ranked):
    """A partner's half: its own counts, mixed with everybody's where a work is shared.

    Parameters
    ----------
    config
        As the federation has agreed.
    match_key
        The partners' secret, where keys travel as keyed hashes.

    Attributes
    ----------
    popularity
        ``float32[items]``, 0 to 1.
    """

    name: ClassVar[str] = "federated_popularity"
    config_type: ClassVar[type[PopularityFederationConfig]] = PopularityFederationConfig

    def __init__(self, config: PopularityFederationConfig | None = None, *, match_key: bytes | None = None) -> None:
        self.config = config or PopularityFederationConfig()
        self.match_key = match_key
        self.popularity: Scores = np.empty(0, dtype=np.float32)
        self._release: Release | None = None

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Count each shared work once per person, then clip every person's counts to the task's bound.

        A person of m shared works adds m times the same weight, ``min(1, clip / √m)`` rounded down
        (:func:`koinon.recommenders.federated.gram_sums.weights`): L2 norm ``clip`` at most.
        """
        (spec,) = task.specs
        work = self._works(domain, release)
        user, item = domain.matrix.nonzero()
        pairs = np.unique(np.stack([user, work[item]])[:, work[item] >= 0], axis=1)
        scale = weights(spec.clip, np.sqrt(np.bincount(pairs[0], minlength=domain.n_users)))
        counts = np.bincount(pairs[1], scale[pairs[0]], minlength=spec.shape[0])
        return Contribution({spec.name: counts.astype(spec.dtype)}, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Adopt the others' counts; :meth:`fit` mixes them in."""
        self._release = release

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Mix own counts with the release's; ``space`` and ``rng`` are not used."""
        own = _scaled(domain.item_counts.astype(np.float64))
        mixed = own
        if self._release is not None:
            work = self._works(domain, self._release)
            others = _scaled(self._release.arrays["counts"].astype(np.float64))
            shared = np.where(work >= 0, others[np.maximum(work, 0)], own) if len(others) else own
            mixed = (1 - self.config.weight) * own + self.config.weight * shared
        self.popularity = mixed.astype(np.float32)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``, the same for everybody."""
        if not len(self.popularity):
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        row = self.popularity if candidates is None else self.popularity[candidates]
        return np.tile(row, (len(requests), 1))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned."""
        return {"popularity": self.popularity}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned."""
        self.popularity = state["popularity"].astype(np.float32)
        return self

    def _works(self, domain: Domain, release: Release) -> NDArray[np.int32]:
        """Shared work of each item, ``int32[items]``, -1 for the partner's own."""
        told = catalogue_of(domain.name, domain.items, public=True, match_key=self.match_key)
        hashes = release.arrays["hashes"].astype(np.uint64)
        return look_up(hashes, release.arrays["identity"].astype(np.int32), told.keys)


def _scaled(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """``log(1 + n)``, 0 to 1."""
    scaled = np.log1p(counts)
    return scaled / max(float(scaled.max(initial=0.0)), 1e-12)
