"""The closed form behind every EASE arm: from a Gram matrix and a prior to item-item weights.

``min_B  tr((I-B)ᵀ G (I-B)) + λ‖B - βS‖²  subject to diag(B) = 0`` has the solution

    P = (G + λI)⁻¹,   B = P(G + λβS) - P·diag(γ),   γ_j = (P(G + λβS))_jj / P_jj

and since ``PG = I - λP`` it is ``B = A + βC`` with ``A = I - P·diag(1/diag P)`` (plain EASE; Steck
2019, "Embarrassingly Shallow Autoencoders", eq. 8) and ``C = λ(PS - P·diag((PS)_jj / P_jj))``: every β costs one
addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, spotrf, spotri
from scipy.sparse import csc_matrix, csr_matrix

from koinon.errors import RecommenderError

__all__ = [
    "EaseParts",
    "cold_columns",
    "ease_parts",
    "gram_matrix",
    "item_scale",
    "rescale",
    "ridge_inverse",
    "solve_ease",
    "warmth",
]

Matrix = NDArray[np.floating[Any]]
Precision = type[np.float64] | type[np.float32]
Sparse = csr_matrix | csc_matrix

DOUBLE_UP_TO = 12_000
"""Catalogues beyond this many items are solved in single precision unless asked otherwise (20,000: 3 GiB, not 6)."""


@dataclass(frozen=True)
class EaseParts:
    """``B(β) = plain + β · prior``.

    Attributes
    ----------
    plain
        ``float[items, items]``, EASE without prior, zero diagonal.
    prior
        ``float[items, items]``, the prior's share per unit of β, zero diagonal; ``None`` without one.
    """

    plain: Matrix
    prior: Matrix | None

    def weights(self, beta: float) -> Matrix:
        """Return ``B(β)``, ``float[items, items]``."""
        if self.prior is None or beta == 0.0:
            return self.plain
        weights: Matrix = self.plain + self.plain.dtype.type(beta) * self.prior
        return weights


def gram_matrix(
    matrix: csr_matrix,
    *,
    user_power: float = 0.0,
    dtype: Precision | None = None,
) -> Matrix:
    """Return ``Xᵀ W X``, ``float[items, items]``, with ``W = diag(len_u^-user_power)``; 0 gives plain co-occurrence.

    ``user_power`` above 0 lets people with long histories count for less than their pairs (which grow as the square
    of their length) would.
    """
    lengths = np.asarray(matrix.getnnz(axis=1), dtype=np.float64)
    kind = dtype or _dtype(matrix.shape[1])
    left = matrix.astype(kind)
    if user_power:
        weights = np.power(np.maximum(lengths, 1.0), -user_power)
        left = left.copy()
        left.data = (left.data * np.repeat(weights, matrix.getnnz(axis=1))).astype(kind)
    gram: Matrix = np.asarray((matrix.astype(kind).T @ left).todense(), dtype=kind)
    return gram


def ease_parts(
    gram: Matrix,
    lambda_: float,
    prior: Sparse | None = None,
    *,
    dtype: Precision | None = None,
) -> EaseParts:
    """Factorise once and return what every β is made of.

    Parameters
    ----------
    gram
        ``float[items, items]``, symmetric, positive semi-definite; a local ``XᵀX`` or a sum over partners.
    lambda_
        Ridge, > 0, in units of events.
    prior
        ``S``, ``[items, items]`` sparse; column j says which items speak for item j. Its diagonal must be zero.
    dtype
        Precision of the solution; ``None``: double up to 12,000 items.

    Raises
    ------
    RecommenderError
        K401 the regularisation is not positive, K402 the shapes do not fit, K403 the matrix is not finite or not
        positive definite once the ridge is added.
    """
    if not lambda_ > 0:
        raise RecommenderError("K401", f"EASE's lambda must be above 0, not {lambda_}.", "Try 30 to 1000.")
    n = gram.shape[0]
    if gram.shape != (n, n) or (prior is not None and prior.shape != (n, n)):
        shape = None if prior is None else prior.shape
        raise RecommenderError(
            "K402", f"A Gram matrix {gram.shape} and a prior {shape} do not fit.", "Build both on one catalogue."
        )
    inverse = ridge_inverse(gram, lambda_, dtype or _dtype(n))
    diagonal = np.diag(inverse).copy()
    mixed: Matrix | None = None
    if prior is not None:
        columns = csr_matrix(prior.T).astype(inverse.dtype)
        mixed = np.asarray(columns @ inverse).T
        mixed -= inverse * (np.diag(mixed) / diagonal)
        mixed *= inverse.dtype.type(lambda_)
        np.fill_diagonal(mixed, 0.0)
    inverse = np.divide(inverse, -diagonal, out=inverse)
    np.fill_diagonal(inverse, 0.0)
    return EaseParts(inverse, mixed)


def solve_ease(
    gram: Matrix,
    lambda_: float,
    prior: Sparse | None = None,
    beta: float = 0.0,
    *,
    dtype: Precision | None = None,
) -> Matrix:
    """Return the item-item weights ``B``, ``float[items, items]``, zero diagonal; ``scores = X @ B``.

    ``gram`` may be the sum of many partners' matrices: the solution is then exactly the centralised one.
    Arguments and errors as :func:`ease_parts`; ``beta`` weighs the prior.
    """
    return ease_parts(gram, lambda_, prior if beta else None, dtype=dtype).weights(beta)


def warmth(counts: NDArray[np.int64], threshold: float, blend: float) -> NDArray[np.float64]:
    """``float64[items]``, 0 to 1: how far events, not texts, speak for each item (see :func:`cold_columns`)."""
    soft = counts / (counts + blend) if blend > 0 else np.ones(len(counts))
    return np.where(counts < threshold, 0.0, soft)


def item_scale(gram: Matrix) -> NDArray[np.float64]:
    """``float64[items]``: each item's events (the Gram matrix's diagonal) over their geometric mean; 1 where none.

    ``G' = D^-p G D^-p`` with these on the diagonal of D lets popular items explain less of everything else; being
    relative, they leave the ridge in units of events.
    """
    events = np.diag(gram).astype(np.float64)
    known = events > 0
    typical = np.exp(np.log(events[known]).mean()) if known.any() else 1.0
    return np.where(known, events / typical, 1.0)


def rescale(square: Matrix, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Matrix:
    """Multiply rows and columns in place and return the matrix."""
    square *= rows.astype(square.dtype)[:, None]
    square *= columns.astype(square.dtype)
    return square


def cold_columns(
    weights: Matrix, prior: Sparse, beta: float, counts: NDArray[np.int64], threshold: float, *, blend: float = 0.0
) -> Matrix:
    """Let the prior score items with few events: their columns become ``βS_j``.

    Plain EASE reads an empty column as dislike.

    Parameters
    ----------
    weights
        ``float[items, items]``, as solved; changed in place and returned.
    prior, beta
        As solved with.
    counts
        ``int64[items]`` events of each item.
    threshold
        Columns with ``counts < threshold`` are replaced; 1 replaces those without any event.
    blend
        Above 0: the other columns become ``(n·B_j + blend·βS_j) / (n + blend)``, a soft version of the same rule.
    """
    source = csc_matrix(prior)
    keep = warmth(counts, threshold, blend)
    weights *= keep.astype(weights.dtype)
    give = (1.0 - keep) * beta
    column = np.repeat(np.arange(source.shape[1]), np.diff(source.indptr))
    touched = give[column] != 0
    rows, columns = source.indices[touched], column[touched]
    weights[rows, columns] += (source.data[touched] * give[columns]).astype(weights.dtype)
    return weights


def _dtype(items: int) -> Precision:
    return np.float64 if items <= DOUBLE_UP_TO else np.float32


def ridge_inverse(gram: Matrix, lambda_: float, dtype: Precision) -> Matrix:
    """``(G + λI)⁻¹``, full and symmetric, by Cholesky in place of one copy."""
    ridged = np.array(gram, dtype=dtype, order="F")
    np.fill_diagonal(ridged, np.diag(ridged) + np.asarray(lambda_, dtype=dtype))
    factorise, invert = (dpotrf, dpotri) if dtype is np.float64 else (spotrf, spotri)
    factor, failed = factorise(ridged, lower=1, overwrite_a=1, clean=0)
    if failed or not np.isfinite(factor.diagonal()).all():
        raise RecommenderError(
            "K403",
            "The Gram matrix is not finite or not positive definite after the ridge.",
            "Check the sum for missing partners, or raise lambda.",
        )
    inverse, _ = invert(factor, lower=1, overwrite_c=1)
    _mirror_lower(inverse)
    # column-major and symmetric: the transpose is the same matrix in C order, at no cost
    symmetric: Matrix = inverse.T
    return symmetric


def _mirror_lower(square: Matrix, block: int = 1024) -> None:
    """Copy the lower triangle onto the upper one, block by block."""
    n = len(square)
    for start in range(0, n, block):
        stop = min(start + block, n)
        upper = np.triu_indices(stop - start, 1)
        corner = square[start:stop, start:stop]
        corner[upper] = corner.T[upper]
        square[start:stop, stop:] = square[stop:, start:stop].T
