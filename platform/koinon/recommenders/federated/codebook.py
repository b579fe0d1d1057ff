"""Federated codebook: partners add up their catalogues, level by level, to one vocabulary for items nobody shares.

The codebook (:mod:`koinon.space.codebook`) is fitted by Lloyd's iteration. In each round a partner sends, for the codes
of the level at work, how many of its items each has, the sum of their squared lengths and their sum; the server moves
the centroids. The totals over partners are those of the joined catalogue, so the codebook is too. No event is looked
at: nothing of it costs privacy budget. What a code with a single item says is that item's place in the space, which is
no secret of a public catalogue; a secret one needs ``aggregation = "secure"`` and partners whose catalogues overlap in
meaning.

Another learner whose items are read as codes puts these rounds before its own: :meth:`CodebookPlan.task` and
:meth:`CodebookPlan.aggregate` on its release, :func:`codebook_moments` at the partner, :func:`codebook_of` afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.conventional import popularity_prior
from koinon.recommenders.protocol import Catalogue, Contribution, Measure, Release, Request, Task, TensorSpec, Total
from koinon.recommenders.ranking import Ranked, history_matrix
from koinon.space import Space
from koinon.space.codebook import LONGEST, Codebook, CodebookConfig, Draft, centre_of

__all__ = ["CodebookPlan", "FederatedCodebook", "codebook_moments", "codebook_of"]

Floats = NDArray[np.float32]

MOMENTS = "moments"
MEASURE = Measure(unit="item", norm=float(np.sqrt(1 + LONGEST**2 + LONGEST**4)))


class CodebookPlan:
    """The server's half: asks for one level's moments a round, and moves its centroids.

    Attributes
    ----------
    rounds
        ``levels · (⌈log₂ codes⌉ + refine)``.
    """

    name: ClassVar[str] = "federated_codebook"
    config_type: ClassVar[type[CodebookConfig]] = CodebookConfig
    measures: ClassVar[Mapping[str, Measure]] = {MOMENTS: MEASURE}

    def __init__(self, config: CodebookConfig | None = None) -> None:
        self.config = config or CodebookConfig()
        self.rounds: int = self.config.rounds

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Begin with one centroid; ``catalogues`` are not used, ``rng`` draws the seed of all splits.

        Raises
        ------
        RecommenderError
            K460 without a space.
        """
        if space is None:
            raise RecommenderError("K460", "A federated codebook needs a semantic space.", "Name an encoder.")
        info = {"codebook_seed": int(rng.integers(2**31)), "codebook_centred": int(self.config.centred)}
        release = Release(0, self.name, {}, info)
        return _with(release, Draft.begin(space.dimension, self.config))

    def shares(self) -> tuple[Mapping[str, float], ...]:
        """Nothing depends on events, in any round."""
        return ({},) * self.rounds

    def task(self, release: Release, round_: int) -> Task:
        """Ask for the moments of the level at work."""
        codes, dimension = release.arrays["centroids"].shape
        return Task(round_, (TensorSpec(MOMENTS, (codes, 2 + dimension), "float32", "sum"),))

    def aggregate(self, release: Release, total: Total) -> Release:
        """Move the centroids of the level at work; whatever else the release holds stays."""
        seed = int(release.info["codebook_seed"])
        draft = _draft(release).step(total.arrays[MOMENTS], self.config, seed=seed)
        return replace(_with(release, draft), number=release.number + 1)


def codebook_moments(domain: Domain, space: Space, release: Release, spec: TensorSpec) -> NDArray[np.generic]:
    """A partner's answer to :meth:`CodebookPlan.task`: moments of its whole catalogue, of the spec's dtype.

    Where the federation centres, they are of the vectors less their mean, so that nothing tells the mean.
    """
    vectors = space.encode(domain.texts)
    if _centred(release):
        vectors = vectors - centre_of(vectors)
    return _draft(release).moments(vectors).astype(spec.dtype)


def codebook_of(release: Release) -> Codebook:
    """The finished levels of a release's codebook; where the federation centres, still without a catalogue
    (:meth:`~koinon.space.codebook.Codebook.around`).

    Raises
    ------
    RecommenderError
        K463 it is not finite.
    """
    centroids = release.arrays["codebook"].astype(np.float32)
    if not np.isfinite(centroids).all():
        raise RecommenderError("K463", "The release's codebook is not finite.", "Ask for an earlier release.")
    return Codebook(centroids, relative=_centred(release))


class FederatedCodebook(Ranked):
    """A partner's half. By itself it ranks by what code words alone tell: items that stand near the history's mean.

    Attributes
    ----------
    codebook
        The release's, after :meth:`receive`.
    """

    name: ClassVar[str] = "federated_codebook"
    config_type: ClassVar[type[CodebookConfig]] = CodebookConfig

    def __init__(self, config: CodebookConfig | None = None) -> None:
        self.config = config or CodebookConfig()
        self.codebook: Codebook | None = None
        self._space: Space | None = None
        self._places: Floats = np.empty((0, 0), dtype=np.float32)
        self._popularity: Floats = np.empty(0, dtype=np.float32)

    def attach(self, domain: Domain, space: Space | None) -> None:
        """Give the partner's space before :meth:`contribute`; ``domain`` is not used."""
        self._space = space

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Add up the catalogue for the level at work.

        Raises
        ------
        RecommenderError
            K404 no space is attached, K462 the task names a tensor this learner does not know.
        """
        if self._space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Attach one before it is asked.")
        if [spec.name for spec in task.specs] != [MOMENTS]:
            raise RecommenderError("K462", f"{self.name} knows {MOMENTS} alone.", "Are all partners on one version?")
        (spec,) = task.specs
        return Contribution({MOMENTS: codebook_moments(domain, self._space, release, spec)}, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Adopt the codebook. RecommenderError K463 as :func:`codebook_of`."""
        self.codebook = codebook_of(release)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Tell the catalogue in code words; ``rng`` is not used.

        Raises
        ------
        RecommenderError
            K404 without a space, K400 no codebook was received.
        """
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        if self.codebook is None:
            raise RecommenderError("K400", "There is no codebook.", "Receive a release of the federation first.")
        vectors = space.encode(domain.texts)
        codebook = self.codebook.around(vectors)
        places = codebook.decode(codebook.encode(vectors))
        self._places = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), np.float32(1e-9))
        self._popularity = popularity_prior(domain, None)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Floats:
        """Return ``float32[requests, candidates]``: cosine with the history's sum; popularity without a history.

        Raises
        ------
        RecommenderError
            K400 not fitted, K405 a history names an item outside the catalogue.
        """
        if not len(self._popularity):
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        chosen = slice(None) if candidates is None else candidates
        history = history_matrix(requests, len(self._popularity))
        state = np.asarray(history @ self._places)
        state /= np.maximum(np.linalg.norm(state, axis=1, keepdims=True), np.float32(1e-9))
        scores: Floats = state @ self._places[chosen].T
        scores[history.getnnz(axis=1) == 0] = self._popularity[chosen]
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned; nothing before :meth:`fit`."""
        return {"places": self._places, "popularity": self._popularity} if len(self._popularity) else {}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned; an empty state leaves it as it is."""
        if state:
            self._places = np.asarray(state["places"], dtype=np.float32)
            self._popularity = np.asarray(state["popularity"], dtype=np.float32)
        return self


def _draft(release: Release) -> Draft:
    arrays = release.arrays
    done = Codebook(arrays["codebook"].astype(np.float32))
    return Draft(done, arrays["centroids"].astype(np.float32), int(release.info["codebook_taken"]))


def _centred(release: Release) -> bool:
    return bool(release.info.get("codebook_centred", 0))


def _with(release: Release, draft: Draft) -> Release:
    arrays = {**release.arrays, "codebook": draft.done.centroids, "centroids": draft.centroids}
    return replace(release, arrays=arrays, info={**release.info, "codebook_taken": draft.taken})
