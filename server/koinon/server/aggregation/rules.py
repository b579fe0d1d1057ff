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

``trimmed_mean`` and ``median`` need three listers; a cell with fewer is bounded instead. So is every cell where there
are fewer than ``2·malicious + 3`` partners for ``krum``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution, TensorSpec, Total
from koinon.server.aggregation.cells import Cells

__all__ = ["RULES", "Robustness", "aggregate", "whole_of", "within_reason"]

Doubles = NDArray[np.float64]
Contributions = Mapping[str, Contribution]
BLOCK = 1 << 18
LISTERS = 3
EVIDENCE = 25.0
"""A partner that shares less than so many people's events with the others is not scaled as a whole."""


class Robustness(Config):
    """Settings of the rules that outvote what stands out."""

    level: float = Field(default=5.0, ge=1)
    """``bounded``: how many times as much as the others' people a partner's may take."""
    tolerance: float = Field(default=3.0, ge=1)
    """``bounded``: how many times as often as the others', given that, they may take one work or pair."""
    deviations: float = Field(default=4.0, ge=0)
    """``bounded``: standard errors of sampling allowed beyond that."""
    norm: float = Field(default=25.0, ge=1)
    """``bounded``: how many times the partners' median norm per person (or item) a tensor that counts nothing may have.
    Honest shops of films and of books differ 22-fold."""
    trim: float = Field(default=0.34, ge=0, lt=0.5)
    """``trimmed_mean``: share of the listers cut at each end, rounded down to whole partners."""
    malicious: int = Field(default=1, ge=1)
    """``krum``: partners that may be malicious; so many are left out of every round, guilty or not."""
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
    """
    if rule == "plain":
        return add_up(specs, contributions)
    return RULES[rule](specs, contributions, cells, settings)


def bounded(specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness) -> Total:
    """Bound each partner by the others, then add up; where nobody is out of line the plain sum comes out unchanged.

    A tensor that counts (``least = 0``) is bounded by :func:`within_reason`. Of any other the whole is scaled down to
    ``norm`` times the partners' median norm per unit.
    """
    people = {partner: contributions[partner].n_users for partner in contributions}
    totals = {}
    for spec in specs:
        if cells.measure(spec).least < 0:
            totals[spec.name] = _norm_bounded(spec, contributions, cells, settings)
            continue
        whole, units = whole_of(spec, contributions, cells)
        totals[spec.name] = np.zeros(spec.shape)
        for partner in sorted(contributions):
            sent = contributions[partner].arrays[spec.name].astype(np.float64)
            own = cells.units(partner, spec, contributions[partner])
            held = cells.held(partner, spec)
            totals[spec.name][held] += within_reason(spec, sent, own, whole, units, held, cells, settings)
    return Total(totals, sum(people.values()), tuple(sorted(people)))


def within_reason(
    spec: TensorSpec,
    sent: Doubles,
    own: int,
    whole: Doubles,
    units: Doubles,
    held: NDArray[np.bool_],
    cells: Cells,
    settings: Robustness,
) -> Doubles:
    """What of a partner's counts is believed, given what the others sent: ``float64[held]``, at most what it sent.

    Three times the partner is compared with the others, from the whole to the cell:

    1. If all of it together exceeds what its people would come to at the others' rates by more than ``level`` times, it
       is scaled down to those rates, so that it counts like an average partner of its size.
    2. Of a work, all its pairs together are held against :func:`upper_bound`, in people (pairs over the mean number of
       pairs that a reader of a work adds to it), and scaled down with both their ends.
    3. Every cell is held against :func:`upper_bound`.

    Differences in how much a partner's people take, up to ``level``, are no matter in 2 and 3: these are about which
    works.

    Parameters
    ----------
    spec, sent, own
        The tensor, what the partner sent, over how many people.
    whole, units
        What all listers sent together, how many people they have, per cell.
    held
        The rows the partner can speak of.
    cells, settings
        What the tensor counts, and what is believed.
    """
    believed, others, many = sent[held], (whole - sent)[held], (units - own)[held]
    expected = own * np.divide(others, many, out=np.zeros_like(others), where=many > 0)
    common = float(believed[many > 0].sum())
    level = max(common / max(float(expected.sum()), EVIDENCE), 1.0)
    if level > settings.level:
        believed, level = believed / level, 1.0
    if cells.measure(spec).rows == "pairs":
        known = many > 0
        # a person who took a work adds so many pairs to it, on average over works
        pairs = max(2.0 * float(whole.sum()) / max(float(cells.release.arrays["counts"].sum()), 1.0), 1.0)

        mine = cells.of_works(spec, np.where(known, believed, 0.0), held) / pairs
        theirs = cells.of_works(spec, others, held) / pairs
        listed = cells.of_works(spec, known.astype(np.float64), held)
        people = cells.of_works(spec, many, held) / np.maximum(listed, 1.0)
        allowed = upper_bound(theirs, own, people, level, settings)
        scale = np.minimum(1.0, np.divide(allowed, mine, out=np.ones_like(mine), where=mine > 0))
        first, second = (scale[end[held]] for end in cells.ends())
        believed = believed * np.where(known, np.minimum(first, second), 1.0)
    return np.minimum(believed, upper_bound(others, own, many, level, settings))


def upper_bound(others: Doubles, own: int, many: Doubles, level: float, settings: Robustness) -> Doubles:
    """How many of ``own`` people may have done what ``others`` of ``many`` did; ``inf`` where ``many`` is 0.

    Counts of rare events are near Poisson, their roots near normal with standard deviation 1/2 whatever the rate
    (Anscombe 1948). Two rates over ``n`` and ``m`` people that are equal but for a factor ``κ`` (``tolerance`` times
    the partner's ``level``) therefore obey, within ``z`` standard errors (``deviations``),

        √(x/n) ≤ √(κ·o/m) + z/2 · √(1/n + 1/m).

    Where the others did nothing, a partner may still bring ``z²/4 · (1 + n/m)`` people: rare taste is let through, mass
    is not.
    """
    known = many > 0
    many = np.where(known, many, 1.0)
    root = np.sqrt(settings.tolerance * level * np.maximum(others, 0.0) / many)
    root += settings.deviations / 2 * np.sqrt(1 / max(own, 1) + 1 / many)
    return np.where(known, own * root**2, np.inf)


def trimmed_mean(
    specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness
) -> Total:
    """Trim the listers' rates cell by cell, count the mean for all their people."""
    from flwr.serverapp.strategy.fedtrimmedavg import trim_mean  # loads Flower's whole server side

    return _by_rates(specs, contributions, cells, settings, lambda rates: trim_mean(rates, settings.trim))


def median(specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness) -> Total:
    """Take the median of the listers' rates cell by cell, count it for all their people."""
    return _by_rates(specs, contributions, cells, settings, lambda rates: np.median(rates, axis=0))


def krum(specs: Sequence[TensorSpec], contributions: Contributions, cells: Cells, settings: Robustness) -> Total:
    """Leave out the ``malicious`` partners farthest from their nearest neighbours, add up the others.

    The distance of two partners is ``1 - cos`` of their rates over the rows that both list, averaged over the tensors:
    rates of a large and of a small partner differ in noise, not in direction. Two that share no row are as far as
    unrelated ones.
    """
    partners = sorted(contributions)
    if len(partners) < 2 * settings.malicious + 3:
        return bounded(specs, contributions, cells, settings)
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
        total += contribution.arrays[spec.name].astype(np.float64)
        units += cells.units(partner, spec, contribution) * cells.held(partner, spec)
    return total, units


def _norm_bounded(spec: TensorSpec, contributions: Contributions, cells: Cells, settings: Robustness) -> Doubles:
    """Add up, each partner's tensor scaled down to ``norm`` times the median norm per unit (or of an update)."""
    rate = {}
    for partner in contributions:
        sent = contributions[partner].arrays[spec.name].astype(np.float64)
        units = cells.units(partner, spec, contributions[partner]) if spec.aggregation == "sum" else 1
        rate[partner] = float(np.linalg.norm(sent)) / max(units, 1)
    bound = settings.norm * float(np.median([value for value in rate.values() if value > 0] or [0.0]))
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
