"""What partners add up for federated Gram, and what a partner makes of the others' part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.data import Domain
from koinon.errors import PrivacyError
from koinon.recommenders.federated.identities import catalogue_of, look_up
from koinon.recommenders.federated.pairs import PairList
from koinon.recommenders.protocol import Release

__all__ = [
    "Carried",
    "Others",
    "Sent",
    "believable",
    "clip_of",
    "denoised",
    "is_in",
    "listed_works",
    "noise_beside",
    "own_counts",
    "own_pairs",
    "pair_list",
    "weights",
    "work_matrix",
    "works_of",
]

Floats = NDArray[np.float32]
Sent = Mapping[str, NDArray[np.floating]]


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


def weights(clip: float, norms: NDArray[np.floating]) -> NDArray[np.float64]:
    """By how much each person's part of that L2 norm is scaled to stay within ``clip``, ``float64[users]``, 0 to 1.

    Weights are rounded down to multiples of 2^-20. Sums of parts that are made of zeros and one weight are then exact
    in float64 (below 2^33), whatever their order, so that taking one person away changes them by that person's part
    and by nothing else; sums that are rounded on the way do not have this bound (Casacuberta et al. 2022, Widespread
    Underestimation of Sensitivity in Differentially Private Libraries).
    """
    scaled = np.minimum(1.0, clip / np.maximum(norms.astype(np.float64), 1e-12))
    floored: NDArray[np.float64] = np.floor(scaled * 2.0**20) * 2.0**-20
    return floored


def own_counts(taken: csr_matrix, clip: float) -> NDArray[np.float64]:
    """Sum of people's count vectors, each scaled to L2 norm ``clip`` at most, ``float64[works]``.

    A person with m works adds ``w`` to m cells, ``w √m ≤ clip``; nobody else's part depends on that person.
    """
    weight = weights(clip, np.sqrt(taken.getnnz(axis=1)))
    sums: NDArray[np.float64] = np.asarray(taken.T.astype(np.float64) @ weight).ravel()
    return sums


def own_pairs(taken: csr_matrix, clip: float, listed: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Sum of people's pair vectors, each scaled to L2 norm ``clip`` at most, ``float64[works, works]``.

    A person with m listed works has m(m-1)/2 pairs; that all of them are on the list is assumed, so the bound holds for
    any list of pairs of them: ``w √(m(m-1)/2) ≤ clip``. The diagonal means nothing.

    Parameters
    ----------
    taken
        Who took what, binary ``[users, works]``.
    clip
        The bound.
    listed
        ``bool[works]``: which works are in any pair of the list; ``None``: all. Others do not count.
    """
    inside = taken if listed is None else csr_matrix(taken.multiply(listed[None, :].astype(np.float32)))
    inside.eliminate_zeros()
    size = inside.getnnz(axis=1).astype(np.float64)
    weighted = inside.astype(np.float64)
    weighted.data = np.repeat(weights(clip, np.sqrt(size * (size - 1) / 2)), inside.getnnz(axis=1))
    gram: NDArray[np.float64] = (inside.T.astype(np.float64) @ weighted).toarray()
    return gram


def pair_list(release: Release) -> PairList:
    """The pairs that a release agrees on.

    Raises
    ------
    PrivacyError
        K668 a pair stands there twice, or with itself: one person would then count more often than the clip allows for.
    """
    pairs = PairList(release.arrays["start"].astype(np.int64), release.arrays["other"].astype(np.int32))
    steps = np.diff(pairs.start)
    sound = pairs.start[0] == 0 and pairs.start[-1] == len(pairs) and bool(np.all(steps >= 0))
    if sound and len(pairs):
        first = np.repeat(np.arange(pairs.identities), steps)
        again = (first[1:] == first[:-1]) & (pairs.other[1:] <= pairs.other[:-1])
        sound = not again.any() and bool(np.all(pairs.other > first)) and int(pairs.other.max()) < pairs.identities
    if not sound:
        raise PrivacyError(
            "K668", "The release's list of pairs is not one of distinct pairs.", "Do not contribute; tell the operator."
        )
    return pairs


def listed_works(pairs: PairList, own: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of the works ``own`` are in any pair of the list, ``bool[own]``."""
    inside = np.diff(pairs.start) > 0
    inside[pairs.other] = True
    found: NDArray[np.bool_] = inside[own]
    return found


def believable(gram: Floats) -> Floats:
    """Sums of pairs, with the counts on the diagonal, cut to their positive part where they cannot be people's.

    Sums of people are positive semi-definite; false sums, and rules that take medians, need not be. Up to an
    eigenvalue of -½, which the ridge of every partner exceeds, they stay as they are. The diagonal stays at least what
    it was.
    """
    raised = gram.astype(np.float64)
    counts = raised.diagonal().copy()
    raised[np.diag_indices_from(raised)] += 0.5
    try:
        np.linalg.cholesky(raised)
    except np.linalg.LinAlgError:
        values, axes = np.linalg.eigh(gram.astype(np.float64))
        kept = axes[:, values > 0] * np.sqrt(values[values > 0])
        cut = kept @ kept.T
        cut[np.diag_indices_from(cut)] = np.maximum(counts, cut.diagonal())
        gram = cut.astype(np.float32)
    return gram


def denoised(pairs: NDArray[np.float64], counts: NDArray[np.float64], noise: float, asked: NDArray[np.bool_]) -> Floats:
    """A Gram matrix from noisy sums, positive semi-definite, ``float32[works, works]``.

    Works are taken as if independently, ``κ c_i c_j``, with κ as all asked pairs together have it; on top comes what
    stands out of the noise. Symmetric noise of standard deviation σ over m works fills the spectrum up to ``2σ√m`` and
    lifts every eigenvalue that stands out. An eigenvalue λ of the rest above it becomes ``√(λ² - 4σ²m)``, which is best
    in squared error (Gavish and Donoho 2017, Optimal Shrinkage of Singular Values, equation 7); what is below, or
    negative, says nothing.

    Parameters
    ----------
    pairs
        Noisy sums, symmetric with zero diagonal ``[works, works]``; 0 where a pair was not asked for.
    counts
        How often each work was taken, at least 0.
    noise
        σ of the pairs.
    asked
        ``bool[works, works]``: which pairs were asked for. Where few are the noise is thinner by the root of their
        share.
    """
    together = counts[:, None] * counts[None, :]
    common = max(float(pairs[asked].sum()) / max(float(together[asked].sum()), 1.0), 0.0) if asked.any() else 0.0
    gram = common * together
    block = np.flatnonzero(asked.any(axis=1))
    if len(block):
        within = np.ix_(block, block)
        values, axes = np.linalg.eigh(np.where(asked, pairs - gram, 0.0)[within])
        edge = 2.0 * noise * np.sqrt(asked[within].mean() * len(block))
        stands_out = values > edge
        kept = axes[:, stands_out] * (values[stands_out] ** 2 - edge**2) ** 0.25
        gram[within] += kept @ kept.T
    gram[np.diag_indices_from(gram)] = np.maximum(counts, gram.diagonal())
    found: Floats = gram.astype(np.float32)
    return found


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
    sent
        What this partner has sent for the totals, where that was not the exact sums: with noise, by tensor.
    """

    def __init__(
        self, domain: Domain, release: Release, match_key: bytes | None = None, sent: Sent | None = None
    ) -> None:
        self.sent = sent or {}
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
        counts = release.arrays["counts"][own].astype(np.float64)
        if is_in(domain, release, "counts"):
            counts -= self.sent["counts"][own] if "counts" in self.sent else own_counts(taken, clip_of(release))
        gram = np.zeros((len(own), len(own)), dtype=np.float32)
        counts = np.maximum(counts, 0.0)
        gram[np.diag_indices_from(gram)] = counts
        if "pairs" not in release.arrays:
            return gram
        listed = pair_list(release)
        place, first, second = listed.held(own)
        pairs = release.arrays["pairs"][place].astype(np.float64)
        noise = noise_beside(release, "pairs", self.sent, domain)
        if is_in(domain, release, "pairs"):
            if "pairs" in self.sent:
                pairs -= self.sent["pairs"][place]
            else:
                pairs -= own_pairs(taken, clip_of(release, "pairs"), listed_works(listed, own))[first, second]
        if not noise:
            gram[first, second] = gram[second, first] = np.maximum(pairs, 0.0)
            return believable(gram)
        noisy = np.zeros(gram.shape)
        noisy[first, second] = noisy[second, first] = pairs
        asked = np.zeros(gram.shape, dtype=np.bool_)
        asked[first, second] = asked[second, first] = True
        return denoised(noisy, counts, noise, asked)


def clip_of(release: Release, sums: str = "counts") -> float:
    """The bound under which a total's parts were made."""
    return float(release.info.get(f"{sums}_clip", release.info["clip"]))


def noise_beside(release: Release, sums: str, sent: Sent, domain: Domain) -> float:
    """Standard deviation of the noise in a total of which a partner knows its own part; 0 without a budget."""
    noise = float(release.info.get(f"{sums}_noise", 0.0))
    partners = str(release.info.get(f"{sums}_from", "")).split(",")
    if sums in sent and is_in(domain, release, sums):
        noise *= float(np.sqrt(1 - 1 / len(partners)))
    return noise


def is_in(domain: Domain, release: Release, sums: str) -> bool:
    """Whether the partner's own part is in the sums: it may have been left out of a round."""
    return domain.name in str(release.info.get(f"{sums}_from", "")).split(",")
