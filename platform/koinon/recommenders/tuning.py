"""Choosing a recommender and its settings on validation, and on nothing else.

Every family gets the same number of trials (``budget``), shared by its stated starts and spent by coordinate descent:
one setting at a time is tried over its stated values and the best is kept. The EASE families search the same ridges,
user weightings and popularity priors from the same starts. Their trials share factorisations and vary what enters
linearly at the level of scores, so that forty trials cost about ten matrix inversions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl

from koinon.config import Config
from koinon.data import Domain, Split
from koinon.errors import RecommenderError
from koinon.recommenders._journal import Journal
from koinon.recommenders._search import Axis, Trial, Validator, descend
from koinon.recommenders.conventional import EaseConfig
from koinon.recommenders.conventional._factor_families import BPRFamily, IALSFamily
from koinon.recommenders.conventional._families import (
    EaseFamily,
    Family,
    ItemKNNFamily,
    PopularityFamily,
    SemanticEaseFamily,
)
from koinon.recommenders.protocol import Recommender
from koinon.space import Space

__all__ = [
    "LOCAL",
    "LOCAL_SPACE",
    "Axis",
    "BPRFamily",
    "EaseFamily",
    "Family",
    "IALSFamily",
    "ItemKNNFamily",
    "PopularityFamily",
    "SemanticEaseFamily",
    "Trial",
    "TuningResult",
    "Validator",
    "descend",
    "tune",
    "tune_local",
]

LOCAL: tuple[Family, ...] = (PopularityFamily(), ItemKNNFamily(), EaseFamily())
"""Arm ``local``: the best tuned baseline on the partner's own events, without texts."""
LOCAL_SPACE: tuple[Family, ...] = (SemanticEaseFamily(),)
"""Arm ``local_space``: the partner's own events and the frozen space, no federation."""


@dataclass(frozen=True)
class TuningResult:
    """What validation chose.

    Attributes
    ----------
    family
        The family chosen, and ``config`` its settings.
    value
        Their mean on validation.
    trials
        Everything tried: ``family, value, seconds, config`` (JSON), in order.
    """

    family: Family
    config: Config
    value: float
    trials: pl.DataFrame
    best_of: Mapping[str, Config]
    """The best settings of every family, by its name."""

    def build(self) -> Recommender:
        """Return an unfitted recommender with the chosen settings."""
        return self.family.build(self.config)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Recommender:
        """Return a recommender with the chosen settings, fitted on ``domain``."""
        return self.build().fit(domain, space, rng=rng)


def tune(
    candidates: Sequence[Family],
    split: Split,
    space: Space | None,
    *,
    metric: str = "ndcg@10",
    rng: np.random.Generator,
    budget: int = 80,
    caution: float = 0.5,
    rows: int = 3000,
    journal: Path | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> TuningResult:
    """Choose a family and its settings by the mean metric over main validation users.

    Parameters
    ----------
    candidates
        Families, e.g. :data:`LOCAL` or :data:`LOCAL_SPACE`; the earlier one wins a tie.
    split
        Only its training events and its validation set are read.
    space
        For families that read texts.
    metric
        What is maximised, ``ndcg@10``, ``recall@20`` ….
    rng
        Draws the validation users where there are more than ``rows``.
    budget
        Trials per family at most.
    caution
        Standard errors of its paired gain that a setting must win by to be adopted, see :func:`descend`.
    rows
        Validation users asked at most.
    journal
        Folder that keeps every finished trial, so that the same call goes on after it was interrupted.
    on_trial
        Called after every trial, also one that the journal held.

    Raises
    ------
    RecommenderError
        K404 a family needs a space, K406 unknown metric, K407 nobody to validate on, K408 no family to choose from.
    """
    if not candidates:
        raise RecommenderError("K408", "There is no family to choose from.", "Name at least one, e.g. LOCAL.")
    validator = Validator(split.train, split.validation, metric, rng, rows)
    chosen: tuple[Family, Config, float] | None = None
    trials: list[Trial] = []
    best_of: dict[str, Config] = {}
    asked = "" if journal is None else f"{validator.fingerprint()} {'' if space is None else space.fingerprint}"
    for family in candidates:
        if journal is not None:
            validator.journal = Journal(journal, f"{asked} {getattr(family, 'seed', 0)}")
        config, tried = family.search(validator, space, budget=budget, caution=caution, on_trial=on_trial)
        value = next(trial.value for trial in tried if trial.config == config)
        if chosen is None or value > chosen[2]:
            chosen = (family, config, value)
        trials.extend(tried)
        best_of[family.name] = config
    assert chosen is not None
    columns = {
        "family": [trial.family for trial in trials],
        "value": [trial.value for trial in trials],
        "seconds": [trial.seconds for trial in trials],
        "config": [trial.config.model_dump_json() for trial in trials],
    }
    return TuningResult(*chosen, pl.DataFrame(columns), best_of)


def tune_local(
    split: Split,
    space: Space,
    *,
    rng: np.random.Generator,
    budget: int = 80,
    on_trial: Callable[[Trial], None] | None = None,
) -> dict[str, TuningResult]:
    """Tune arms ``local`` and ``local_space``; the second starts from the first's EASE settings, which saves time.

    Arguments and errors as :func:`tune`.
    """
    drawn = int(rng.integers(2**63))
    local = tune(LOCAL, split, space, rng=np.random.default_rng(drawn), budget=budget, on_trial=on_trial)
    start = cast(EaseConfig, local.best_of[EaseFamily.name])
    families = (SemanticEaseFamily(start),)
    semantic = tune(families, split, space, rng=np.random.default_rng(drawn), budget=budget, on_trial=on_trial)
    return {"local": local, "local_space": semantic}
