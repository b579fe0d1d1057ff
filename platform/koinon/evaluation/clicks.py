"""How good chances of clicks are: AUC, AUC within people, log loss; intervals and tests over people, not rows.

One person's rows hang together, so that rows drawn apart would promise too much: the bootstrap draws whole people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.errors import EvaluationError
from koinon.evaluation.significance import Interval

__all__ = ["CLICK_METRICS", "ClickGain", "auc", "click_gains", "click_intervals", "gauc", "log_loss"]

Doubles = NDArray[np.float64]
Labels = NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_]
Scores = NDArray[np.floating]
Weigh = Callable[[Doubles], float]
"""A metric as a function of how often each person was drawn."""

CLICK_METRICS: tuple[str, ...] = ("auc", "gauc", "log_loss")


@dataclass(frozen=True)
class ClickGain:
    """What one arm adds over another on the same rows: the difference, its interval, a two-sided bootstrap p-value."""

    gain: float
    lo: float
    hi: float
    p: float


def auc(label: Labels, score: Scores) -> float:
    """Chance that a drawn positive stands above a drawn negative, ties counting half (Mann and Whitney 1947).

    Raises
    ------
    EvaluationError
        K560 rows of one label alone, K561 lengths differ or a score is not finite.
    """
    label, score = _checked(label, score)
    return _auc_weights(label, score, np.arange(len(label)))(np.ones(len(label)))


def gauc(label: Labels, score: Scores, person: NDArray[np.integer]) -> float:
    """Mean over people of their own AUC, weighted by rows; who has one label alone has none (Zhu et al. 2017).

    Raises
    ------
    EvaluationError
        K560 nobody has both labels, K561 as :func:`auc`.
    """
    label, score = _checked(label, score)
    who, group = np.unique(person, return_inverse=True)
    return _gauc_weights(label, score, group, len(who))(np.ones(len(who)))


def log_loss(label: Labels, chance: Scores) -> float:
    """Mean negative log-likelihood in nats; chances are kept 1e-7 away from 0 and 1."""
    label, chance = _checked(label, chance)
    return float(_losses(label, chance).mean())


def click_intervals(
    label: Labels, chance: Scores, person: NDArray[np.integer], *, seed: int = 0, samples: int = 1000
) -> dict[str, Interval]:
    """Every metric of :data:`CLICK_METRICS` with its 95 % percentile interval over resampled people; ``n``: people.

    Raises
    ------
    EvaluationError
        K560, K561 as :func:`auc`.
    """
    metrics, people = _metrics(label, chance, person)
    drawn = _drawn(metrics, people, seed, samples)
    found = {}
    for column, (name, metric) in enumerate(metrics.items()):
        lo, hi = np.quantile(drawn[:, column], [0.025, 0.975])
        found[name] = Interval(metric(np.ones(people)), float(lo), float(hi), people)
    return found


def click_gains(
    label: Labels,
    arm: Scores,
    baseline: Scores,
    person: NDArray[np.integer],
    *,
    seed: int = 0,
    samples: int = 1000,
) -> dict[str, ClickGain]:
    """What ``arm`` adds over ``baseline`` on the same rows, people drawn together with both their chances.

    Raises
    ------
    EvaluationError
        K560, K561 as :func:`auc`.
    """
    (metrics, people), (base, _) = _metrics(label, arm, person), _metrics(label, baseline, person)
    difference = _drawn(metrics, people, seed, samples) - _drawn(base, people, seed, samples)
    found = {}
    for column, name in enumerate(metrics):
        lo, hi = np.quantile(difference[:, column], [0.025, 0.975])
        gain = metrics[name](np.ones(people)) - base[name](np.ones(people))
        fewer = min(int((difference[:, column] <= 0).sum()), int((difference[:, column] >= 0).sum()))
        p = 1.0 if gain == 0.0 else min(1.0, 2.0 * (fewer + 1) / (samples + 1))
        found[name] = ClickGain(gain, float(lo), float(hi), p)
    return found


def _metrics(label: Labels, chance: Scores, person: NDArray[np.integer]) -> tuple[dict[str, Weigh], int]:
    label, chance = _checked(label, chance)
    who, group = np.unique(person, return_inverse=True)
    loss = np.bincount(group, _losses(label, chance), minlength=len(who))
    rows = np.bincount(group, minlength=len(who)).astype(np.float64)
    return {
        "auc": _auc_weights(label, chance, group),
        "gauc": _gauc_weights(label, chance, group, len(who)),
        "log_loss": lambda drawn: float(drawn @ loss / (drawn @ rows)),
    }, len(who)


def _drawn(metrics: dict[str, Weigh], people: int, seed: int, samples: int) -> Doubles:
    rng = np.random.default_rng(seed)
    values = np.empty((samples, len(metrics)))
    for sample in range(samples):
        times = np.bincount(rng.integers(people, size=people), minlength=people).astype(np.float64)
        values[sample] = [metric(times) for metric in metrics.values()]
    return values


def _auc_weights(label: Doubles, score: Doubles, group: NDArray[np.integer]) -> Weigh:
    """AUC as a function of how often each group's rows count; rows are put in order once."""
    if label.min() == label.max():
        raise EvaluationError(
            "K560",
            f"All {len(label)} rows have the label {label[0]:.0f}: they cannot be told apart.",
            "Take more rows.",
        )
    order = np.argsort(score, kind="stable")
    ordered, positive, group = score[order], label[order] > 0, group[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def weigh(times: Doubles) -> float:
        weight = times[group]
        above = np.add.reduceat(weight * positive, first)
        below = np.add.reduceat(weight * ~positive, first)
        pairs = above @ (np.cumsum(below) - below / 2)
        return float(pairs / (above.sum() * below.sum())) if above.any() and below.any() else float("nan")

    return weigh


def _gauc_weights(label: Doubles, score: Doubles, group: NDArray[np.integer], people: int) -> Weigh:
    own, rows = np.zeros(people), np.zeros(people)
    order = np.argsort(group, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if label[part].min() < label[part].max():
            own[group[part[0]]] = auc(label[part], score[part])
            rows[group[part[0]]] = len(part)
    if not rows.any():
        raise EvaluationError("K560", "Nobody has rows of both labels.", "Take more rows of each person.")
    return lambda drawn: float(drawn @ (own * rows) / (drawn @ rows)) if drawn @ rows else float("nan")


def _losses(label: Doubles, chance: Doubles) -> Doubles:
    kept = np.clip(chance, 1e-7, 1 - 1e-7)
    losses: Doubles = -np.where(label > 0, np.log(kept), np.log1p(-kept))
    return losses


def _checked(label: Labels, score: Scores) -> tuple[Doubles, Doubles]:
    if len(label) != len(score) or not len(label) or not np.isfinite(score).all():
        raise EvaluationError(
            "K561",
            f"{len(label)} labels and {len(score)} chances, not all of them numbers, cannot be measured.",
            "Give one finite chance per row.",
        )
    return np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
