"""A federation's privacy budget, as its policy states it; unsound ones cannot be constructed."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.errors import PrivacyError

__all__ = ["LEAST_COHORT", "PrivacyConfig"]

LEAST_COHORT = 3
"""With fewer contributors two could subtract themselves from a total, or one be left with the other's noise alone."""


class PrivacyConfig(Config):
    """What all that a federation's partners ever send may tell of one person: (ε, δ), and how it is kept to.

    ``epsilon`` is the person's, not a partner's: it covers every round, learner, run and audit of every partner that
    the person may be with (:attr:`sharing`), each of them seeing any part of it.

    Raises
    ------
    PrivacyError
        K660 ε is not finite and positive or δ is not below ``1 / people``, K664 an amplification is claimed that is
        not there, K663 distributed noise with an impossible share of honest partners.
    """

    epsilon: float
    """Finite; a federation without a budget leaves the whole table out."""
    delta: float
    """Below ``1 / people``: at 1/n a mechanism that publishes a random person's data would pass."""
    people: int = Field(ge=1)
    """More people than any partner has. Declared, so that it is public: it stands wherever a partner's number of people
    would, which is never told under a budget."""
    partners: int = Field(ge=1)
    """How many partners the federation has at most."""
    mechanism: Literal["local", "distributed"] = "local"
    """``local``: what each partner sends is private by itself, whoever sees it. ``distributed``: each adds a share of
    the noise and only totals under secure aggregation are private, with less noise."""
    sharing: tuple[tuple[str, ...], ...] | None = None
    """Groups of partners that may have people in common; a partner in none shares with nobody. Groups with a partner in
    common count as one. ``None``: all may."""
    honest: float = 0.5
    """``distributed``: share of the least cohort that adds its noise and does not tell it, above 0 and at most 1."""
    runs: int = Field(default=1, ge=1)
    """Whole trainings that the budget is to last."""
    audits: float = Field(default=0.0, ge=0, le=1)
    """Share of the budget that is kept for audits; 1 leaves nothing to train with."""
    sampling: float = 1.0
    """Share of its people that a partner draws at random for a round. Every learner reads them all, so nothing but 1
    is sound: less would claim an amplification."""
    unsafe_seed: int | None = None
    """Makes the noise repeatable, so that anybody who knows the policy can take it off: tests and benchmarks only."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise PrivacyError(
                "K660", f"epsilon = {self.epsilon} is no budget.", "State a finite one above 0, or leave `privacy` out."
            )
        if not 0 < self.delta < 1 / self.people:
            raise PrivacyError(
                "K660",
                f"delta = {self.delta} is not between 0 and 1/people = {1 / self.people:.1e}.",
                "Take a tenth of 1/people, or less.",
            )
        if self.sampling != 1.0:
            raise PrivacyError(
                "K664",
                f"sampling = {self.sampling} claims amplification by sampling, but learners read all people.",
                "Leave it out.",
            )
        if not 0 < self.honest <= 1:
            raise PrivacyError("K663", f"honest = {self.honest} is no share of partners.", "Between 0 and 1.")
        return self

    @property
    def safe(self) -> bool:
        """Whether the noise is nobody's to repeat."""
        return self.unsafe_seed is None

    def copies(self, partner: str) -> int:
        """How many partners' releases one of a partner's people may be in, at least 1."""
        if self.sharing is None:
            return self.partners
        reached = {partner}
        while True:
            more = reached.union(*(group for group in self.sharing if reached & set(group)))
            if more == reached:
                return len(reached)
            reached = more

    def check_cohort(self, minimum: int, *, secure: bool) -> None:
        """Hold the mechanism against how the federation adds up.

        Raises
        ------
        PrivacyError
            K663 distributed noise without secure aggregation, K665 with a cohort below :data:`LEAST_COHORT`.
        """
        if self.mechanism != "distributed":
            return
        if not secure:
            raise PrivacyError(
                "K663",
                "Distributed noise protects totals only, and here the server sees each partner's sums.",
                'Set aggregation = "secure", or mechanism = "local".',
            )
        if minimum < LEAST_COHORT:
            raise PrivacyError(
                "K665",
                f"Distributed noise with a minimum of {minimum} partners would leave a partner with too little.",
                f"Set minimum_participants to {LEAST_COHORT} or more.",
            )

    def noise_shares(self, minimum: int) -> int:
        """Into how many shares the whole noise is divided, ``max(1, ⌊honest · minimum⌋)``.

        Each survivor adds a variance of ``σ² / shares``; of at least ``minimum`` survivors at least ``shares`` are
        honest, so what colluders cannot take off is at least ``σ²``. With fewer honest ones, ``h < shares``, the
        noise multiplier that is left is ``√(h / shares)`` times the one charged.
        """
        return max(1, math.floor(self.honest * minimum))
