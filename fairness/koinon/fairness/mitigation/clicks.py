"""Decisions on labelled clicks with equal rates over groups: fairlearn's threshold optimiser over any scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from koinon.fairness.frames import require_fairlearn

if TYPE_CHECKING:
    from fairlearn.postprocessing import ThresholdOptimizer

__all__ = ["Constraint", "group_thresholds"]

Constraint = Literal["demographic_parity", "true_positive_rate_parity", "equalized_odds"]


def group_thresholds(
    score: NDArray[np.floating],
    clicked: NDArray[np.bool_],
    group: NDArray[np.str_],
    constraint: Constraint = "equalized_odds",
) -> ThresholdOptimizer:
    """Fit thresholds on the scores of a click model, one (or a draw between two) for each group.

    Of all rules that keep the constraint the most accurate by balanced accuracy (Hardt, Price and Srebro 2016). Use
    validation rows; the result's ``predict(score[:, None], sensitive_features=group, random_state=seed)`` decides.

    Parameters
    ----------
    score
        ``float[rows]``: what the click model says, one row per impression.
    clicked
        ``bool[rows]``.
    group
        ``str[rows]`` of the person.
    constraint
        Which rates are made equal.

    Raises
    ------
    ResourceError
        K806 fairlearn is not installed.
    """
    require_fairlearn()
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.base import BaseEstimator

    class Given(BaseEstimator):  # type: ignore[misc]
        """A model that has been fitted already: its score is what it is given."""

        def fit(self, _scores: object, _labels: object) -> Given:
            return self

        def predict(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(scores)[:, 0]

        def __sklearn_is_fitted__(self) -> bool:
            return True

    optimiser = ThresholdOptimizer(
        estimator=Given(),
        constraints=constraint,
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="predict",
    )
    return optimiser.fit(np.asarray(score, dtype=float)[:, None], clicked.astype(int), sensitive_features=group)
