"""What probes found, as the results hold it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Association", "Counterfactual", "Probes", "Spread", "Stated", "Value"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Value(_Record):
    """A mean over people with its bootstrap interval at the plan's level."""

    mean: float
    lo: float
    hi: float


class Stated(_Record):
    """One value of the attribute, stated by everybody who was asked about."""

    label: str
    sentence: str
    jaccard: Value
    serp: Value
    prag: Value
    """Similarity of the list to the neutral one, 0 to 1."""
    ndcg: Value
    """How well the list meets what people really took."""
    ndcg_over_neutral: Value
    """The same minus that of the neutral list."""


class Spread(_Record):
    """How far the values' means lie apart, on the same people."""

    measure: Literal["jaccard", "serp", "prag", "ndcg"]
    range: float
    """SNSR for similarities; for ``ndcg`` the gap of accuracy: whom it harms to say so."""
    lo: float
    hi: float
    """The true range: the lower end holds for all pairs of values together, the upper for the pair farthest apart."""
    deviation: float
    """SNSV for similarities: standard deviation of the means."""
    by_chance: float
    """The range on average when each person's values are dealt out anew: what no difference would show."""
    p: float
    p_adjusted: float
    """Benjamini and Hochberg over all probes."""
    least: str
    most: str


class Counterfactual(_Record):
    """One attribute probed in one language at one source."""

    source: str
    attribute: str
    language: str
    neutral_sentence: str
    neutral_ndcg: Value
    people: int
    k: int
    changed: float
    """Share of people whose list is another one, in items or order, for any value."""
    stated: list[Stated]
    spreads: list[Spread]
    own: Value | None
    """NDCG with one's own declared value minus the mean with the others; ``null`` where nobody's is known."""
    own_people: int


class Association(_Record):
    """One association test of the space (WEAT for words, SEAT for sentences)."""

    test: str
    language: str
    form: Literal["words", "sentences"]
    first: str
    second: str
    one: str
    other: str
    effect: float
    """Caliskan's d, -2 to 2: above 0 the first kind of people lies nearer to the one kind of things."""
    p: float
    """Two-sided, over all equal divisions of the people's words."""
    p_adjusted: float
    terms: int
    """Words of each kind of people."""


class Probes(_Record):
    """All probes of an audit."""

    counterfactual: list[Counterfactual]
    association: list[Association]
    encoder: str | None
    encoder_fingerprint: str | None
