"""Sequence recommenders as families to tune: from the published settings, one setting at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config
from koinon.recommenders._search import Axis, Trial, Validator, descend
from koinon.recommenders.fitting import Progress
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.sequential._config import HSTUConfig, SASRecConfig, SequenceConfig
from koinon.recommenders.sequential.recommender import HSTU, SASRec, SequenceRecommender
from koinon.space import Space

__all__ = ["HSTUFamily", "SASRecFamily", "SequenceFamily"]

AXES = (
    Axis("dropout", (0.4, 0.1)),
    Axis("loss", ("full",)),
    Axis("learning_rate", (3e-3, 3e-4)),
    Axis("temperature", (0.03, 0.1)),
    Axis("width", (100, 200)),
    Axis("blocks", (4,)),
    Axis("batch_users", (32,)),
    Axis("gaps", (True,)),
    Axis("dropout", (0.3, 0.5)),
)


class SequenceFamily:
    """Trials are whole trainings, each stopped early on the validation users it is judged by.

    Parameters
    ----------
    start
        Settings to begin at; the defaults if not given.
    seed
        Of every trial.
    on_progress
        Called after every step of every training.
    """

    name: ClassVar[str]
    kind: ClassVar[type[SequenceRecommender]]
    defaults: ClassVar[SequenceConfig]

    def __init__(
        self,
        start: SequenceConfig | None = None,
        *,
        seed: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.start, self.seed, self.on_progress = start or self.defaults, seed, on_progress

    def search(
        self,
        validator: Validator,
        space: Space | None,
        *,
        budget: int,
        caution: float,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> tuple[Config, list[Trial]]:
        """Vary dropout, loss, step size, temperature, width, depth and batch."""

        def values(model: SequenceRecommender) -> NDArray[np.float64]:
            return validator.values(model.score(validator.requests))

        def measure(config: SequenceConfig) -> NDArray[np.float64]:
            model = cast(SequenceRecommender, self.build(config))
            model.fit(
                validator.domain,
                space,
                rng=np.random.default_rng(self.seed),
                validate=lambda at_work: float(values(at_work).mean()),
                on_progress=self.on_progress,
            )
            return values(model)

        return descend(
            self.name, self.start, AXES, measure, budget=budget, caution=caution, journal=validator.journal,
            on_trial=on_trial,
        )  # fmt: skip

    def build(self, config: Config) -> Recommender:
        """Return an unfitted recommender with these settings."""
        return self.kind(cast(SequenceConfig, config))


class SASRecFamily(SequenceFamily):
    """SASRec, from a sampled softmax."""

    name: ClassVar[str] = SASRec.name
    kind: ClassVar[type[SequenceRecommender]] = SASRec
    defaults: ClassVar[SequenceConfig] = SASRecConfig()


class HSTUFamily(SequenceFamily):
    """HSTU, from the published base model."""

    name: ClassVar[str] = HSTU.name
    kind: ClassVar[type[SequenceRecommender]] = HSTU
    defaults: ClassVar[SequenceConfig] = HSTUConfig()
