"""Federated Gram: partners add up who was taken with whom over agreed pairs of works, and each solves at home.

EASE needs nothing of the events but the item-item Gram matrix. Round 1 sums how often each shared work is taken, round
2 how often each pair of the agreed list is taken by one person (:mod:`koinon.recommenders.federated.pairs`). Each
partner then takes its own part out of the sums, carries the rest over to its items, adds its own Gram matrix and
solves EASE with the semantic prior.

What one person adds is bounded: their vector of counts, and their vector of pairs, are each scaled down to an L2 norm
of ``clip`` (:mod:`koinon.recommenders.federated.gram_sums` has the proof). Under a privacy budget the sums are noisy,
and a partner reads of the pairs what stands out of the noise. Whether the server sees each partner's sums or their
total alone is the federation's choice (``aggregation``); the release says which (``info["protection"]``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.data import Domain, Split
from koinon.recommenders._search import Trial
from koinon.recommenders.conventional import EASE, SemanticEASE, SemanticEaseConfig, gram_matrix
from koinon.recommenders.federated.gram_sums import (
    Others,
    Sent,
    listed_works,
    own_counts,
    own_pairs,
    pair_list,
    work_matrix,
    works_of,
)
from koinon.recommenders.federated.identities import match_identities
from koinon.recommenders.federated.pairs import choose_pairs
from koinon.recommenders.protocol import Catalogue, Contribution, Measure, Release, Task, TensorSpec, Total
from koinon.space import Space

__all__ = ["FederatedGram", "GramConfig", "GramPlan"]


class GramConfig(SemanticEaseConfig):
    """Settings of federated Gram.

    The federation agrees on ``pairs``, ``clip``, ``counts_clip``, ``counts_share``, ``support``, ``edition`` and
    ``translation``; the others are each partner's own, chosen on its validation users.
    """

    pairs: int = Field(default=5_000_000, ge=1, le=10_000_000)
    """Pairs asked for at most; four bytes each per partner."""
    clip: float = Field(default=60.0, gt=0)
    """Bound on the L2 norm of what one person adds to the counts, and to the pairs; ``inf`` for none. A person with m
    shared works adds √m to the counts and √(m(m-1)/2) to the pairs, so 60 leaves up to 85 works as they are."""
    counts_clip: float | None = Field(default=None, gt=0)
    """The bound for the counts where it is another; ``None``: ``clip``."""
    counts_share: float = Field(default=0.1, gt=0, lt=1)
    """Part of the learner's privacy budget that the counts get; the pairs get the rest."""
    support: float = Field(default=0.0, ge=0)
    """Summed pairs below it are released as 0. It hides rare pairs from partners, not from the server."""
    edition: float = Field(default=0.8, ge=0, le=1)
    """Least cosine at which near-equal texts in one language are one work (see :func:`match_identities`)."""
    translation: float = Field(default=0.75, ge=0, le=1)
    """The same across languages."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Weight of the others' sums: ``own + share · (total - own)``; 0 keeps to the partner's own events."""
    cap: float | None = Field(default=10.0, ge=0)
    """The others may add at most so many times an item's own events (plus one) to it; ``None`` for no bound. Without
    it works that many partners list outweigh those that only this one does."""


class GramPlan:
    """The server's half: who lists what, which pairs to ask for, and the sums.

    A plan keeps each partner's listing between the rounds (:meth:`state`); it is made from the catalogues alone.
    """

    name: ClassVar[str] = "federated_gram"
    config_type: ClassVar[type[GramConfig]] = GramConfig
    measures: ClassVar[Mapping[str, Measure]] = {
        "counts": Measure("works", least=0.0, most=1.0),
        "pairs": Measure("pairs", least=0.0, most=1.0),
    }
    rounds: int = 2

    def __init__(self, config: GramConfig | None = None) -> None:
        self.config = config or GramConfig()
        self._listings: tuple[NDArray[np.int32], ...] = ()

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Match the catalogues to identities; ``rng`` is not used."""
        works = match_identities(catalogues, space, edition=self.config.edition, translation=self.config.translation)
        self._listings = works.listings
        arrays: dict[str, NDArray[np.generic]] = {
            "hashes": works.hashes,
            "identity": works.identity,
            "counts": np.zeros(works.n, dtype=np.float32),
        }
        info: dict[str, float | int | str] = {
            "identities": works.n,
            "clip": self.config.clip,
        }
        if self.config.counts_clip is not None:
            info["counts_clip"] = self.config.counts_clip
        return Release(0, self.name, arrays, info)

    def shares(self) -> tuple[Mapping[str, float], ...]:
        """The counts as configured, the pairs the rest."""
        return {"counts": self.config.counts_share}, {"pairs": 1 - self.config.counts_share}

    def task(self, release: Release, round_: int) -> Task:
        """Ask for counts in round 1, for the release's pairs in round 2."""
        clip = self.config.clip
        if round_ == 1:
            shape = release.arrays["counts"].shape
            spec = TensorSpec("counts", shape, "float32", "sum", self.config.counts_clip or clip)
        else:
            spec = TensorSpec("pairs", release.arrays["other"].shape, "float32", "sum", clip)
        return Task(round_, (spec,))

    def aggregate(self, release: Release, total: Total) -> Release:
        """Take the sums; after the counts, choose the pairs."""
        wanted = "pairs" if "other" in release.arrays else "counts"
        sums = total.arrays[wanted]
        info = {**release.info, f"{wanted}_from": ",".join(total.partners)}
        info |= {f"{name}_noise": noise for name, noise in total.noise.items()}
        arrays = dict(release.arrays)
        if wanted == "counts":
            agreed = choose_pairs(self._listings, sums, self.config.pairs)
            arrays |= {"start": agreed.start, "other": agreed.other}
            info["pairs"] = len(agreed)
        else:
            sums = np.where(np.abs(sums) < self.config.support, 0.0, sums)  # noise may make a sum negative
        arrays[wanted] = sums.astype(np.float32)
        return Release(release.number + 1, self.name, arrays, info)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the listings, ``int32[…]`` each, in the order of the catalogues."""
        return {f"listing/{number:05d}": own for number, own in enumerate(self._listings)}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take back what :meth:`state` gave."""
        self._listings = tuple(state[name].astype(np.int32) for name in sorted(state))


class FederatedGram(SemanticEASE):
    """A partner's half: contributes its sums, and solves on its own Gram matrix plus the others'.

    Parameters
    ----------
    config
        As the federation has agreed; the partner's own settings may be tuned (:meth:`tune`).
    match_key
        The partners' secret, where keys travel as keyed hashes.

    Attributes
    ----------
    sent
        What this partner has sent, by tensor, where noise was added to it: it takes that out of the totals, noise and
        all.
    """

    name: ClassVar[str] = "federated_gram"
    config_type: ClassVar[type[GramConfig]] = GramConfig

    def __init__(self, config: GramConfig | None = None, *, match_key: bytes | None = None) -> None:
        super().__init__(config or GramConfig())
        self.config: GramConfig
        self.match_key = match_key
        self.sent: Sent = {}
        self._release: Release | None = None

    def contribute(self, domain: Domain, release: Release, task: Task) -> Contribution:
        """Sum over this partner's people what the task names, each person clipped to its bound."""
        (spec,) = task.specs
        work = works_of(domain, release, self.match_key)
        own = np.unique(work[work >= 0]).astype(np.int32)
        taken = work_matrix(domain, work, own)
        sums = np.zeros(spec.shape, dtype=spec.dtype)
        if spec.name == "counts":
            sums[own] = own_counts(taken, spec.clip)
        else:
            pairs = pair_list(release)
            place, first, second = pairs.held(own)
            sums[place] = own_pairs(taken, spec.clip, listed_works(pairs, own))[first, second]
        return Contribution({spec.name: sums}, n_users=domain.n_users)

    def receive(self, release: Release) -> None:
        """Adopt the sums; :meth:`fit` takes the others' part out of them."""
        self._release = release

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Solve on the partner's own Gram matrix plus the others'; ``rng`` is not used.

        Without a release the partner's own is all there is; without a ``space`` there is no prior.
        """
        settings = self.config
        gram = gram_matrix(domain.matrix, user_power=settings.user_power)
        counts = domain.item_counts.astype(np.float64)
        others = self.others(domain)
        if others:
            others.add_to(gram, settings.share, settings.cap)
            counts = others.known(counts, settings.share, settings.cap)
        if space is None:
            return EASE.fit_gram(self, domain, space, gram)
        return self.fit_gram(domain, space, gram, np.ceil(counts).astype(np.int64))

    def tune(
        self,
        split: Split,
        space: Space | None,
        *,
        rng: np.random.Generator,
        start: SemanticEaseConfig | None = None,
        rows: int = 2000,
        caution: float = 0.5,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> list[Trial]:
        """Choose the partner's own settings on its validation users and keep them in ``config``.

        Parameters
        ----------
        split
            Only training events and validation set are read.
        space
            As :meth:`fit`.
        rng
            Draws the validation users where there are more than ``rows``.
        start
            Settings tuned without the others (arm ``local_space``): the search begins there with the others left out,
            and takes them in only where that is better.
        rows
            Validation users asked at most.
        caution
            Standard errors of its paired gain that a setting must win by.
        on_trial
            Called after every trial.

        Returns
        -------
        list of Trial
            All that was tried, in order.

        Raises
        ------
        RecommenderError
            K407 there is nobody to validate on.
        """
        from koinon.recommenders.federated.gram_tuning import search

        others = self.others(split.train)
        self.config, trials = search(
            self.config, others, split, space, rng=rng, start=start, rows=rows, caution=caution, on_trial=on_trial
        )
        return trials

    def others(self, domain: Domain) -> Others | None:
        """The others' part of the release's sums, on this partner's items; ``None`` without a release."""
        return None if self._release is None else Others(domain, self._release, self.match_key, self.sent)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned; nothing before :meth:`fit` (the learner keeps nothing between rounds)."""
        return super().state() if self.n_items else {}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned; an empty state leaves it as it is."""
        if not state:
            return self
        if space is None:
            return EASE.restore(self, state, domain, space)
        return super().restore(state, domain, space)
