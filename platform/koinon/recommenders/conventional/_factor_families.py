"""The factorisations as families to tune: a trial is a whole fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config
from koinon.errors import RecommenderError
from koinon.recommenders._search import Axis, Trial, Validator, descend
from koinon.recommenders.conventional._bpr import BPR, BPRConfig
from koinon.recommenders.conventional._ials import IALS, IALSConfig
from koinon.recommenders.protocol import Recommender
from koinon.space import Space

__all__ = ["BPRFamily", "IALSFamily"]


class _FactorFamily:
    """Fits and asks, one setting after the other.

    Parameters
    ----------
    seed
        Of every trial.
    """

    name: ClassVar[str]
    axes: ClassVar[tuple[Axis, ...]]
    start: ClassVar[Config]

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def search(
        self,
        validator: Validator,
        space: Space | None,
        *,
        budget: int,
        caution: float,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> tuple[Config, list[Trial]]:
        """Vary what the class's ``axes`` say, from its ``start``."""

        def measure(config: Config) -> NDArray[np.float64]:
            try:
                model = self.build(config).fit(validator.domain, space, rng=np.random.default_rng(self.seed))
            except RecommenderError as error:
                if error.code != "K470":
                    raise
                return np.zeros(len(validator.requests))  # settings under which nothing finite is learned
            return validator.values(model.score(validator.requests))

        return descend(
            self.name,
            self.start,
            self.axes,
            measure,
            budget=budget,
            caution=caution,
            journal=validator.journal,
            on_trial=on_trial,
        )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted recommender with these settings."""
        raise NotImplementedError


class IALSFamily(_FactorFamily):
    """iALS: ridge and weight of what was not taken matter most, and hang together (Rendle et al. 2021, section 4)."""

    name: ClassVar[str] = IALS.name
    start: ClassVar[Config] = IALSConfig(factors=32)
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("regularization", (0.001, 0.003, 0.03, 0.1)),
        Axis("unobserved", (0.03, 0.3, 1.0)),
        Axis("regularization", (0.3, 3.0), relative=True),
        Axis("factors", (16, 64)),
        Axis("unobserved", (0.55, 1.8), relative=True),
        Axis("regularization", (0.55, 1.8), relative=True),
        Axis("sweeps", (16,)),
    )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted :class:`IALS`."""
        return IALS(cast(IALSConfig, config))


class BPRFamily(_FactorFamily):
    """BPR-MF."""

    name: ClassVar[str] = BPR.name
    start: ClassVar[Config] = BPRConfig(factors=32)
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis("regularization", (0.001, 0.003, 0.03, 0.1)),
        Axis("learning_rate", (0.02, 0.15, 0.5)),
        Axis("epochs", (25, 100)),
        Axis("factors", (16, 64)),
        Axis("regularization", (0.55, 1.8), relative=True),
    )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted :class:`BPR`."""
        return BPR(cast(BPRConfig, config))
