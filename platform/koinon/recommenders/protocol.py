"""The one shape every recommender has, whatever its paradigm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # Flower starts a process for every message: what a partner sends must be said without loading tables
    from koinon.data import Domain, Marks
    from koinon.space import Space

__all__ = [
    "Catalogue",
    "Contribution",
    "FederatedRecommender",
    "FederationPlan",
    "Measure",
    "Recommendation",
    "Recommender",
    "Release",
    "Request",
    "Task",
    "TensorSpec",
    "Total",
]

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """A known user, a new user, or words: one shape.

    Attributes
    ----------
    history
        ``int32[n]`` items of this partner's catalogue, oldest first; may be empty.
    user
        Row in ``Domain.user_ids`` for a known user; ``None`` for a stranger. ``history`` counts, not the row.
    liked
        Texts of things liked that are *not* in the catalogue (other shops, other languages).
    query
        A wish in words, any language.
    time
        Milliseconds since 1970 UTC at which the request is made.
    times
        ``int64[n]`` when each event of ``history`` happened, same unit; ``None`` where that is not known.
    marks
        Kinds, weights and contexts of the events of ``history``, ``n`` of them; ``None`` where they are not known.
    """

    history: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    user: int | None = None
    liked: tuple[str, ...] = ()
    query: str | None = None
    time: int | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    times: NDArray[np.int64] | None = None
    marks: Marks | None = None


@dataclass(frozen=True)
class Recommendation:
    """One row of a list: item index, score (comparable within one list only)."""

    item: int
    score: float


@runtime_checkable
class Recommender(Protocol):
    """Fit on a domain, score candidates for requests."""

    name: ClassVar[str]

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Learn from the domain's training events; ``space`` gives item vectors to those that use texts."""
        ...

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Float:
        """Return ``float32[requests, candidates]``; ``None``: the whole catalogue. History is not masked."""
        ...

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """Return the ``k`` best unseen items per request, best first."""
        ...


@dataclass(frozen=True)
class TensorSpec:
    """What one tensor that leaves a partner looks like. It depends on the policy alone, never on events.

    Attributes
    ----------
    name, shape, dtype
        As in safetensors; ``dtype`` is a numpy name, e.g. ``float32``.
    aggregation
        ``sum``: statistics are added; ``mean``: updates are averaged, weighted as the plan says.
    clip
        Bound on the tensor's L2 norm as a whole (for ``sum`` of per-user statistics: per user, see the plan);
        ``inf`` for none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    aggregation: Literal["sum", "mean"]
    clip: float = float("inf")


@dataclass(frozen=True)
class Measure:
    """What one unit can add to a tensor: a server holds what partners send against it, and against each other.

    Attributes
    ----------
    rows
        What the first axis counts: ``works`` (the release's identities), ``pairs`` of works, or ``None``. A partner
        that does not list a work has nothing to say of its rows.
    unit
        What is added up: a ``person``'s statistics, or an ``item``'s of the catalogue.
    least, most
        What one unit may add to one cell.
    norm
        What one unit may add to the tensor's L2 norm, where the spec's ``clip`` does not say it.
    fresh
        Whether it depends on the release, so that no two rounds give the same bytes but zeros.
    """

    rows: Literal["works", "pairs"] | None = None
    unit: Literal["person", "item"] = "person"
    least: float = float("-inf")
    most: float = float("inf")
    norm: float = float("inf")
    fresh: bool = False


@dataclass(frozen=True)
class Release:
    """One numbered state of the shared parameters of one recommender."""

    number: int
    recommender: str
    arrays: Mapping[str, NDArray[np.generic]]
    info: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What a partner is asked for in one round: the tensors the policy allows and plain settings."""

    round: int
    specs: tuple[TensorSpec, ...]
    settings: Mapping[str, float | int | str] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Contribution:
    """What a partner answers: exactly the tensors of the task's specs.

    ``metrics`` holds only names the policy declares (e.g. the partner's validation NDCG@10).
    """

    arrays: Mapping[str, NDArray[np.generic]]
    n_users: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Total:
    """What a round's contributions come to: all that a plan learns of them, so that they can be added up unseen.

    Attributes
    ----------
    arrays
        ``float64``, as the specs name and shape them: sums, or means weighted by users.
    n_users
        People they speak for.
    partners
        Who is in them, ascending.
    noise
        Standard deviation of the noise in each value of a tensor, under a privacy budget.
    """

    arrays: Mapping[str, NDArray[np.float64]]
    n_users: int
    partners: tuple[str, ...]
    noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Catalogue:
    """What a partner has declared public of its items, as the server sees it.

    Attributes
    ----------
    partner
        Name.
    keys
        ``str[items]``: the normalised identity key (title and creator), or its keyed hash for a secret catalogue.
    texts, languages
        ``str[items]`` each, or ``None`` for a secret catalogue.
    """

    partner: str
    keys: tuple[str, ...]
    texts: tuple[str, ...] | None
    languages: tuple[str, ...] | None


@runtime_checkable
class FederatedRecommender(Recommender, Protocol):
    """A recommender some of whose parameters are shared. Lives at the partner, across rounds."""

    def receive(self, release: Release) -> None:
        """Adopt the shared part; keep the private part."""
        ...

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Work on private data and give what the task's specs name, nothing else."""
        ...


class FederationPlan(Protocol):
    """The server's half of a federated recommender: what to ask for, and what the total means.

    Everything here is computed from the policy, public catalogues and earlier releases, never from events.
    """

    name: ClassVar[str]
    measures: ClassVar[Mapping[str, Measure]]
    rounds: int

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Return release 0."""
        ...

    def shares(self) -> Sequence[Mapping[str, float]]:
        """Return, for each round, the tensors that depend on events and their parts of a privacy budget.

        They come to 1 in sum, or there are none.
        """
        ...

    def task(self, release: Release, round_: int) -> Task:
        """Return what every partner is asked for in a round (1-based)."""
        ...

    def aggregate(self, release: Release, total: Total) -> Release:
        """Return the next release from what those who answered come to."""
        ...
