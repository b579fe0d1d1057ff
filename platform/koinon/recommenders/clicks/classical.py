"""Logistic regression and gradient-boosted trees, by scikit-learn (extra ``clicks``): the networks' yardsticks."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from koinon.config import Config
from koinon.errors import RecommenderError
from koinon.recommenders.clicks._config import LogisticConfig, TreesConfig
from koinon.recommenders.clicks.rows import ClickData, Rows, Side

__all__ = ["LogisticClicks", "TreeClicks"]

Float = NDArray[np.float32]


class LogisticClicks:
    """Logistic regression: one weight per value of every field; an unknown value has none."""

    name: ClassVar[str] = "logistic"
    config_type: ClassVar[type[Config]] = LogisticConfig

    def __init__(self, config: LogisticConfig | None = None) -> None:
        self.config = config or LogisticConfig()
        self._model: Any = None

    def fit(self, data: ClickData, *, seed: int = 0) -> Self:
        """Learn from ``data.train``; nothing is drawn.

        Raises
        ------
        RecommenderError
            K422 scikit-learn is not installed.
        """
        _need_sklearn()
        from sklearn.linear_model import LogisticRegression

        self._sides = tuple(_one_hot(side) for side in (data.people, data.items))
        model = LogisticRegression(C=self.config.inverse_ridge, max_iter=200, tol=1e-3)
        self._model = model.fit(self._features(data.train), data.train.label)
        return self

    def predict(self, rows: Rows) -> Float:
        """Return ``float32[rows]`` chances."""
        return _chances(self._model, lambda: self._features(rows))

    def _features(self, rows: Rows) -> csr_matrix:
        people, items = self._sides
        return csr_matrix(hstack([people[rows.person], items[rows.item]]))


class TreeClicks:
    """Histogram gradient boosting on each field's rate of likes.

    A tree cannot split on thousands of ids, so every field is told as its values' rate of likes in training rows,
    shrunk to the mean. Training rows get rates that were counted without them (cross-fitted, Micci-Barreca 2001), or
    they would tell the trees their own labels. Of a field with several values the mean rate counts.
    """

    name: ClassVar[str] = "trees"
    config_type: ClassVar[type[Config]] = TreesConfig

    def __init__(self, config: TreesConfig | None = None) -> None:
        self.config = config or TreesConfig()
        self._model: Any = None

    def fit(self, data: ClickData, *, seed: int = 0) -> Self:
        """Learn from ``data.train``; ``data.validation`` says when to stop.

        Raises
        ------
        RecommenderError
            K422 scikit-learn is not installed.
        """
        _need_sklearn()
        from sklearn.ensemble import HistGradientBoostingClassifier

        config, train = self.config, data.train
        self._sides = (data.people, data.items)
        rng = np.random.default_rng(seed)
        fold = rng.integers(FOLDS, size=len(train))
        told = np.empty((len(train), sum(len(side.codes) for side in self._sides)), dtype=np.float32)
        for held in range(FOLDS):
            told[fold == held] = _Rates(self._sides, train.take(fold != held))(train.take(fold == held))
        self._told = _Rates(self._sides, train)
        model = HistGradientBoostingClassifier(
            learning_rate=config.learning_rate,
            max_leaf_nodes=config.leaves,
            max_iter=config.trees,
            early_stopping=True,
            n_iter_no_change=config.patience,
            random_state=seed,
        )
        validation = data.validation
        self._model = model.fit(told, train.label, X_val=self._told(validation), y_val=validation.label)
        return self

    def predict(self, rows: Rows) -> Float:
        """Return ``float32[rows]`` chances."""
        return _chances(self._model, lambda: self._told(rows))


FOLDS = 5
SHRINK = 20.0
"""So many rows of the mean rate stand beside a value's own."""


class _Rates:
    """Each field's rate of likes for rows, ``float32[rows, fields]``; nan where no value is known."""

    def __init__(self, sides: tuple[Side, Side], rows: Rows) -> None:
        mean = float(rows.label.mean())
        self._tables: list[Float] = []
        for side, places in zip(sides, (rows.person, rows.item), strict=True):
            columns: list[Float] = []
            for name, codes in side.codes.items():
                taken = codes[places]
                likes = np.bincount(taken.ravel(), np.repeat(rows.label, codes.shape[1]), side.sizes[name])
                counts = np.bincount(taken.ravel(), minlength=side.sizes[name])
                rate = (likes + SHRINK * mean) / (counts + SHRINK)
                rate[0] = np.nan
                known = np.ma.masked_invalid(rate[codes])
                columns.append(known.mean(axis=1).filled(np.nan).astype(np.float32))
            self._tables.append(np.stack(columns, axis=1))

    def __call__(self, rows: Rows) -> Float:
        people, items = self._tables
        return np.concatenate([people[rows.person], items[rows.item]], axis=1)


def _one_hot(side: Side) -> csr_matrix:
    """``float32[n, values]``; several values of a field share its weight of 1."""
    parts = []
    for name, codes in side.codes.items():
        row, slot = np.nonzero(codes)
        share = (1.0 / np.maximum((codes > 0).sum(axis=1), 1)).astype(np.float32)
        shape = (len(codes), side.sizes[name] - 1)
        parts.append(csr_matrix((share[row], (row, codes[row, slot] - 1)), shape=shape))
    return csr_matrix(hstack(parts))


def _chances(model: Any, features: Any) -> Float:
    if model is None:
        raise RecommenderError("K400", "The click model is not fitted.", "Call fit first.")
    chances: Float = model.predict_proba(features())[:, 1].astype(np.float32)
    return chances


def _need_sklearn() -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise RecommenderError("K422", "This click model needs scikit-learn.", "`pip install 'koinon[clicks]'`.")
