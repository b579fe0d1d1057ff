"""The private settings of federated adapters, chosen on a partner's own validation users."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix, diags_array

from koinon.data import Split
from koinon.recommenders._search import Axis, Trial, Validator, descend
from koinon.recommenders.conventional import (
    SemanticEaseConfig,
    gram_matrix,
    item_scale,
    popularity_prior,
    semantic_prior,
)
from koinon.recommenders.conventional._solve import ridge_inverse, warmth
from koinon.recommenders.federated.adapters._config import AdaptersConfig
from koinon.recommenders.federated.adapters._sums import item_vectors
from koinon.space import Space

if TYPE_CHECKING:
    from koinon.recommenders.federated.adapters._partner import FactorOthers, FederatedAdapters

__all__ = ["search"]

Floats = NDArray[np.float32]

ALONE_AXES = (
    Axis("lambda_", (30.0, 300.0, 1000.0)),
    Axis("beta", (0.1, 1.0)),
    Axis("popularity_weight", (0.03, 0.1, 1.0)),
)
PRIVATE_AXES = (
    Axis("creator", (0.3, 0.5, 0.7)),
    Axis("own_editions", (True,)),
    Axis("beta", (0.6, 1.6), relative=True),
    Axis("cold_weight", (0.1, 0.3, 1.0)),
)
SHARED_AXES = (
    Axis("learned", (0.25, 0.5, 0.75)),
    Axis("cap", (0.3, 1.0, 5.0, 30.0)),
    Axis("lambda_", (0.5, 2.0), relative=True),
    Axis("beta", (0.35, 0.6, 1.6, 2.8), relative=True),
    Axis("beta", (0.03, 0.1)),
    Axis("learned", (0.0, 0.25, 0.5, 0.75)),
    Axis("cold_blend", (0.0, 1.0, 3.0)),
    Axis("cold_weight", (0.03, 0.1, 0.3, 1.0)),
    Axis("popularity_weight", (0.3, 3.0), relative=True),
    Axis("creator", (0.3, 0.5, 0.7)),
    Axis("beta", (0.75, 1.35), relative=True),
)
PROJECTED = 0.5
"""Share of the projection in the prior that a partner starts from: most are served by it, so it needs no proof, only no
loss, where validation is too small to prove anything."""
KEPT = 2
"""Factorisations whose products with the histories are kept, about 100 MB each at 2,000 users and 4,000 items."""


def search(
    learner: FederatedAdapters,
    split: Split,
    space: Space,
    *,
    rng: np.random.Generator,
    start: SemanticEaseConfig | None,
    rows: int,
    caution: float,
    on_trial: Callable[[Trial], None] | None,
) -> tuple[AdaptersConfig, list[Trial]]:
    """Return the best settings and all trials; see :meth:`FederatedAdapters.tune`.

    First without the others (``cap`` 0, ``learned`` 0), then with them; what validation does not favour stays.
    """
    validator = Validator(split.train, split.validation, "ndcg@10", rng, rows)
    measured = _Trials(learner, validator, space)
    agreed = learner.config.model_dump()
    given = {} if start is None else start.model_dump()
    begin = AdaptersConfig(**{**agreed, **given, "cap": 0.0, "learned": 0.0, "creator": 0.0, "own_editions": False})
    trials: list[Trial] = []

    def go(from_: AdaptersConfig, axes: tuple[Axis, ...]) -> AdaptersConfig:
        best, tried = descend(learner.name, from_, axes, measured, budget=200, caution=caution, on_trial=on_trial)
        trials.extend(tried)
        return AdaptersConfig.model_validate(best.model_dump())

    alone = go(begin, PRIVATE_AXES if start is not None else (*ALONE_AXES, *PRIVATE_AXES))
    if measured.learned is not None:
        projected = alone.model_copy(update={"learned": PROJECTED})
        if measured(projected).mean() >= measured(alone).mean():
            alone = projected
    return go(alone, tuple(axis for axis in SHARED_AXES if measured.has(axis.name))), trials


class _Trials:
    """Scores settings on validation; what no trial changes is computed once."""

    def __init__(self, learner: FederatedAdapters, validator: Validator, space: Space) -> None:
        from koinon.recommenders.federated.adapters._partner import editions

        self.validator = validator
        self.domain = validator.domain
        self.space = space
        self.neighbours = learner.config.neighbours
        had = csr_matrix(validator.history() @ editions(self.domain))
        self.had = had.nonzero()
        self._frozen: dict[float, csc_matrix] = {}
        self._solved: dict[tuple[object, ...], _Solved] = {}
        self._known: dict[AdaptersConfig, NDArray[np.float64]] = {}
        self.others: FactorOthers | None = None
        self.learned: csc_matrix | None = None
        self.adopt(learner)

    def adopt(self, learner: FederatedAdapters) -> None:
        """Go on with another release; what does not depend on it stays."""
        from koinon.recommenders.federated.adapters._partner import learned_vectors

        before, self.others = self.others, learner.others(self.domain)
        release = learner.release
        vectors = None if release is None else learned_vectors(self.domain, release, self.space)
        self.learned = None if vectors is None else semantic_prior(vectors, self.neighbours)
        self._known.clear()
        if before or self.others:
            self._solved.clear()
        for solved in self._solved.values():
            solved.forget("learned")

    def has(self, setting: str) -> bool:
        """Whether a setting can change anything here."""
        if setting == "cap":
            return bool(self.others)
        return setting != "learned" or self.learned is not None

    def __call__(self, config: AdaptersConfig) -> NDArray[np.float64]:
        """Metric per validation user, ``float64[users]``, as the fitted recommender would get it."""
        if config not in self._known:
            self._known[config] = self.validator.values(self._scores(config))
        return self._known[config]

    def _scores(self, config: AdaptersConfig) -> Floats:
        solved = self._solve(config)
        scores = solved.plain.copy()
        parts: list[tuple[object, csc_matrix, float]] = [
            (config.creator, self._by_text(config.creator), 1 - config.learned)
        ]
        if self.learned is not None and config.learned:
            parts.append(("learned", self.learned, config.learned))
        counts = self.domain.item_counts.astype(np.float64)
        if self.others:
            counts = np.ceil(self.others.known(counts, config.share, config.cap))
        keep = warmth(counts.astype(np.int64), config.cold_threshold, config.cold_blend)
        weight = config.beta if config.cold_weight is None else config.cold_weight
        give = np.flatnonzero(keep < 1.0)
        spoken = np.zeros((len(scores), len(give)), dtype=np.float32)
        for name, prior, share in parts:
            scores += np.float32(config.beta * share) * solved.through(name, prior)
            spoken += np.float32(share) * (solved.history @ prior[:, give]).toarray()
        scores *= keep.astype(np.float32)
        scores[:, give] += spoken * ((1.0 - keep[give]) * weight).astype(np.float32)
        scores *= (solved.scale**config.output_power).astype(np.float32)
        row = popularity_prior(self.domain, config.half_life_days, config.window_days)
        scores += np.float32(config.popularity_weight) * row
        scores[solved.history.getnnz(axis=1) == 0] = row
        if config.own_editions:
            scores[self.had] = -1.0 - np.abs(scores[self.had])
        return scores

    def _by_text(self, creator: float) -> csc_matrix:
        if creator not in self._frozen:
            vectors = item_vectors(self.domain, self.space, creator)
            self._frozen[creator] = semantic_prior(vectors, self.neighbours)
        return self._frozen[creator]

    def _solve(self, config: AdaptersConfig) -> _Solved:
        key = (config.lambda_, config.user_power, config.item_power, config.share, config.cap, config.recency)
        if key not in self._solved:
            while len(self._solved) >= KEPT:
                self._solved.pop(next(iter(self._solved)))
            gram = gram_matrix(self.domain.matrix, user_power=config.user_power, dtype=np.float32)
            if self.others and config.cap != 0:
                self.others.add_to(gram, config.share, config.cap)
            history = self.validator.history(config.recency)
            self._solved[key] = _Solved(gram, history, config.lambda_, config.item_power)
        return self._solved[key]


class _Solved:
    """One factorisation, applied to the histories.

    Attributes
    ----------
    plain
        ``float32[users, items]``: scores of EASE without prior.
    history
        The histories, scaled as the weights expect them.
    scale
        ``float64[items]``: events over the typical item's.
    """

    def __init__(self, gram: Floats, history: csr_matrix, lambda_: float, item_power: float) -> None:
        self.scale = item_scale(gram)
        divisor = (self.scale**-item_power).astype(np.float32)
        gram *= divisor[:, None]
        gram *= divisor
        self.history = csr_matrix(history @ diags_array(divisor))
        self.lambda_ = np.float32(lambda_)
        self._inverse = ridge_inverse(gram, lambda_, np.float32)
        self._diagonal = np.diag(self._inverse).copy()
        self._product: Floats = np.asarray(self.history @ self._inverse, dtype=np.float32)
        self.plain: Floats = np.asarray(-self._product / self._diagonal, dtype=np.float32)
        entry = self.history.tocoo()
        self.plain[entry.row, entry.col] += entry.data
        self._through: dict[object, Floats] = {}

    def through(self, name: object, prior: csc_matrix) -> Floats:
        """What a prior adds to the scores per unit of β, ``float32[users, items]``."""
        if name not in self._through:
            own = np.asarray(prior.multiply(self._inverse).sum(axis=0)).ravel() / self._diagonal
            mixed = np.asarray((prior.T @ self._product.T).T, dtype=np.float32)
            self._through[name] = self.lambda_ * (mixed - self._product * own.astype(np.float32))
        return self._through[name]

    def forget(self, name: object) -> None:
        """A prior of that name is another one from now on."""
        self._through.pop(name, None)
