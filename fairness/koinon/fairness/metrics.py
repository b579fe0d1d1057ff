"""What is measured of people: directions, needs and ranges. Names and meanings are the report's: :mod:`.words`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """One figure per user.

    Attributes
    ----------
    better
        Which direction serves a person better; ``neither`` where that is a matter of taste.
    needs
        What the data must hold for it.
    span
        Least and most. Where sums travel, figures beyond are taken to its ends.
    """

    better: Literal["more", "less", "neither"]
    needs: Literal["", "kinds", "labels"] = ""
    span: tuple[float, float] = (0.0, 1.0)


METRICS: dict[str, Metric] = {
    "ndcg": Metric("more"),
    "recall": Metric("more"),
    "mrr": Metric("more"),
    "novelty": Metric("neither", span=(0.0, 24.0)),
    "diversity": Metric("more", "kinds"),
    "miscalibration_kl": Metric("less", "kinds", (0.0, 4.7)),
    "miscalibration_js": Metric("less", "kinds"),
    "popularity_lift": Metric("less", span=(-1.0, 9.0)),
    "cold_share": Metric("neither"),
    "attention_fairness": Metric("more"),
    "listed": Metric("neither", "labels"),
    "listed_liked": Metric("more", "labels"),
    "listed_disliked": Metric("less", "labels"),
}
"""Name in a plan to what it is; ``metric.NAME`` in ``words/en.toml`` says it in a sentence. Coverage is not here: it is
a figure of a group, not of a person."""
