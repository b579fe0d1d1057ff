"""One click model trained and measured: the test rows are read once, after everything is chosen on validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config, atomic_path
from koinon.errors import RecommenderError
from koinon.recommenders.clicks.keeping import save_clicks
from koinon.recommenders.clicks.models import ClickModel, NetworkClicks
from koinon.recommenders.clicks.rows import ClickData, Rows
from koinon.recommenders.fitting import Progress
from koinon.space import Space

__all__ = ["CLICK_MODELS", "Measured", "build_clicks", "click_config_type", "kept_chances", "serving", "train_clicks"]

CLICK_MODELS: dict[str, str] = {
    "logistic": "koinon.recommenders.clicks.classical:LogisticClicks",
    "trees": "koinon.recommenders.clicks.classical:TreeClicks",
    "deepfm": "koinon.recommenders.clicks.models:DeepFM",
    "dcnv2": "koinon.recommenders.clicks.models:DCNv2",
    "autoint": "koinon.recommenders.clicks.models:AutoInt",
}
"""Name to ``module:Class``."""
CANDIDATES = 100
"""Items of a request whose latency is measured."""


@dataclass(frozen=True)
class Measured:
    """A fitted click model, its report (JSON-ready), and its chances for the test rows, ``float32[rows]``."""

    model: ClickModel
    report: dict[str, Any]
    chances: NDArray[np.float32]


def click_config_type(name: str) -> type[Config]:
    """Settings of a model of :data:`CLICK_MODELS`."""
    kind: type[Config] = _kind(name).config_type
    return kind


def build_clicks(name: str, config: Config | None = None) -> ClickModel:
    """Return an unfitted model of :data:`CLICK_MODELS`."""
    return cast(ClickModel, _kind(name)(config))


def train_clicks(
    name: str,
    config: Config | None,
    data: ClickData,
    space: Space | None = None,
    *,
    seed: int = 0,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Measured:
    """Fit a click model and measure it on the test rows.

    Parameters
    ----------
    name, config
        One of :data:`CLICK_MODELS` and its settings; ``None``: the defaults.
    data, space
        Rows in three parts; the space an alignment asks for.
    seed
        Of every draw.
    folder
        Keeps checkpoints, a network's weights and ``test-chances.npy``; the same call goes on where it stopped.
    on_progress
        Called after every step of a network.

    Raises
    ------
    RecommenderError
        K404, K470-K472, K474, K422 as the model's ``fit``.
    EvaluationError
        K560 rows of one label alone.
    """
    from koinon.evaluation.clicks import auc, click_intervals, log_loss

    begun = perf_counter()
    model = build_clicks(name, config)
    report: dict[str, Any] = {"model": name, "seed": seed}
    if isinstance(model, NetworkClicks):
        model.fit(data, space=space, seed=seed, folder=folder, on_progress=on_progress)
        report["stages"] = {stage: asdict(fitted) for stage, fitted in model.stages.items()}
        report["parameters"] = sum(parameter.numel() for parameter in model.network.parameters())
    else:
        model.fit(data, seed=seed)
    validation, test = data.validation, data.test
    chances = model.predict(validation)
    report["config"] = cast(Any, model).config.model_dump(mode="json")
    report["rows"] = {"train": len(data.train), "validation": len(validation), "test": len(test)}
    report["validation"] = {"auc": auc(validation.label, chances), "log_loss": log_loss(validation.label, chances)}
    chances = model.predict(test)
    found = click_intervals(test.label, chances, test.person, seed=seed)
    report["test"] = {metric: interval.as_dict() for metric, interval in found.items()}
    report["test_by_person"] = _known_and_new(data, chances)
    report["serving"] = serving(model, data, seed=seed)
    report["seconds"] = perf_counter() - begun
    if folder is not None:
        with atomic_path(folder / "test-chances.npy") as path:
            np.save(path, chances)
        if isinstance(model, NetworkClicks):
            save_clicks(model, folder, data)
    return Measured(model, report, chances)


def kept_chances(folder: Path, data: ClickData) -> NDArray[np.float32]:
    """What :func:`train_clicks` kept of a model's test chances, ``float32[rows]``.

    Raises
    ------
    RecommenderError
        K410 there is none, or it is of other rows.
    """
    path = folder / "test-chances.npy"
    try:
        chances: NDArray[np.float32] = np.load(path, allow_pickle=False)
        if chances.shape != (len(data.test),):
            raise ValueError(f"it holds {chances.shape} chances for {len(data.test)} rows")
    except (OSError, ValueError, EOFError) as error:
        raise RecommenderError("K410", f"Cannot read {path}: {error}.", "Train that model first.") from error
    return chances


def serving(model: ClickModel, data: ClickData, *, requests: int = 200, seed: int = 0) -> dict[str, float]:
    """Milliseconds to score one drawn person against 100 drawn items: median and 95th percentile over requests."""
    rng = np.random.default_rng(seed)
    spent = []
    for person in rng.integers(len(data.people.ids), size=requests + 10):
        asked = np.full(CANDIDATES, person, dtype=np.int32)
        items = rng.integers(len(data.items.ids), size=CANDIDATES).astype(np.int32)
        nothing = np.zeros(CANDIDATES)
        begun = perf_counter()
        model.predict(Rows(asked, items, nothing.astype(np.float32), nothing.astype(np.int64)))
        spent.append(1000 * (perf_counter() - begun))
    p50, p95 = np.quantile(spent[10:], [0.5, 0.95])  # the first ten warm up
    return {"candidates": CANDIDATES, "p50_ms": float(p50), "p95_ms": float(p95)}


def _known_and_new(data: ClickData, chances: NDArray[np.float32]) -> dict[str, dict[str, float | int | None]]:
    """AUC among test rows of people whom training rows hold, and among those of the others."""
    from koinon.evaluation.clicks import auc

    test = data.test
    known = np.isin(test.person, np.unique(data.train.person))
    figures: dict[str, dict[str, float | int | None]] = {}
    for told, rows in (("known", known), ("new", ~known)):
        both = len(np.unique(test.label[rows])) == 2
        figures[told] = {"rows": int(rows.sum()), "auc": auc(test.label[rows], chances[rows]) if both else None}
    return figures


def _kind(name: str) -> Any:
    module, _, kind = CLICK_MODELS[name].partition(":")
    return getattr(import_module(module), kind)
