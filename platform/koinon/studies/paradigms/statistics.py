"""Means with intervals and paired gains of many arms at once: one drawing of people serves all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon import evaluation
from koinon.evaluation import bootstrap_mean, gain_from, holm, paired_gain, resampled_means
from koinon.evaluation.metrics import METRICS
from koinon.studies.report.results import Estimate, Gain

__all__ = ["compared", "estimate", "number", "paired"]

Doubles = NDArray[np.float64]
People = Mapping[str, Mapping[str, pl.DataFrame]]
"""Arm, slice to per-user values: ``user`` and metrics."""


def compared(
    arms: People, reference: str | None, k: int
) -> tuple[dict[str, dict[str, dict[str, Estimate]]], dict[str, dict[str, Gain]]]:
    """Figures of every arm and slice, and gains over the reference with Holm over the arms of a slice.

    Arms are paired over the people that both were asked about.

    Returns
    -------
    figures
        Arm, slice, metric.
    gains
        Arm, slice; in NDCG.
    """
    figures: dict[str, dict[str, dict[str, Estimate]]] = {name: {} for name in arms}
    gains: dict[str, dict[str, Gain]] = {name: {} for name in arms}
    for part in dict.fromkeys(part for slices in arms.values() for part in slices):
        present = {name: slices[part].sort("user") for name, slices in arms.items() if part in slices}
        base = present.get(reference) if reference is not None else None
        raw: dict[str, evaluation.Gain] = {}
        for names in _alike(present):
            users = present[names[0]].select("user")
            asked = None if base is None else base.join(users, on="user", how="semi").sort("user")
            whole = asked is not None and asked.height == users.height
            beside = asked[f"ndcg@{k}"].to_numpy() if asked is not None and whole else None
            found = _drawn_together({name: present[name] for name in names}, beside, k)
            for name, (estimates, gain) in found.items():
                figures[name][part] = estimates
                if gain is not None and name != reference:
                    raw[name] = gain
        for (name, gain), p in zip(raw.items(), holm([one.p for one in raw.values()]), strict=True):
            gains[name][part] = _as_gain(gain, float(p))
    return figures, gains


def paired(arm: pl.DataFrame, base: pl.DataFrame, metric: str) -> Gain:
    """Gain of one over the other, over the people that both hold."""
    both = arm.select("user", arm=metric).join(base.select("user", base=metric), on="user").sort("user")
    return _as_gain(paired_gain(both["arm"].to_numpy(), both["base"].to_numpy()))


def estimate(values: Doubles) -> Estimate:
    """Mean and interval of what is a number."""
    known = values[np.isfinite(values)].astype(np.float64)
    return Estimate.model_validate(bootstrap_mean(known).as_dict())


def number(value: float) -> float | None:
    """``None`` for what is none."""
    return float(value) if np.isfinite(value) else None


def _alike(present: Mapping[str, pl.DataFrame]) -> list[list[str]]:
    """Arms that were asked about the same people."""
    groups: list[list[str]] = []
    for name, frame in present.items():
        fitting = next((group for group in groups if present[group[0]]["user"].equals(frame["user"])), None)
        if fitting is None:
            groups.append([name])
        else:
            fitting.append(name)
    return groups


def _drawn_together(
    frames: Mapping[str, pl.DataFrame], base: Doubles | None, k: int
) -> dict[str, tuple[dict[str, Estimate], evaluation.Gain | None]]:
    metrics = [f"{metric}@{k}" for metric in METRICS]
    own = [frame[metric].to_numpy().astype(np.float64) for frame in frames.values() for metric in metrics]
    beside = [] if base is None else [base]
    beside += [frame[metrics[0]].to_numpy() - base for frame in frames.values()] if base is not None else []
    values = np.column_stack([*own, *beside])
    drawn = resampled_means(values) if len(values) else np.empty((0, values.shape[1]))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if len(drawn) else (values[:0], values[:0])
    found = {}
    for place, name in enumerate(frames):
        estimates = {}
        for offset, metric in enumerate(metrics):
            column = place * len(metrics) + offset
            if len(values) == 0:
                estimates[metric] = Estimate(mean=None, lo=None, hi=None, n=0)
                continue
            estimates[metric] = Estimate(
                mean=float(values[:, column].mean()), lo=float(low[column]), hi=float(high[column]), n=len(values)
            )
        gain = None
        if base is not None:
            at, with_base = len(own) + 1 + place, len(own)
            gain = gain_from(values[:, at], values[:, with_base], drawn[:, at], drawn[:, with_base])
        found[name] = estimates, gain
    return found


def _as_gain(gain: evaluation.Gain, p_holm: float | None = None) -> Gain:
    return Gain(
        relative=number(gain.relative),
        relative_lo=number(gain.relative_lo),
        relative_hi=number(gain.relative_hi),
        mean=number(gain.gain),
        lo=number(gain.lo),
        hi=number(gain.hi),
        p=number(gain.p),
        p_holm=number(gain.p if p_holm is None else p_holm),
        n=gain.n,
    )
