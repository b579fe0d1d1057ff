"""What partners add up for federated adapters, and what server and partners make of the totals.

Notation: ``x_u`` a person's binary row of training events, ``z_i`` an item's whitened unit vector in the space,
``s_i = (n_i + 3)^-½`` the scale of an item or work taken ``n_i`` times. Every person's part is scaled down to an L2
norm of ``clip`` before it is added, so a sum's norm is at most ``clip`` times the number of people.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array

from koinon.data import Domain
from koinon.space import Space

__all__ = [
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
    scales: Floats = (1.0 / np.sqrt(counts.astype(np.float64) + SMOOTHING)).astype(np.float32)
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


def semantic_sums(matrix: csr_matrix, vectors: Floats, clip: float) -> Floats:
    """Co-occurrence seen through texts, ``Σ_u w_u Σ_{i≠j} s_i s_j x_ui x_uj z_i z_jᵀ``, ``float32[q, q]``.

    ``w_u`` keeps each person's part within ``clip``: its norm is at most ``‖Σ_i s_i x_ui z_i‖² + Σ_i s_i² x_ui``.
    """
    scales = item_scales(np.asarray(matrix.sum(axis=0)).ravel())
    scaled = csr_matrix(matrix @ diags_array(scales))
    person = (scaled @ vectors).astype(np.float64)
    size = (person**2).sum(axis=1) + np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel()
    weight = np.minimum(1.0, clip / np.maximum(size, 1e-9))
    alone = (matrix.T @ weight) * scales.astype(np.float64) ** 2
    total = person.T @ (person * weight[:, None]) - (vectors.T * alone) @ vectors
    summed: Floats = ((total + total.T) / 2).astype(np.float32)
    return summed


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


def factor_sums(taken: csr_matrix, scales: Floats, basis: Floats, clip: float) -> Floats:
    """A partner's part of one orthogonal iteration, ``S Xᵀ W X S U``, ``float32[works, width]``.

    Parameters
    ----------
    taken
        Who took which of the partner's works, binary ``[users, works]``.
    scales, basis
        Of those works: ``s`` and the rows of ``U``.
    clip
        Bound on a person's part, whose norm is at most ``Σ_i s_i² x_ui``.
    """
    scaled = csr_matrix(taken @ diags_array(scales))
    size = np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel()
    weight = np.minimum(1.0, clip / np.maximum(size, 1e-9)).astype(np.float32)
    image: Floats = np.asarray(scaled.T @ ((scaled @ basis) * weight[:, None]), dtype=np.float32)
    return image


def orthonormal(image: NDArray[np.floating]) -> Floats:
    """An orthonormal basis of the columns' span, ``float32[works, width]``, with a fixed choice of signs."""
    basis, triangle = np.linalg.qr(image.astype(np.float64))
    signs = np.where(np.diag(triangle) < 0, -1.0, 1.0)
    signed: Floats = (basis * signs).astype(np.float32)
    return signed


def factors(basis: Floats, image: Doubles) -> Doubles:
    """``F`` with ``F Fᵀ ≈ N`` from ``image = N · basis``, ``float64[works, width]`` (Nyström, positive semi-definite).

    ``F = Y (UᵀY)^-½`` never exceeds N, and is exact where the basis spans N's range.
    """
    core = basis.astype(np.float64).T @ image
    values, axes = np.linalg.eigh((core + core.T) / 2)
    kept = values > 1e-6 * max(float(values.max(initial=0.0)), 1e-12)
    found: Doubles = image @ (axes[:, kept] / np.sqrt(values[kept]))
    return found
