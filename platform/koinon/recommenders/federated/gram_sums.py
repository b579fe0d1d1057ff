"""What partners add up for federated Gram, and what a partner makes of the others' part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.data import Domain
from koinon.recommenders.federated.identities import catalogue_of, look_up
from koinon.recommenders.federated.pairs import PairList
from koinon.recommenders.protocol import Release

__all__ = ["Carried", "Others", "is_in", "own_counts", "own_pairs", "pair_list", "work_matrix", "works_of"]

Floats = NDArray[np.float32]


def works_of(domain: Domain, release: Release, match_key: bytes | None) -> NDArray[np.int32]:
    """Identity of each item, ``int32[items]``, -1 where nobody else lists the work."""
    told = catalogue_of(domain.name, domain.items, match_key=match_key)
    hashes = release.arrays["hashes"].astype(np.uint64)
    return look_up(hashes, release.arrays["identity"].astype(np.int32), told.keys)


def work_matrix(domain: Domain, work: NDArray[np.int32], own: NDArray[np.int32]) -> csr_matrix:
    """Who took which of the works ``own`` (ascending), ``float32[users, works]``, binary: editions count once."""
    shared = np.flatnonzero(work >= 0)
    column = np.searchsorted(own, work[shared])
    spread = csr_matrix((np.ones(len(shared), dtype=np.float32), (shared, column)), shape=(domain.n_items, len(own)))
    taken = csr_matrix(domain.matrix @ spread)
    taken.data[:] = 1.0
    return taken


def own_counts(taken: csr_matrix, clip: float) -> NDArray[np.float64]:
    """Sum of people's count vectors, each scaled to L2 norm ``clip`` at most, ``float64[works]``."""
    size = np.asarray(taken.getnnz(axis=1), dtype=np.float64)
    weight = np.minimum(1.0, clip / np.sqrt(np.maximum(size, 1.0)))
    sums: NDArray[np.float64] = np.asarray(taken.T.astype(np.float64) @ weight).ravel()
    return sums


def own_pairs(taken: csr_matrix, clip: float) -> NDArray[np.float64]:
    """Sum of people's pair vectors, each scaled to L2 norm ``clip`` at most, ``float64[works, works]``.

    A person with m works has m(m-1)/2 pairs; that all of them are on the list is assumed, so the bound holds for any
    list. The diagonal means nothing.
    """
    size = np.asarray(taken.getnnz(axis=1), dtype=np.float64)
    weight = np.minimum(1.0, clip / np.sqrt(np.maximum(size * (size - 1) / 2, 1.0)))
    weighted = taken.astype(np.float64)
    weighted.data = np.repeat(weight, taken.getnnz(axis=1))
    gram: NDArray[np.float64] = (taken.T.astype(np.float64) @ weighted).toarray()
    return gram


def pair_list(release: Release) -> PairList:
    """The pairs that a release agrees on."""
    return PairList(release.arrays["start"].astype(np.int64), release.arrays["other"].astype(np.int32))


class Carried:
    """A Gram matrix of other people's, over some of a partner's items.

    Attributes
    ----------
    item
        ``int32[m]``: the items.
    gram
        ``float32[m, m]``: the others' co-occurrence of them.
    own_counts
        ``int64[m]``: the partner's own events of them.
    """

    def __init__(self, item: NDArray[np.int32], gram: Floats, own_counts: NDArray[np.int64]) -> None:
        self.item, self.gram, self.own_counts = item, gram, own_counts

    def __bool__(self) -> bool:
        return bool(len(self.item)) and bool(self.gram.diagonal().any())

    def events(self, share: float, cap: float | None) -> NDArray[np.float64]:
        """How many events the others add to each of ``item``, ``float64[m]``.

        With a cap it is ``1 / (1/a + 1/b)`` of ``a = share · count`` and ``b = cap · (own + 1)``: near ``a`` while
        that is small, never above ``b``.
        """
        given = share * self.gram.diagonal().astype(np.float64)
        if cap is None:
            return given
        bound = cap * (self.own_counts + 1.0)
        return np.divide(given * bound, given + bound, out=np.zeros_like(given), where=given > 0)

    def add_to(self, gram: NDArray[np.floating], share: float, cap: float | None) -> None:
        """Add the others' Gram matrix to the partner's own ``float[items, items]``, in place.

        Rows and columns are scaled alike, so that each item's diagonal is :meth:`events`; the sum stays positive
        semi-definite if both parts are.
        """
        count = self.gram.diagonal().astype(np.float64)
        scale = np.sqrt(np.divide(self.events(share, cap), count, out=np.zeros_like(count), where=count > 0))
        scaled = self.gram * scale[:, None].astype(gram.dtype) * scale[None, :].astype(gram.dtype)
        gram[np.ix_(self.item, self.item)] += scaled

    def known(
        self, own: NDArray[np.integer] | NDArray[np.floating], share: float, cap: float | None
    ) -> NDArray[np.float64]:
        """Own events plus the others', ``float64[items]``: an item that others know is not cold."""
        counts = own.astype(np.float64)
        counts[self.item] += self.events(share, cap)
        return counts


class Others(Carried):
    """What a release's sums hold beyond a partner's own events, carried over to its items.

    Readers of a work that the partner has in several editions are divided among these in proportion to its own readers
    (each reader holds one of them, so that two editions never occur together).

    Parameters
    ----------
    domain
        The partner's training domain.
    release
        Of a :class:`GramPlan`.
    match_key
        The partners' secret, where keys travel as keyed hashes.
    """

    def __init__(self, domain: Domain, release: Release, match_key: bytes | None = None) -> None:
        work = works_of(domain, release, match_key)
        item = np.flatnonzero(work >= 0).astype(np.int32)
        own, position = np.unique(work[item], return_inverse=True)
        between = self._between_works(domain, release, work, own.astype(np.int32))
        weight = domain.item_counts[item] + 1.0
        portion = (weight / np.bincount(position, weight, minlength=len(own))[position]).astype(np.float32)
        gram = between[np.ix_(position, position)] * portion[:, None] * portion[None, :]
        gram[position[:, None] == position[None, :]] = 0.0
        gram[np.diag_indices_from(gram)] = between.diagonal()[position] * portion
        super().__init__(item, gram, domain.item_counts[item])

    def _between_works(
        self, domain: Domain, release: Release, work: NDArray[np.int32], own: NDArray[np.int32]
    ) -> Floats:
        """Total less the partner's own part over its works ``own``, ``float32[works, works]``, counts on the diagonal.

        Without the pairs (a release of the first round) only the diagonal is filled.
        """
        taken = work_matrix(domain, work, own)
        clip = float(release.info["clip"])
        counts = release.arrays["counts"][own].astype(np.float64)
        if is_in(domain, release, "counts"):
            counts -= own_counts(taken, clip)
        gram = np.zeros((len(own), len(own)), dtype=np.float32)
        if "pairs" in release.arrays:
            place, first, second = pair_list(release).held(own)
            pairs = release.arrays["pairs"][place].astype(np.float64)
            if is_in(domain, release, "pairs"):
                pairs -= own_pairs(taken, clip)[first, second]
            gram[first, second] = np.maximum(pairs, 0.0)
            gram += gram.T
        gram[np.diag_indices_from(gram)] = np.maximum(counts, 0.0)
        return gram


def is_in(domain: Domain, release: Release, sums: str) -> bool:
    """Whether the partner's own part is in the sums: it may have been left out of a round."""
    return domain.name in str(release.info.get(f"{sums}_from", "")).split(",")
