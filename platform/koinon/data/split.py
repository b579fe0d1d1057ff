"""Train, validation and test: the protocols, and what they guarantee.

The split is a function of the vault and of :class:`SplitConfig` alone, so every process of a federation that reads the
same vault derives the same one, and no test event is ever handed to training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from koinon.config import Config
from koinon.data.domain import Domain, Interactions
from koinon.data.marks import Marks

__all__ = ["EvaluationSet", "Split", "SplitConfig"]


class SplitConfig(Config):
    """How a federation divides its events. The same for every partner; part of the policy."""

    protocol: Literal["auto", "time", "holdout", "leave-last-out"] = "auto"
    """``auto``: ``time`` for partners with timestamps, ``holdout`` for the others. ``leave-last-out`` is secondary."""
    validation_from: int | None = None
    """``time``: first millisecond (UTC) of validation, one clock for all partners."""
    test_from: int | None = None
    """``time``: first millisecond (UTC) of the test period."""
    seed: int = 7
    """``holdout``: which event of a user is held out; which items are withheld as cold."""
    minimum_user_events: int = Field(default=3, ge=2)
    """Main figures are over users with at least so many events."""
    minimum_item_events: int = Field(default=2, ge=1)
    """The catalogue holds items with at least so many events (1 keeps everything)."""
    cold_items: float = Field(default=0.05, ge=0.0, lt=0.5)
    """Share of the catalogue whose training events are withheld, so that cold items exist by construction."""

    @model_validator(mode="after")
    def _clock_in_order(self) -> Self:
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("set validation_from and test_from together")
        if self.validation_from is not None and self.test_from is not None and self.validation_from >= self.test_from:
            raise ValueError("validation_from must lie before test_from")
        return self


@dataclass(frozen=True)
class EvaluationSet:
    """Who is asked about, what they had, and what they took: one row per user.

    Attributes
    ----------
    user
        ``int32[rows]`` index into ``Domain.user_ids``.
    history
        ``csr`` layout ``(indptr int64[rows+1], items int32[n])``: what may be known when asked, oldest first.
    targets
        Same layout: the held-out items (never in ``history``).
    time
        ``int64[rows]`` time of the request, or ``None``.
    cold_user
        ``bool[rows]``: at most two events in history.
    main
        ``bool[rows]``: the user has at least ``minimum_user_events`` events and belongs to the main figures.
    history_times
        ``int64[n]`` when each event of the histories happened, beside ``history_items``; ``None`` without times.
    history_marks
        Kinds and weights of the histories' events, likewise; ``None`` where they are not at hand.
    """

    user: NDArray[np.int32]
    history_indptr: NDArray[np.int64]
    history_items: NDArray[np.int32]
    target_indptr: NDArray[np.int64]
    target_items: NDArray[np.int32]
    time: NDArray[np.int64] | None
    cold_user: NDArray[np.bool_]
    main: NDArray[np.bool_]
    history_times: NDArray[np.int64] | None = None
    history_marks: Marks | None = None

    def __len__(self) -> int:
        return len(self.user)

    def history(self, row: int) -> NDArray[np.int32]:
        """History items of one row, oldest first."""
        return self.history_items[self.history_indptr[row] : self.history_indptr[row + 1]]

    def targets(self, row: int) -> NDArray[np.int32]:
        """Held-out items of one row."""
        return self.target_items[self.target_indptr[row] : self.target_indptr[row + 1]]


@dataclass(frozen=True)
class Split:
    """One partner's division.

    Attributes
    ----------
    train
        The domain with training events only; its catalogue holds every item, cold ones included.
    validation
        History: training events. Targets: validation events.
    test
        History: training and validation events. Targets: test events.
    cold_item
        ``bool[items]``: the item has no training event.
    """

    train: Domain
    validation: EvaluationSet
    test: EvaluationSet
    cold_item: NDArray[np.bool_]
    events: Interactions
    """Every event of the partner (for counting only; never handed to a recommender)."""
