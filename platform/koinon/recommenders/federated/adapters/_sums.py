"""What partners add up for federated adapters, and what server and partners make of the totals.

Notation: ``x_u`` a person's binary row of training events, ``z_i`` an item's whitened unit vector in the space,
``s_i = (n_i + 3)^-½`` the scale of an item or work taken ``n_i`` times.

What one person can change: a sum is a sum of one part per person, each scaled down to an L2 norm of ``clip`` before it
is added, so the sum's norm is at most ``clip`` times the number of people. As long as nobody's part depends on anybody
else's events, taking a person away changes the sum by exactly that person's part, ``clip`` at most: so it is for
:func:`factor_sums`, whose scales and basis are the release's, and for :func:`semantic_sums` with scales of the
release. With the partner's own counts for scales it is not: they change with every person. :func:`moment` and
``Σ_i z_i z_iᵀ`` run over the catalogue and change with nobody's events, if the catalogue does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array

from koinon.data import Domain
from koinon.space import Space

__all__ = [
    "denoised_semantic",
    "factor_sums",
    "factors",
    "item_scales",
    "item_vectors",
    "moment",
    "orthonormal",
    "projection",
    "semantic_sums",
    "unit",
    "whitening",
]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
SMOOTHING = 3.0
FLOOR = 1e-4


def item_vectors(domain: Domain, space: Space, creator: float = 0.5) -> Floats:
    """Text and creator of each item, side by side, ``float32[items, 2·dimension]``, unit rows.

    ``creator`` is the creator's share of a cosine, 0 to 1. Where no creator is known the text stands in, so that
    catalogues without any have the cosines of their texts.
    """
    texts = space.encode(domain.texts)
    names = domain.items["creator"].to_list()
    known = sorted({name for name in names if name})
    if not known:
        makers = texts
    else:
        row = {name: number for number, name in enumerate(known)}
        told = space.encode(known)
        makers = np.stack([told[row[name]] if name else texts[item] for item, name in enumerate(names)])
    return np.hstack([np.sqrt(1 - creator) * texts, np.sqrt(creator) * makers]).astype(np.float32)


def unit(rows: NDArray[np.floating]) -> Floats:
    """Rows at L2 norm 1; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Floats = (rows / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
    return scaled


def item_scales(counts: NDArray[Any]) -> Floats:
    """``(n + 3)^-½``: under it a pair's co-occurrence is a cosine that rare pairs do not dominate."""
    known = np.maximum(counts.astype(np.float64), 0.0)  # noisy counts may be below
    scales: Floats = (1.0 / np.sqrt(known + SMOOTHING)).astype(np.float32)
    return scales


def moment(vectors: Floats) -> Floats:
    """``Σ_i [1, v_i]ᵀ[1, v_i]``, ``float32[1 + d, 1 + d]``: a catalogue's count, mean and covariance in one sum."""
    extended = np.hstack([np.ones((len(vectors), 1)), vectors.astype(np.float64)])
    total: Floats = (extended.T @ extended).astype(np.float32)
    return total


def whitening(total: Doubles, directions: int) -> tuple[Floats, Floats]:
    """From summed moments: mean ``float32[d]`` and the map to whitened directions, ``float32[d, directions]``."""
    items = max(float(total[0, 0]), 1.0)
    mean = total[0, 1:] / items
    covariance = total[1:, 1:] / items - np.outer(mean, mean)
    values, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    values, axes = values[::-1][:directions], axes[:, ::-1][:, :directions]
    return mean.astype(np.float32), (axes / np.sqrt(np.maximum(values, 0.0) + FLOOR)).astype(np.float32)


def semantic_sums(matrix: csr_matrix, vectors: Floats, clip: float, scales: Floats | None = None) -> Doubles:
    """Co-occurrence seen through texts, ``Σ_u w_u Σ_{i≠j} s_i s_j x_ui x_uj z_i z_jᵀ``, ``float64[q, q]``.

    A person's part is ``p pᵀ - Σ_i s_i² x_ui z_i z_iᵀ`` with ``p = Σ_i s_i x_ui z_i``; its Frobenius norm is at most
    ``‖p‖² + Σ_i s_i² x_ui``, since ``z_i`` is of norm 1. ``w_u`` keeps that within ``clip``.

    Parameters
    ----------
    matrix
        The partner's people and items, binary ``[users, items]``.
    vectors
        ``z``, unit rows.
    clip
        Bound on a person's part.
    scales
        ``s``, ``float32[items]``; ``None``: from the partner's own counts.
    """
    if scales is None:
        scales = item_scales(np.asarray(matrix.sum(axis=0)).ravel())
    scaled = csr_matrix(matrix @ diags_array(scales))
    person = (scaled @ vectors).astype(np.float64)
    size = (person**2).sum(axis=1) + np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel()
    weight = np.minimum(1.0, clip / np.maximum(size, 1e-9))
    alone = (matrix.T @ weight) * scales.astype(np.float64) ** 2
    total = person.T @ (person * weight[:, None]) - (vectors.T * alone) @ vectors
    summed: Doubles = (total + total.T) / 2
    return summed


def denoised_semantic(sums: Doubles, noise: float) -> Doubles:
    """What noisy :func:`semantic_sums` say, ``float64[q, q]``: as they are without noise, else what stands out of it.

    Every direction of the space is taken to matter alike, as much as the mean eigenvalue says (at least its own
    standard error, ``noise / √q``); what stands out above that is added. Under any noise the projection is so at least
    the whitened space, which is known from the catalogues alone. The mean of the sums and their transpose has noise of
    ``noise / √2``, which fills the spectrum up to ``noise √2q``, and passes that by ``q^-⅔`` of itself once in a
    hundred times (Johnstone 2001, On the Distribution of the Largest Eigenvalue); what is above is shrunk as in
    :func:`koinon.recommenders.federated.gram_sums.denoised`.
    """
    if not noise:
        return sums
    values, axes = np.linalg.eigh((sums + sums.T) / 2)
    level = max(float(values.mean()), noise / np.sqrt(len(sums)))
    edge = noise * np.sqrt(2.0 * len(sums))
    above = np.maximum(values - level, 0.0)
    stands_out = above > edge * (1 + len(sums) ** (-2 / 3))
    shrunk = level + np.sqrt(np.where(stands_out, above**2 - edge**2, 0.0))
    found: Doubles = (axes * shrunk) @ axes.T
    return found


def projection(sums: Doubles, spread: Doubles, ridge: float, softness: float) -> Floats:
    """The shared adapter ``A``, ``float32[q, k]``: items are compared by ``z_iᵀ A Aᵀ z_j``.

    Ridge regression of scaled co-occurrence on pairs of texts, ``W = (C + ρI)⁻¹ M (C + ρI)⁻¹`` with ``M`` the summed
    :func:`semantic_sums`, ``C = Σ_i z_i z_iᵀ`` and ``ρ = ridge · tr C / q``; of ``W = Q diag(w) Qᵀ`` the positive part
    is kept, ``A = Q diag(w)^softness``.
    """
    size = len(spread)
    inverse = np.linalg.inv(spread + ridge * max(float(np.trace(spread)), FLOOR) / size * np.eye(size))
    metric = inverse @ sums @ inverse
    values, axes = np.linalg.eigh((metric + metric.T) / 2)
    values = np.maximum(values, 0.0)
    top = float(values.max(initial=0.0))
    if top > 0:
        values = values / top
    adapter: Floats = (axes * values**softness).astype(np.float32)
    return adapter


def factor_sums(
    taken: csr_matrix, scales: NDArray[np.floating], basis: NDArray[np.floating], clip: float
) -> NDArray[np.floating]:
    """A partner's part of one orthogonal iteration, ``S Xᵀ W X S U``, ``[works, width]`` of the basis's dtype.

    Parameters
    ----------
    taken
        Who took which of the partner's works, binary ``[users, works]``.
    scales, basis
        Of those works: ``s`` and the rows of ``U``.
    clip
        Bound on a person's part, ``(s∘x_u) (s∘x_u)ᵀU``. Its norm is ``‖s∘x_u‖ · ‖(s∘x_u)ᵀU‖``, at most
        ``Σ_i s_i² x_ui`` for the orthonormal U that a server should send; whatever it does send, the greater counts.
    """
    scaled = csr_matrix(taken @ diags_array(scales))
    size = np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel().astype(np.float64)
    seen = np.asarray(scaled @ basis)
    length = np.sqrt(size) * np.linalg.norm(seen.astype(np.float64), axis=1)
    weight = np.minimum(1.0, clip / np.maximum(np.maximum(size, length), 1e-9))
    image: NDArray[np.floating] = np.asarray(scaled.T @ (seen * weight.astype(basis.dtype)[:, None]))
    return image


def orthonormal(image: NDArray[np.floating]) -> Floats:
    """An orthonormal basis of the columns' span, ``float32[works, width]``, with a fixed choice of signs."""
    basis, triangle = np.linalg.qr(image.astype(np.float64))
    signs = np.where(np.diag(triangle) < 0, -1.0, 1.0)
    signed: Floats = (basis * signs).astype(np.float32)
    return signed


def factors(basis: Floats, image: Doubles, noise: float = 0.0) -> Doubles:
    """``F`` with ``F Fᵀ ≈ N`` from ``image = N · basis``, ``float64[works, width]`` (Nyström, positive semi-definite).

    ``F = Y (UᵀY)^-½`` never exceeds N, and is exact where the basis spans N's range. Of an image with ``noise`` in each
    value only the directions count whose eigenvalue is above what noise alone would reach, ``noise (√works + √width)``.
    """
    core = basis.astype(np.float64).T @ image
    values, axes = np.linalg.eigh((core + core.T) / 2)
    reached = noise * (np.sqrt(len(image)) + np.sqrt(len(core)))
    kept = values > max(1e-6 * float(values.max(initial=0.0)), 1e-18, float(reached))
    found: Doubles = image @ (axes[:, kept] / np.sqrt(values[kept]))
    return found
