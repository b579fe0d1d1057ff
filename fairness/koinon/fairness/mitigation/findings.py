"""What remedies did: the part of an audit's results on mitigation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Effect", "Frontier", "Mitigation", "Option", "Point", "Question", "Span"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Record):
    """A figure with its interval."""

    value: float
    lo: float | None
    hi: float | None


class Point(_Record):
    """One position of a dial, on validation."""

    dial: float
    ndcg: float
    gaps: list[float | None]
    """Of each question, in their order; ``null`` where it cannot be computed."""
    figures: dict[str, float]
    """Mean of every metric over people; ``from_everybody``: divergence (KL, nats) of lists' kinds from everybody's."""


class Frontier(_Record):
    """One remedy over its dial, on validation."""

    remedy: str
    of: str
    """The group of people, or the division of items, that it is about; empty: neither."""
    asks_group: bool
    """Whether people's group must be known when they are served."""
    points: list[Point]
    """The first is the dial at 0: without the remedy."""


class Effect(_Record):
    """What becomes of one group, or of one class of items, on the test."""

    label: str
    n: int
    before: float
    after: float
    """Mean of the question's metric; a class's share of attention."""
    ndcg_before: float | None
    ndcg_after: float | None
    """Of a group."""


class Option(_Record):
    """A remedy at the dial that validation chose for one question, measured on the test."""

    remedy: str
    of: str
    dial: float
    after: Span
    """The gap."""
    left: Span
    """Of the gap between the two groups that were farthest apart on validation, the share that is left; below 0:
    turned round. By users drawn again; of items' classes without interval."""
    lifted: float | None
    """Share of the closing, 0 to 1, that is the worst-served group's gain; the rest is others' loss. ``null`` where the
    gap does not close, where more is neither better nor worse, and of items' classes."""
    cost: Span
    """Share of NDCG lost; below 0: gained."""
    mended: bool
    """The gap is at least halved, and the cost is within what the plan allows."""
    effects: list[Effect]


class Question(_Record):
    """One primary question that did not pass."""

    metric: str
    """``attention`` for a division of items."""
    over: str
    """Group of people, or division of items."""
    source: str | None
    """Of a division of items."""
    before: Span
    """The gap on the test."""
    options: list[Option]
    """Least gap first; remedies that shrink the gap on validation at no setting within the cost are not here."""


class Mitigation(_Record):
    """All remedies over all questions."""

    largest_cost: float
    questions: list[Question]
    frontiers: list[Frontier]
