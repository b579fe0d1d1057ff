"""fairlearn's view of an audit: one row per user in a ``MetricFrame``, and its figures on labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from koinon.errors import ResourceError
from koinon.fairness.cells import Grouping
from koinon.fairness.units import Units

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame

__all__ = ["label_differences", "metric_frame", "require_fairlearn"]

Doubles = NDArray[np.float64]


def require_fairlearn() -> None:
    """Refuse early where fairlearn is not installed.

    Raises
    ------
    ResourceError
        K806 it is not.
    """
    from importlib.util import find_spec

    if find_spec("fairlearn") is None:
        raise ResourceError(
            "K806",
            "The Python package `fairlearn` is not installed.",
            "Install it with `pip install 'koinon[fairness]'`.",
        )


def metric_frame(units: Units, grouping: Grouping, control: Grouping | None = None) -> MetricFrame:
    """Return users' means of every metric by shown group, as fairlearn's ``MetricFrame``.

    Parameters
    ----------
    units
        One row per user; users without a value do not count in a metric.
    grouping
        The sensitive feature; unknown users and hidden cells stay out.
    control
        A control feature, likewise.
    """
    from fairlearn.metrics import MetricFrame

    rows = _shown(grouping) & (np.True_ if control is None else _shown(control))
    values = units.values[rows]
    nothing = np.zeros(int(rows.sum()))
    return MetricFrame(
        metrics=dict.fromkeys(units.metrics, _mean),
        y_true=nothing,
        y_pred=nothing,
        sensitive_features={grouping.name: np.asarray(grouping.labels)[grouping.cell[rows]]},
        control_features=None if control is None else {control.name: np.asarray(control.labels)[control.cell[rows]]},
        sample_params={name: {"values": values[:, place]} for place, name in enumerate(units.metrics)},
    )


def label_differences(
    liked: Sequence[bool] | NDArray[np.bool_], listed: Sequence[bool] | NDArray[np.bool_], group: NDArray[np.str_]
) -> dict[str, float]:
    """Differences by fairlearn: demographic parity, equal opportunity and equalised odds, one row per held-out item."""
    from fairlearn.metrics import (
        demographic_parity_difference,
        equal_opportunity_difference,
        equalized_odds_difference,
    )

    named = {
        "demographic_parity_difference": demographic_parity_difference,
        "equal_opportunity_difference": equal_opportunity_difference,
        "equalized_odds_difference": equalized_odds_difference,
    }
    true, predicted = np.asarray(liked, dtype=int), np.asarray(listed, dtype=int)
    return {name: float(figure(true, predicted, sensitive_features=group)) for name, figure in named.items()}


def _shown(grouping: Grouping) -> NDArray[np.bool_]:
    shown: NDArray[np.bool_] = (grouping.cell >= 0) & ~grouping.hidden[grouping.cell]
    return shown


def _mean(_true: Doubles, _predicted: Doubles, values: Doubles) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
