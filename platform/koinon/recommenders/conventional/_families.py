"""The families tuning chooses from: where each starts, what it varies, and how a trial is scored cheaply."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders._search import Axis, Trial, Validator, descend, descend_from_each
from koinon.recommenders.conventional._ease import EASE, EaseConfig, SemanticEASE, SemanticEaseConfig
from koinon.recommenders.conventional._knn import ItemKNN, ItemKNNConfig, item_neighbours
from koinon.recommenders.conventional._popularity import Popularity, PopularityConfig, popularity_prior
from koinon.recommenders.conventional._prior import semantic_prior
from koinon.recommenders.conventional._solve import (
    EaseParts,
    Matrix,
    ease_parts,
    gram_matrix,
    item_scale,
    rescale,
    warmth,
)
from koinon.recommenders.protocol import Recommender
from koinon.space import Space

__all__ = ["EaseFamily", "Family", "ItemKNNFamily", "PopularityFamily", "SemanticEaseFamily"]

Scores = NDArray[np.float32]
OnTrial = Callable[[Trial], None] | None


class Family(Protocol):
    """One kind of recommender with the settings tried for it."""

    name: ClassVar[str]

    def search(
        self, validator: Validator, space: Space | None, *, budget: int, caution: float, on_trial: OnTrial = None
    ) -> tuple[Config, list[Trial]]:
        """Return the best settings on validation and every trial."""
        ...

    def build(self, config: Config) -> Recommender:
        """Return an unfitted recommender with these settings."""
        ...


class PopularityFamily:
    """Popularity; where there are times, also of a window and with a half-life."""

    name: ClassVar[str] = Popularity.name

    def search(
        self, validator: Validator, space: Space | None, *, budget: int, caution: float, on_trial: OnTrial = None
    ) -> tuple[Config, list[Trial]]:
        """Try windows of a week to a year, then half-lives of a month to a year."""
        domain = validator.domain
        timed = [Axis("window_days", (7.0, 30.0, 90.0, 365.0)), Axis("half_life_days", (30.0, 90.0, 365.0))]
        axes = [] if domain.events.time is None else timed

        def measure(config: PopularityConfig) -> NDArray[np.float64]:
            row = popularity_prior(domain, config.half_life_days, config.window_days)
            return validator.values(np.tile(row, (len(validator.requests), 1)))

        start = PopularityConfig()
        return descend(
            self.name,
            start,
            axes,
            measure,
            budget=budget,
            caution=caution,
            journal=validator.journal,
            on_trial=on_trial,
        )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted :class:`Popularity`."""
        return Popularity(cast(PopularityConfig, config))


class ItemKNNFamily:
    """Item neighbours."""

    name: ClassVar[str] = ItemKNN.name

    def search(
        self, validator: Validator, space: Space | None, *, budget: int, caution: float, on_trial: OnTrial = None
    ) -> tuple[Config, list[Trial]]:
        """Vary neighbours, shrinkage, the popularity prior and the weight of what is recent."""
        axes = [
            Axis("shrink", (0.0, 3.0, 30.0, 100.0)),
            Axis("neighbours", (20, 50, 200, 500)),
            *_linear_axes(validator.domain),
            Axis("shrink", (0.5, 2.0), relative=True),
        ]

        gram = gram_matrix(validator.domain.matrix, dtype=np.float32)

        def measure(config: ItemKNNConfig) -> NDArray[np.float64]:
            weights = item_neighbours(gram, config.neighbours, config.shrink)
            history = validator.history(config.recency)
            return validator.values(_finish((history @ weights).toarray(), history, config, validator))

        start = ItemKNNConfig()
        return descend(
            self.name,
            start,
            axes,
            measure,
            budget=budget,
            caution=caution,
            journal=validator.journal,
            on_trial=on_trial,
        )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted :class:`ItemKNN`."""
        return ItemKNN(cast(ItemKNNConfig, config))


class EaseFamily:
    """EASE without texts."""

    name: ClassVar[str] = EASE.name

    def search(
        self, validator: Validator, space: Space | None, *, budget: int, caution: float, on_trial: OnTrial = None
    ) -> tuple[Config, list[Trial]]:
        """Vary the ridge, the weighting of users and items, the popularity prior and the weight of what is recent."""
        trial = _EaseTrial(validator, None)
        return descend_from_each(
            self.name,
            STARTS,
            [*RIDGE_AXES, *_linear_axes(validator.domain), OUTPUT, RIDGE_FINE],
            trial.measure,
            budget=budget,
            caution=caution,
            journal=validator.journal,
            on_trial=on_trial,
        )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted :class:`EASE`."""
        return EASE(cast(EaseConfig, config))


class SemanticEaseFamily:
    """EASE with the semantic prior, no federation.

    Parameters
    ----------
    start
        Settings of plain EASE to start from, e.g. those :class:`EaseFamily` found, beside the last of :data:`STARTS`;
        ``None``: look for them first, in the same way and out of the same budget.
    """

    name: ClassVar[str] = SemanticEASE.name

    def __init__(self, start: EaseConfig | None = None) -> None:
        self.start = start

    def search(
        self, validator: Validator, space: Space | None, *, budget: int, caution: float, on_trial: OnTrial = None
    ) -> tuple[Config, list[Trial]]:
        """From the best plain EASE, vary the weight of the prior, overall and on items with few events."""
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        trial = _EaseTrial(validator, np.asarray(space.encode(validator.domain.texts), dtype=np.float32))
        first = [] if self.start else [*RIDGE_AXES, *_linear_axes(validator.domain), OUTPUT]
        axes = [
            *first,
            Axis("beta", (0.03, 0.1, 0.3, 1.0)),
            Axis("lambda_", (0.1, 0.3, 1.8), relative=True),
            Axis("cold_weight", (0.03, 0.3, 1.0)),
            Axis("cold_blend", (1.0, 3.0, 10.0)),
            Axis("item_power", (0.0, 0.5)),
            Axis("popularity_weight", (0.0,)),
            Axis("popularity_weight", (0.3, 3.0), relative=True),
            Axis("beta", (0.55, 1.8), relative=True),
            Axis("lambda_", (0.55, 1.8), relative=True),
            Axis("popularity_weight", (0.5, 2.0), relative=True),
            Axis("cold_weight", (0.3, 3.0), relative=True),
            Axis("beta", (0.55, 1.8), relative=True),
        ]
        plain = (self.start, STARTS[-1]) if self.start else STARTS
        starts = [SemanticEaseConfig(beta=0.0, cold_weight=0.1, **one.model_dump()) for one in plain]
        return descend_from_each(
            self.name,
            starts,
            axes,
            trial.measure,
            budget=budget,
            caution=caution,
            journal=validator.journal,
            on_trial=on_trial,
        )

    def build(self, config: Config) -> Recommender:
        """Return an unfitted :class:`SemanticEASE`."""
        return SemanticEASE(cast(SemanticEaseConfig, config))


STARTS = (EaseConfig(item_power=0.25), EaseConfig(lambda_=100.0, item_power=0.5, popularity_weight=0.01))
"""Where every EASE family begins: the defaults, and what small sparse shops tend to end at."""
RIDGE_AXES = (
    Axis("lambda_", (10.0, 30.0, 300.0, 1000.0)),
    Axis("item_power", (0.0, 0.5)),
    Axis("user_power", (0.5, 1.0)),
)
OUTPUT = Axis("output_power", (0.25, 0.5))
RIDGE_FINE = Axis("lambda_", (0.55, 1.8), relative=True)


def _linear_axes(domain: Domain) -> list[Axis]:
    """What all item-item models vary alike; what is recent only where there are times."""
    coarse = Axis("popularity_weight", (0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
    fine = Axis("popularity_weight", (0.5, 2.0), relative=True)
    if domain.events.time is None:
        return [coarse, fine]
    window, more = Axis("window_days", (7.0, 30.0, 90.0)), Axis("popularity_weight", (0.3, 1.0, 3.0))
    return [Axis("half_life_days", (30.0, 365.0)), coarse, window, more, Axis("recency", (0.99, 0.97, 0.9)), fine]


class _EaseTrial:
    """Scores EASE settings on validation; factorisations are kept while ridge and weightings stay."""

    def __init__(self, validator: Validator, vectors: Scores | None) -> None:
        self.validator = validator
        self.counts = validator.domain.item_counts
        self.prior = None if vectors is None else semantic_prior(vectors, SemanticEaseConfig().neighbours)
        self._grams: dict[float, Matrix] = {}
        self._parts: dict[tuple[float, ...], EaseParts] = {}
        self._products: dict[tuple[float, ...], tuple[Scores, Scores | None]] = {}
        self._spoken: dict[tuple[float, ...], Scores] = {}

    def measure(self, config: EaseConfig) -> NDArray[np.float64]:
        """Metric per validation user, as the fitted recommender would get it."""
        gram = self._gram(config.user_power)
        scale = item_scale(gram)
        history = self.validator.history(config.recency)
        scaled = csr_matrix(history @ diags_array(scale**-config.item_power).astype(np.float32))
        plain, prior = self._product(config, scaled)
        scores = plain.copy()
        if isinstance(config, SemanticEaseConfig):
            scores += 0.0 if prior is None else np.float32(config.beta) * prior
            scores = self._cold(scores, config, scaled)
        scores *= (scale**config.output_power).astype(np.float32)
        return self.validator.values(_finish(scores, history, config, self.validator))

    def _cold(self, scores: Scores, config: SemanticEaseConfig, scaled: csr_matrix) -> Scores:
        """What :func:`cold_columns` does to the weights, done to the scores."""
        keep = warmth(self.counts, config.cold_threshold, config.cold_blend)
        weight = config.beta if config.cold_weight is None else config.cold_weight
        key = (config.user_power, config.item_power, config.recency)
        if key not in self._spoken:
            assert self.prior is not None
            self._spoken.clear()
            self._spoken[key] = (scaled @ self.prior.tocsr()).toarray()
        scores *= keep.astype(np.float32)
        give = np.flatnonzero(keep < 1.0)
        scores[:, give] += self._spoken[key][:, give] * ((1.0 - keep[give]) * weight).astype(np.float32)
        return scores

    def _product(self, config: EaseConfig, scaled: csr_matrix) -> tuple[Scores, Scores | None]:
        """``history @ A`` and ``history @ C`` of the closed form."""
        semantic = isinstance(config, SemanticEaseConfig) and config.beta > 0
        solution = (config.lambda_, config.user_power, config.item_power)
        key = (*solution, semantic, config.recency)
        if key not in self._products:
            parts = self._solve(*solution, semantic)
            prior = None if parts.prior is None else np.asarray(scaled @ parts.prior)
            while len(self._products) >= KEPT:
                self._products.pop(next(iter(self._products)))
            self._products[key] = (np.asarray(scaled @ parts.plain), prior)
        return self._products[key]

    def _solve(self, lambda_: float, user_power: float, item_power: float, semantic: bool) -> EaseParts:
        key = (lambda_, user_power, item_power, semantic)
        if key not in self._parts:
            self._parts.clear()
            gram = self._gram(user_power)
            divisor = item_scale(gram) ** -item_power
            divided = rescale(gram.copy(), divisor, divisor)
            self._parts[key] = ease_parts(divided, lambda_, self.prior if semantic else None, dtype=np.float32)
        return self._parts[key]

    def _gram(self, user_power: float) -> Matrix:
        if user_power not in self._grams:
            matrix = self.validator.domain.matrix
            self._grams[user_power] = gram_matrix(matrix, user_power=user_power, dtype=np.float32)
        return self._grams[user_power]


KEPT = 3
"""Score matrices kept between trials: two of 48 MB each at 3,000 users and 4,000 items."""


def _finish(scores: Scores, history: csr_matrix, config: EaseConfig | ItemKNNConfig, validator: Validator) -> Scores:
    """Add the popularity prior as :class:`LinearItemModel` does."""
    prior = popularity_prior(validator.domain, config.half_life_days, config.window_days)
    if config.popularity_weight:
        scores += np.float32(config.popularity_weight) * prior
    scores[history.getnnz(axis=1) == 0] = prior
    return scores
