"""A partner's data, indexed: what every recommender is fitted on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.data.marks import Marks

__all__ = ["Domain", "Interactions"]


@dataclass(frozen=True)
class Interactions:
    """Events as parallel arrays, sorted by user and then by time (or source order where there is none).

    Attributes
    ----------
    user
        ``int32[events]``, index into ``Domain.user_ids``.
    item
        ``int32[events]``, index into the rows of ``Domain.items``.
    time
        ``int64[events]``, milliseconds since 1970 UTC, or ``None`` where the source has no times.
    marks
        Kinds and weights, or ``None`` where they are not at hand.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64] | None = None
    marks: Marks | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, keep: NDArray[np.bool_] | NDArray[np.integer]) -> Interactions:
        """Return the events selected by a mask or by positions."""
        time = None if self.time is None else self.time[keep]
        marks = None if self.marks is None else self.marks.take(keep)
        return Interactions(self.user[keep], self.item[keep], time, marks)

    def matrix(self, users: int, items: int) -> csr_matrix:
        """Binary user-item matrix ``float32[users, items]``; repeated events count once."""
        ones = np.ones(len(self), dtype=np.float32)
        result = csr_matrix((ones, (self.user, self.item)), shape=(users, items))
        result.data[:] = 1.0
        return result


@dataclass(frozen=True)
class Domain:
    """One partner's catalogue, people and training events.

    Attributes
    ----------
    name
        The partner's name, e.g. ``books-de``.
    items
        Canonical item table in index order: columns ``item_id, title, creator, description, language, categories,
        price, text`` (``text`` is what the encoder reads).
    user_ids
        ``str[users]`` in index order. They never leave the partner.
    events
        The events a recommender may learn from.
    """

    name: str
    items: pl.DataFrame
    user_ids: tuple[str, ...]
    events: Interactions

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return self.items.height

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """``str[items]``: what the encoder reads of each item."""
        return tuple(self.items["text"].to_list())

    @cached_property
    def matrix(self) -> csr_matrix:
        """Binary training matrix ``float32[users, items]``."""
        return self.events.matrix(self.n_users, self.n_items)

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """``int64[items]``: how many users have each item in training; 0 marks a cold item."""
        return np.asarray(self.matrix.sum(axis=0)).ravel().astype(np.int64)

    @cached_property
    def user_index(self) -> dict[str, int]:
        """User id to row."""
        return {user: row for row, user in enumerate(self.user_ids)}

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Item id to row."""
        return {item: row for row, item in enumerate(self.items["item_id"].to_list())}

    def history(self, user: int) -> NDArray[np.int32]:
        """Items of one user's training events, oldest first, ``int32[n]``."""
        return self.events.item[self._rows(user)]

    def history_times(self, user: int) -> NDArray[np.int64] | None:
        """When each event of :meth:`history` happened, ``int64[n]`` milliseconds; ``None`` without times."""
        return None if self.events.time is None else self.events.time[self._rows(user)]

    def history_marks(self, user: int) -> Marks | None:
        """Kinds and weights of the events of :meth:`history`; ``None`` where they are not at hand."""
        return None if self.events.marks is None else self.events.marks.take(self._rows(user))

    def _rows(self, user: int) -> slice:
        start, stop = np.searchsorted(self.events.user, [user, user + 1])
        return slice(int(start), int(stop))

    def with_events(self, events: Interactions) -> Domain:
        """Return the same catalogue and people with other events."""
        return replace(self, events=events)
