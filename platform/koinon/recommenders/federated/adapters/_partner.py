"""A partner's half of federated adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from koinon.data import Domain, Split
from koinon.errors import RecommenderError
from koinon.recommenders._search import Trial
from koinon.recommenders.conventional import (
    LinearItemModel,
    SemanticEASE,
    SemanticEaseConfig,
    cold_columns,
    gram_matrix,
    item_scale,
    semantic_prior,
    solve_ease,
)
from koinon.recommenders.federated.adapters._config import AdaptersConfig
from koinon.recommenders.federated.adapters._sums import (
    factor_sums,
    factors,
    item_scales,
    item_vectors,
    moment,
    semantic_sums,
    unit,
)
from koinon.recommenders.federated.gram_sums import (
    Others,
    Sent,
    clip_of,
    is_in,
    noise_beside,
    own_counts,
    work_matrix,
    works_of,
)
from koinon.recommenders.federated.identities import identity_key
from koinon.recommenders.protocol import Contribution, Release, Request, Task
from koinon.recommenders.ranking import history_matrix
from koinon.space import Space

__all__ = ["FactorOthers", "FederatedAdapters", "editions", "learned_vectors"]

Floats = NDArray[np.float32]


class FactorOthers(Others):
    """What the others know of this partner's works, from the shared factors."""

    def _between_works(
        self, domain: Domain, release: Release, work: NDArray[np.int32], own: NDArray[np.int32]
    ) -> Floats:
        """The others' co-occurrence of the works ``own`` by the factors, their counts on the diagonal.

        The partner takes its own part out of the totals before it factorises them, so it never hears its own echo.
        """
        taken = work_matrix(domain, work, own)
        clip = clip_of(release)
        counts = release.arrays["counts"].astype(np.float64)
        scales = item_scales(counts[own])
        if is_in(domain, release, "counts"):
            counts[own] -= self.sent["counts"][own] if "counts" in self.sent else own_counts(taken, clip)
        gram = np.zeros((len(own), len(own)), dtype=np.float32)
        if "image" in release.arrays:
            basis = release.arrays["start"].astype(np.float32)
            image = release.arrays["image"].astype(np.float64)
            noise = noise_beside(release, "image", self.sent, domain)
            if "image" in self.sent and is_in(domain, release, "image"):
                image -= self.sent["image"]
            elif is_in(domain, release, "image"):
                image[own] -= factor_sums(taken, scales, basis[own], clip)
            found = (factors(basis, image, noise)[own] / scales[:, None]).astype(np.float32)
            gram = found @ found.T
        gram[np.diag_indices_from(gram)] = np.maximum(counts[own], 0.0)
        return gram


class FederatedAdapters(SemanticEASE):
    """Contributes clipped sums, and solves at home on its own events, the shared factors and the shared projection.

    ``B = P(G + λβS)`` with zero diagonal, as :class:`SemanticEASE`; but ``G`` is the partner's own Gram matrix plus
    what the factors say of the others' (bounded by ``cap`` times an item's own events), and ``S`` mixes the nearest
    items by text and creator with the nearest under the learned projection. Other editions of what a person has had go
    to the end of the list.

    Parameters
    ----------
    config
        As the federation has agreed; the partner's own settings may be tuned (:meth:`tune`).
    match_key
        The partners' secret, where keys travel as keyed hashes.
    """

    name: ClassVar[str] = "federated_adapters"
    config_type: ClassVar[type[AdaptersConfig]] = AdaptersConfig
    scores_between_rounds: ClassVar[bool] = True
    """After :meth:`contribute` and before :meth:`fit`, :meth:`score` ranks by the shared parts alone."""

    def __init__(self, config: AdaptersConfig | None = None, *, match_key: bytes | None = None) -> None:
        super().__init__(config or AdaptersConfig())
        self.config: AdaptersConfig
        self.match_key = match_key
        self.release: Release | None = None
        self.sent: Sent = {}
        self._shared: list[Floats] = []
        self._editions: csr_matrix | None = None

    def attach(self, domain: Domain, space: Space | None) -> None:
        """Give the partner's space before the first :meth:`contribute`; ``domain`` is not used."""
        self.space = space

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Sum over this partner's people and catalogue what the task names.

        Raises
        ------
        RecommenderError
            K404 no space is attached, K462 the task names a tensor this learner does not know.
        """
        work = works_of(domain, release, self.match_key)
        self._shared = _shared_vectors(domain, release, self.space, work)
        own = np.unique(work[work >= 0]).astype(np.int32)
        taken = work_matrix(domain, work, own)
        arrays: dict[str, NDArray[np.generic]] = {}
        for spec in task.specs:
            sums = np.zeros(spec.shape, dtype=spec.dtype)
            if spec.name == "counts":
                sums[own] = own_counts(taken, spec.clip)
            elif spec.name == "image":
                basis = release.arrays["basis"][own].astype(spec.dtype)
                scales = item_scales(release.arrays["counts"][own]).astype(spec.dtype)
                sums[own] = factor_sums(taken, scales, basis, spec.clip)
            elif spec.name == "moment":
                sums[:] = moment(item_vectors(domain, self._space()))
            elif spec.name == "semantic":
                agreed = self._agreed_scales(release, work)
                sums[:] = semantic_sums(domain.matrix, _whitened(domain, release, self._space()), spec.clip, agreed)
            elif spec.name == "spread":
                vectors = _whitened(domain, release, self._space()).astype(np.float64)
                sums[:] = vectors.T @ vectors
            else:
                raise RecommenderError("K462", f"{self.name} has no {spec.name}.", "Are all partners on one version?")
            arrays[spec.name] = sums
        return Contribution(arrays, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Adopt the shared part; :meth:`fit` joins it with the private one.

        Raises
        ------
        RecommenderError
            K463 the release holds numbers that are not finite.
        """
        for name, array in release.arrays.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                raise RecommenderError("K463", f"The release's {name} is not finite.", "Ask for an earlier release.")
        self.release = release

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Solve on the partner's own events and the shared parts; ``rng`` is not used.

        Without a release the partner's own parts are all there is.

        Raises
        ------
        RecommenderError
            K404 without a space; K401-K403 as :func:`solve_ease`.
        """
        self._enter(space, domain)
        settings = self.config
        gram = gram_matrix(domain.matrix, user_power=settings.user_power)
        counts = domain.item_counts.astype(np.float64)
        others = self.others(domain)
        if others:
            others.add_to(gram, settings.share, settings.cap)
            counts = others.known(counts, settings.share, settings.cap)
        prior = self.prior(domain, self._space())
        scale = item_scale(gram)
        divisor = (scale**-settings.item_power).astype(gram.dtype)
        gram *= divisor[:, None]
        gram *= divisor
        weights = solve_ease(gram, settings.lambda_, prior, settings.beta)
        weight = settings.beta if settings.cold_weight is None else settings.cold_weight
        known = np.ceil(counts).astype(np.int64)
        cold_columns(weights, prior, weight, known, settings.cold_threshold, blend=settings.cold_blend)
        weights *= divisor[:, None]
        weights *= (scale**settings.output_power).astype(weights.dtype)
        return self.adopt(weights.astype(np.float32, copy=False), domain)

    def prior(self, domain: Domain, space: Space) -> csc_matrix:
        """Who speaks for whom before any event: ``float32[items, items]``, frozen and learned neighbours mixed."""
        settings = self.config
        frozen = semantic_prior(item_vectors(domain, space, settings.creator), settings.neighbours)
        shared = None if self.release is None else learned_vectors(domain, self.release, space)
        if shared is None or not settings.learned:
            return frozen
        learned = semantic_prior(shared, settings.neighbours)
        mixed = np.float32(1 - settings.learned) * frozen + np.float32(settings.learned) * learned
        return csc_matrix(mixed)

    def others(self, domain: Domain) -> FactorOthers | None:
        """What the factors say of the others, on this partner's items; ``None`` without a release."""
        if self.release is None or not len(self.release.arrays["counts"]):
            return None
        return FactorOthers(domain, self.release, self.match_key, self.sent)

    def tune(
        self,
        split: Split,
        space: Space | None,
        *,
        rng: np.random.Generator,
        start: SemanticEaseConfig | None = None,
        rows: int = 2000,
        caution: float = 1.0,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> list[Trial]:
        """Choose the partner's own settings on its validation users and keep them in ``config``.

        The search goes from ``start`` (arm ``local_space``) to the private parts, then takes the shared ones in only
        where that is better by ``caution`` standard errors of the paired gain. Arguments and errors as
        :meth:`koinon.recommenders.federated.gram.FederatedGram.tune`.

        Raises
        ------
        RecommenderError
            K404 without a space, K407 there is nobody to validate on.
        """
        from koinon.recommenders.federated.adapters._tuning import search

        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        self.config, trials = search(
            self, split, space, rng=rng, start=start, rows=rows, caution=caution, on_trial=on_trial
        )
        return trials

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Floats:
        """As :meth:`SemanticEASE.score`; other editions of history items fall below everything else.

        Between rounds it is what the shared parts alone say: how far the rounds have come.
        """
        if self._shared and not self.n_items:
            chosen = slice(None) if candidates is None else candidates
            history = history_matrix(requests, len(self._shared[0]))
            said = [np.asarray((history @ part) @ part[chosen].T, dtype=np.float32) for part in self._shared]
            total: Floats = np.add.reduce(said, dtype=np.float32)
            return total
        scores = super().score(requests, candidates)
        if not self.config.own_editions or self._editions is None or not self._editions.nnz:
            return scores
        had = csr_matrix(history_matrix(requests, self.n_items) @ self._editions)
        row, column = (had if candidates is None else had[:, candidates]).nonzero()
        scores[row, column] = -1.0 - np.abs(scores[row, column])
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned; nothing before :meth:`fit` (the learner keeps nothing between rounds)."""
        return super().state() if self.n_items else {}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned; an empty state leaves it as it is."""
        if state:
            LinearItemModel.restore(self, state, domain, space)
            self._enter(space, domain)
        return self

    def _enter(self, space: Space | None, domain: Domain) -> None:
        super()._enter(space, domain)
        self._editions = editions(domain)

    def _agreed_scales(self, release: Release, work: NDArray[np.int32]) -> Floats | None:
        """Scale of each item in the semantic sums, ``float32[items]``; ``None``: by the partner's own counts."""
        if self.config.scales == "even":
            return np.ones(len(work), dtype=np.float32)
        return None if self.config.scales == "own" else released_scales(release, work)

    def _space(self) -> Space:
        if self.space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Attach one before it is asked.")
        return self.space


def released_scales(release: Release, work: NDArray[np.int32]) -> Floats:
    """Scale of each item by the federation's counts, ``float32[items]``; an item of no shared work gets their mean.

    They depend on the catalogue and the release, so that nobody's events change what they make of another's.
    """
    counts = np.maximum(release.arrays["counts"].astype(np.float64), 0.0)
    known = work >= 0
    mean = float(counts[np.unique(work[known])].mean()) if known.any() else 0.0
    return item_scales(np.where(known, counts[np.maximum(work, 0)] if len(counts) else mean, mean))


def _whitened(domain: Domain, release: Release, space: Space) -> Floats:
    """Items in the agreed directions of the space, ``float32[items, q]``, unit rows."""
    centred = item_vectors(domain, space) - release.arrays["mean"].astype(np.float32)
    return unit(centred @ release.arrays["whitening"].astype(np.float32))


def _shared_vectors(domain: Domain, release: Release, space: Space | None, work: NDArray[np.int32]) -> list[Floats]:
    """Items as the release alone knows them: factors of works ``float32[items, width]``, projected texts."""
    parts: list[Floats] = [np.zeros((domain.n_items, 1), dtype=np.float32)]
    if "image" in release.arrays:
        image, noise = release.arrays["image"].astype(np.float64), float(release.info.get("image_noise", 0.0))
        found = factors(release.arrays["start"].astype(np.float32), image, noise)
        known = np.flatnonzero(work >= 0)
        placed = np.zeros((domain.n_items, found.shape[1]), dtype=np.float32)
        placed[known] = found[work[known]]
        parts.append(placed)
    learned = None if space is None else learned_vectors(domain, release, space)
    if learned is not None:
        parts.append(TEXT_SHARE * learned)
    return parts


TEXT_SHARE = np.float32(0.2)
"""Length of a projected text beside the factors, between rounds; the final share is each partner's own choice."""


def learned_vectors(domain: Domain, release: Release, space: Space) -> Floats | None:
    """Items under the shared projection, ``float32[items, q]``, unit rows; ``None`` before it is learned."""
    if "adapter" not in release.arrays:
        return None
    return unit(_whitened(domain, release, space) @ release.arrays["adapter"].astype(np.float32))


def editions(domain: Domain) -> csr_matrix:
    """Which items of a catalogue are editions of one work: ``float32[items, items]``, binary, zero diagonal.

    Equal normalised title and creator; an item without a creator has no other editions (titles alone repeat).
    """
    groups: dict[str, list[int]] = {}
    titles, creators = domain.items["title"].to_list(), domain.items["creator"].to_list()
    for item, (title, creator) in enumerate(zip(titles, creators, strict=True)):
        if creator:
            groups.setdefault(identity_key(title, creator), []).append(item)
    pairs = [(a, b) for group in groups.values() if len(group) > 1 for a in group for b in group if a != b]
    ends = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    ones = np.ones(len(ends), dtype=np.float32)
    return csr_matrix((ones, (ends[:, 0], ends[:, 1])), shape=(domain.n_items, domain.n_items))
