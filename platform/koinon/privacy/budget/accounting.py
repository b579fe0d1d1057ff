"""From a budget to noise multipliers, and from what was charged to the ε that is spent.

A *noise multiplier* z is the noise's standard deviation in units of what one person may change (L2). Gaussian
mechanisms of multipliers z₁, z₂, … are together one of multiplier ``(Σ 1/zᵢ²)^-½``, also where each was chosen in the
light of the earlier ones (Dong, Roth and Su 2022, Gaussian Differential Privacy, Corollary 2). So a budget is a *mass*
``1/z²`` that is divided among releases like money. Stopping before the budget is passed costs nothing on top: the
charges follow from the policy, and for charges that do not Feldman and Zrnic (2021, Individual Privacy Accounting via a
Rényi Filter) prove it.

Gaussian charges are composed by their privacy loss distribution, which is tight. As soon as discrete ones are among
them, everything is composed by Rényi divergence, where those have their proven bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from koinon.errors import PrivacyError

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dp_accounting import PrivacyAccountant as Accountant

    from koinon.privacy.budget.config import PrivacyConfig

__all__ = ["Event", "composed", "events_of", "mass_of", "multiplier_of", "spent"]

_CAUTION = 1e-4
"""Relative excess of calibrated noise: more than what the accountants' numerics and rounding could make up."""


@dataclass(frozen=True)
class Event:
    """One release as a person feels it.

    Attributes
    ----------
    kind
        ``gaussian``: ``value`` is the noise multiplier. ``zcdp``: ``value`` is ρ of zero-concentrated differential
        privacy (Bun and Steinke 2016).
    value
        Positive and finite.
    copies
        How many such releases of independent noise the person may be in: one at each partner of its group.

    Raises
    ------
    PrivacyError
        K662 a multiplier or ρ that is not positive and finite.
    """

    kind: Literal["gaussian", "zcdp"]
    value: float
    copies: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0 and self.copies >= 1):
            raise PrivacyError(
                "K662",
                f"A {self.kind} release of {self.value} has no finite cost.",
                "Noise must be positive and finite wherever there is a budget.",
            )


def composed(events: Iterable[Event]) -> DpEvent:
    """All events as one event of ``dp-accounting``: at most one Gaussian and one of zCDP."""
    from dp_accounting import ComposedDpEvent, GaussianDpEvent, NoOpDpEvent, ZCDpEvent

    mass = rho = 0.0
    for event in events:
        if event.kind == "gaussian":
            mass += event.copies / event.value**2
        else:
            rho += event.copies * event.value
    parts: list[DpEvent] = [GaussianDpEvent(mass**-0.5)] if mass else []
    parts += [ZCDpEvent(rho)] if rho else []
    return ComposedDpEvent(parts) if parts else NoOpDpEvent()


def spent(events: Sequence[Event], delta: float) -> float:
    """Return the ε that the events cost together at ``delta``; 0 for none."""
    if not events:
        return 0.0
    accountant = _accountant(any(event.kind == "zcdp" for event in events))
    return float(accountant.compose(composed(events)).get_epsilon(delta))


@lru_cache(maxsize=64)
def mass_of(epsilon: float, delta: float, kind: Literal["gaussian", "zcdp"]) -> float:
    """Return ``Σ 1/z²`` (of zCDP ``2ρ``, the same thing) that a budget may hold.

    Raises
    ------
    PrivacyError
        K660 a budget so small that the accountant can show of no noise that it keeps to it.
    """
    from dp_accounting import GaussianDpEvent, NonPrivateDpEvent, ZCDpEvent, calibrate_dp_mechanism
    from dp_accounting.mechanism_calibration import NoBracketIntervalFoundError

    def event(multiplier: float) -> DpEvent:
        if not multiplier:
            return NonPrivateDpEvent()
        return GaussianDpEvent(multiplier) if kind == "gaussian" else ZCDpEvent(0.5 / multiplier**2)

    try:
        least = float(calibrate_dp_mechanism(lambda: _accountant(kind == "zcdp"), event, epsilon, delta, tol=1e-6))
    except NoBracketIntervalFoundError as error:
        raise PrivacyError(
            "K660",
            f"No noise can be shown to keep to epsilon = {epsilon:g} at delta = {delta:g}.",
            'Raise one of them, or set mechanism = "local", whose accountant is tight.',
        ) from error
    return (least * (1 + _CAUTION)) ** -2


def multiplier_of(privacy: PrivacyConfig, share: float, copies: int) -> float:
    """Return the noise multiplier of a release that may use ``share`` of the whole budget, 0 to 1.

    With ``copies`` partners that may share a person: under local noise each partner's release costs by itself, so
    ``z = √(copies / (share · mass))``; in a total under distributed noise the person's parts add up before the noise,
    ``copies`` times one, so ``z = copies / √(share · mass)``.

    Raises
    ------
    PrivacyError
        K662 no share at all, or one that is nothing in float64; K660 as :func:`mass_of`.
    """
    local = privacy.mechanism == "local"
    mass = share * mass_of(privacy.epsilon, privacy.delta, "gaussian" if local else "zcdp")
    if not mass > 0:
        raise PrivacyError("K662", "A release without a share of the budget.", "Give every release a positive share.")
    return math.sqrt(copies / mass) if local else copies / math.sqrt(mass)


def events_of(privacy: PrivacyConfig, multiplier: float, copies: int) -> tuple[Event, ...]:
    """What a release costs a person that ``copies`` partners may share, given its noise multiplier at one of them."""
    if privacy.mechanism == "local":
        return (Event("gaussian", multiplier, copies),)
    return (Event("zcdp", 0.5 * (copies / multiplier) ** 2 if multiplier > 0 else math.inf),)


def _accountant(discrete: bool) -> Accountant:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    relation = NeighboringRelation.ADD_OR_REMOVE_ONE
    return RdpAccountant(neighboring_relation=relation) if discrete else PLDAccountant(relation)
