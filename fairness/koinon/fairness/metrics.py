"""What is measured of people and of items, in words: names, directions, and what each figure says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "PROVIDER_CLASSES", "Metric"]


@dataclass(frozen=True)
class Metric:
    """One figure per user.

    Attributes
    ----------
    title
        For tables; ``{k}`` is the list's length.
    better
        Which direction serves a person better; ``neither`` where that is a matter of taste.
    meaning
        One sentence, with range and source.
    needs
        What the data must hold for it.
    span
        Least and most. Where sums travel, figures beyond are taken to its ends.
    """

    title: str
    better: Literal["more", "less", "neither"]
    meaning: str
    needs: Literal["", "kinds", "labels"] = ""
    span: tuple[float, float] = (0.0, 1.0)


METRICS: dict[str, Metric] = {
    "ndcg": Metric(
        "NDCG@{k}", "more", "How high what the person really took next stands in the list, 0 to 1; ties by expectation."
    ),
    "recall": Metric("recall@{k}", "more", "Share of what the person really took next that is in the list, 0 to 1."),
    "mrr": Metric("MRR@{k}", "more", "One over the place of the first item the person really took; 0 beyond the list."),
    "novelty": Metric(
        "novelty@{k}",
        "neither",
        "Mean self-information of the listed items in bits (Vargas and Castells 2011).",
        span=(0.0, 24.0),
    ),
    "diversity": Metric(
        "diversity@{k}", "more", "Mean of 1 - cosine between the kinds of two listed items, 0 to 1.", "kinds"
    ),
    "miscalibration_kl": Metric(
        "miscalibration (KL)@{k}",
        "less",
        "Kullback-Leibler divergence, in nats, of the list's kinds of item from those of the person's history, the "
        "list's smoothed with 1 % of the history's (Steck 2018).",
        "kinds",
        (0.0, 4.7),
    ),
    "miscalibration_js": Metric(
        "miscalibration (JS)@{k}",
        "less",
        "Jensen-Shannon divergence of the same two, base 2: 0 alike, 1 nothing in common.",
        "kinds",
    ),
    "popularity_lift": Metric(
        "popularity lift@{k}",
        "less",
        "How much more popular the list is than the person's own history, as a share of the latter: 0 alike, 1 twice "
        "as popular (Abdollahpouri et al. 2020).",
        span=(-1.0, 9.0),
    ),
    "cold_share": Metric("cold share@{k}", "neither", "Share of the list without any training event, 0 to 1."),
    "attention_fairness": Metric(
        "attention fairness@{k}",
        "more",
        "1 minus the Jensen-Shannon divergence between the attention that head and tail of the catalogue get in the "
        "list and their shares of what people took (attention-weighted rank fairness, Sapiezynski et al. 2019).",
    ),
    "listed": Metric(
        "selection rate",
        "neither",
        "Share of the person's held-out items that are listed; equal over groups: demographic parity.",
        "labels",
    ),
    "listed_liked": Metric(
        "true positive rate",
        "more",
        "Share of the held-out items the person liked that are listed; equal over groups: equal opportunity.",
        "labels",
    ),
    "listed_disliked": Metric(
        "false positive rate",
        "less",
        "Share of the held-out items the person did not like that are listed; equal with the true positive rate: "
        "equalised odds.",
        "labels",
    ),
}
"""Name in a plan to what it is. Coverage is not here: it is a figure of a group, not of a person."""

PROVIDER_CLASSES: dict[str, str] = {
    "language": "the items' language",
    "popularity": "head (the fifth of the catalogue with most training events) and long tail (the rest)",
    "creator": "large creators (the fifth with most training events), small ones (the rest), and items that name none",
}
"""How items may be divided by who stands behind them."""
