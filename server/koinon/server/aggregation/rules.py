"""The rules by which contributions become a total.

The tensors are sums over very unequal partners with partly disjoint catalogues. What is compared is therefore never the
sums: a cell ``j`` of partner ``p`` is read as the rate ``r_pj = x_pj / n_p`` over its ``n_p`` people (or items), only
among ``A_j``, the partners that list it; a robust rate ``m_j`` counts for ``N_j = Σ_{p∈A_j} n_p`` of them.

=============== ============================================================================================
``plain``        ``T_j = Σ_p x_pj``
``bounded``      ``T_j = Σ_p min(x_pj, b_pj)``: nobody may exceed by far what all others together let expect
``trimmed_mean`` ``T_j = N_j · m_j``, ``m_j`` the mean of the rates without the highest and lowest share (Yin et al.
                 2018, "Byzantine-robust distributed learning", definition 2), by Flower's ``trim_mean``
``median``       ``T_j = N_j · m_j``, ``m_j`` the median of the rates (ibid., definition 1)
``krum``         ``T_j = Σ_{p kept} x_pj``: the partners farthest from their neighbours are left out (Blanchard et al.
                 2017, "Machine learning with adversaries", section 4: multi-Krum)
=============== ============================================================================================

``trimmed_mean`` and ``median`` need three listers; a cell with fewer is bounded instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.errors import FederationError
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution, TensorSpec, Total
from koinon.server.aggregation.cells import Cells

__all__ = ["RULES", "Robustness", "aggregate", "upper_bounds", "whole_of"]

Doubles = NDArray[np.float64]
Contributions = Mapping[str, Contribution]
BLOCK = 1 << 18
LISTERS = 3


class Robustness(Config):
    """Settings of the rules that outvote what stands out."""

    tolerance: float = Field(default=3.0, ge=1)
    """``bounded``: how many times the others' rate is still taken for a difference in taste."""
    deviations: float = Field(default=4.0, ge=0)
    """``bounded``: standard errors of sampling allowed beyond that."""
    trim: float = Field(default=0.34, ge=0, lt=0.5)
    """``trimmed_mean``: share of the listers cut at each end, rounded down to whole partners."""
    malicious: int = Field(default=1, ge=1)
    """``krum``: partners that may be malicious, so many are left out; it needs twice as many and three."""
    largest_partner: int | None = Field(default=None, ge=1)
    """People that one partner may speak for; ``None``: as many as its first answer in a run says."""


def aggregate(
    rule: str, specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness
) -> Total:
    """Add up by the named rule.

    Parameters
    ----------
    rule
        A key of :data:`RULES`, or ``plain``.
    specs
        What was asked for.
    contributions
        What has passed the gate; read one at a time, except by ``trimmed_mean``, ``median`` and ``krum``.
    cells
        Who can speak of what.
    settings
        Of the rule.

    Raises
    ------
    FederationError
        K758 there are too few partners for ``krum``.
    """
    if rule == "plain":
        return add_up(specs, contributions)
    return RULES[rule](specs, contributions, cells, settings)


def bounded(specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness) -> Total:
    """Bound each partner by the others, then add up; where nobody is out of line the plain sum comes out unchanged.

    A cell that counts (``least = 0``) is bounded by :func:`upper_bounds`. Of any other tensor the whole is scaled down
    to ``tolerance`` times the partners' median norm per unit.
    """
    people = {partner: contributions[partner].n_users for partner in contributions}
    totals = {}
    for spec in specs:
        if cells.measure(spec).least >= 0:
            whole, units = whole_of(spec, contributions, cells)
            total = np.zeros(spec.shape)
            for partner in sorted(contributions):
                sent = contributions[partner].arrays[spec.name].astype(np.float64)
                own = cells.units(partner, spec, contributions[partner])
                total += np.minimum(sent, upper_bounds(sent, own, whole, units, settings))
        else:
            total = _norm_bounded(spec, contributions, cells, settings)
        totals[spec.name] = total
    return Total(totals, sum(people.values()), tuple(sorted(people)))


def upper_bounds(sent: Doubles, own: int, whole: Doubles, units: Doubles, settings: Robustness) -> Doubles:
    """What a partner's cells may hold at most, given what the other listers sent: ``float64`` as ``sent``.

    Counts of rare events are near Poisson, their roots near normal with standard deviation 1/2 whatever the rate
    (Anscombe 1948). Two rates over ``n`` and ``m`` people that are equal but for a factor ``κ`` (``tolerance``)
    therefore obey, within ``z`` standard errors (``deviations``),

        √(x/n) ≤ √(κ·o/m) + z/2 · √(1/n + 1/m),

    ``o`` being what the others sent. Where they sent nothing, a partner may still bring ``z²/4 · (1 + n/m)``
    people: rare taste is let through, mass is not. Cells that no other partner lists are not bounded.

    Parameters
    ----------
    sent, own
        The partner's sums, and over how many people.
    whole, units
        The same of all listers together, ``float64`` as ``sent`` (counting tensors have one axis).
    settings
        ``tolerance`` and ``deviations``.
    """
    others, many = whole - sent, units - own
    known = many > 0
    many = np.where(known, many, 1.0)
    root = np.sqrt(settings.tolerance * np.maximum(others, 0.0) / many)
    root += settings.deviations / 2 * np.sqrt(1 / max(own, 1) + 1 / many)
    return np.where(known, own * root**2, np.inf)


def trimmed_mean(
    specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness
) -> Total:
    """Trim the listers' rates cell by cell, count the mean for all their people."""
    return _by_rates(specs, contributions, cells, settings, lambda rates: trim_mean(rates, settings.trim))


def median(specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness) -> Total:
    """Take the median of the listers' rates cell by cell, count it for all their people."""
    return _by_rates(specs, contributions, cells, settings, lambda rates: np.median(rates, axis=0))


def krum(specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness) -> Total:
    """Leave out the ``malicious`` partners farthest from their nearest neighbours, add up the others.

    The distance of two partners is ``1 - cos`` of their rates over the rows that both list, averaged over the tensors:
    rates of a large and of a small partner differ in noise, not in direction. Two that share no row are as far as
    unrelated ones.

    Raises
    ------
    FederationError
        K758 fewer than ``2·malicious + 3`` partners.
    """
    partners = sorted(contributions)
    least = 2 * settings.malicious + 3
    if len(partners) < least:
        raise FederationError(
            "K758",
            f"Krum needs {least} partners to withstand {settings.malicious}, there are {len(partners)}.",
            "Wait for more partners, or take the rule `bounded`, which needs two.",
        )
    distance = np.mean([_distances(spec, partners, contributions, cells) for spec in specs], axis=0)
    nearest = np.sort(distance, axis=1)[:, 1 : len(partners) - settings.malicious - 1]
    kept = np.argsort(nearest.sum(axis=1), kind="stable")[: len(partners) - settings.malicious]
    return add_up(specs, {partners[row]: contributions[partners[row]] for row in sorted(kept)})


Rule = Callable[[Sequence[TensorSpec], Contributions, Cells, Robustness], Total]

RULES: Mapping[str, Rule] = {"bounded": bounded, "trimmed_mean": trimmed_mean, "median": median, "krum": krum}
"""By the name a policy gives it; ``plain`` is :func:`koinon.recommenders.federated.totals.add_up`."""


def whole_of(spec: TensorSpec, contributions: Contributions, cells: Cells) -> tuple[Doubles, Doubles]:
    """Sum over all partners, and how many people or items speak of each row, ``float64[rows]``."""
    total, units = np.zeros(spec.shape), np.zeros(spec.shape[0])
    for partner in sorted(contributions):
        contribution = contributions[partner]
        total += contribution.arrays[spec.name]
        units += cells.units(partner, spec, contribution) * cells.held(partner, spec)
    return total, units


def _norm_bounded(spec: TensorSpec, contributions: Contributions, cells: Cells, settings: Robustness) -> Doubles:
    """Add up, each partner's tensor scaled down to ``tolerance`` times the median norm per unit (or of an update)."""
    rate = {}
    for partner in contributions:
        sent = contributions[partner].arrays[spec.name].astype(np.float64)
        units = cells.units(partner, spec, contributions[partner]) if spec.aggregation == "sum" else 1
        rate[partner] = float(np.linalg.norm(sent)) / max(units, 1)
    bound = settings.tolerance * float(np.median([value for value in rate.values() if value > 0] or [0.0]))
    total = np.zeros(spec.shape)
    people = 0
    for partner in sorted(contributions):
        weight = contributions[partner].n_users if spec.aggregation == "mean" else 1
        scale = min(1.0, bound / rate[partner]) if rate[partner] > 0 else 1.0
        total += weight * scale * contributions[partner].arrays[spec.name].astype(np.float64)
        people += weight
    return total / max(people, 1) if spec.aggregation == "mean" else total


def _by_rates(
    specs: Sequence[TensorSpec],
    contributions: Contributions,
    cells: Cells,
    settings: Robustness,
    location: Callable[[NDArray[np.floating]], NDArray[np.floating]],
) -> Total:
    """Where three or more list a cell, their robust rate times their people; elsewhere bounded sums."""
    partners = sorted(contributions)
    fallback = bounded(specs, contributions, cells, settings)
    totals: dict[str, Doubles] = {}
    for spec in specs:
        held = np.stack([cells.held(partner, spec) for partner in partners])
        units = np.array([cells.units(p, spec, contributions[p]) for p in partners], dtype=np.float64)
        weight = np.ones(len(partners)) if spec.aggregation == "mean" else np.maximum(units, 1.0)
        sent = np.stack([contributions[p].arrays[spec.name].astype(np.float32) for p in partners])
        total = fallback.arrays[spec.name].copy()
        # cells with the same listers are taken together, so that no list is padded
        for listers, rows in _alike(held):
            if len(listers) < LISTERS:
                continue
            for begin in range(0, len(rows), BLOCK):
                part = rows[begin : begin + BLOCK]
                rates = sent[listers[:, None], part].astype(np.float64)
                rates /= weight[listers].reshape(-1, *(1 for _ in spec.shape))
                total[part] = location(rates) * (1.0 if spec.aggregation == "mean" else weight[listers].sum())
        totals[spec.name] = total
    return Total(totals, fallback.n_users, fallback.partners)


def _alike(held: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Group rows by who lists them: ``(partners, rows)``."""
    packed = np.packbits(held, axis=0)
    _, first, which = np.unique(packed, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which.ravel()))[:-1])
    return [(np.flatnonzero(held[:, at]), rows) for at, rows in zip(first, parts, strict=True)]


def _distances(spec: TensorSpec, partners: Sequence[str], contributions: Contributions, cells: Cells) -> Doubles:
    """``1 - cos`` of every two partners over the rows that both list, ``float64[partners, partners]``."""
    distance = np.zeros((len(partners), len(partners)))
    for one, first in enumerate(partners):
        mine = contributions[first].arrays[spec.name].astype(np.float32)
        listed = cells.held(first, spec)
        for two in range(one + 1, len(partners)):
            both = listed & cells.held(partners[two], spec)
            a, b = mine[both].ravel(), contributions[partners[two]].arrays[spec.name][both].astype(np.float32).ravel()
            size = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
            distance[one, two] = distance[two, one] = 1.0 - (float(a @ b) / size if size > 0 else 0.0)
    return distance
