"""Honest evaluation: whole-catalogue ranking, ties by expectation, slices by stated rules, intervals over users.

:func:`evaluate` gives one value per user; :func:`compare` pairs the arms of a study on them. Sampled-candidate figures
exist only to set beside published ones and live apart, in :mod:`koinon.evaluation.sampled`.
"""

from koinon.evaluation.compare import compare
from koinon.evaluation.metrics import METRICS, Placements, place, ranking_metrics
from koinon.evaluation.protocol import DEFAULT_SLICES, Chance, Evaluation, evaluate, requests_of
from koinon.evaluation.significance import Gain, Interval, bootstrap_mean, gain_from, holm, paired_gain, resampled_means
from koinon.evaluation.slices import RULES, head_items

__all__ = [
    "DEFAULT_SLICES",
    "METRICS",
    "RULES",
    "Chance",
    "Evaluation",
    "Gain",
    "Interval",
    "Placements",
    "bootstrap_mean",
    "compare",
    "evaluate",
    "gain_from",
    "head_items",
    "holm",
    "paired_gain",
    "place",
    "ranking_metrics",
    "requests_of",
    "resampled_means",
]
