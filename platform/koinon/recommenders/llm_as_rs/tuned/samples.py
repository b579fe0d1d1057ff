"""What people liked and disliked before, and how they took what came next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain, Interactions
from koinon.errors import RecommenderError

__all__ = ["LEAST_HISTORY", "Samples", "drawn_samples", "judged_samples"]

LEAST_HISTORY = 3
"""Events before a judgement without which it is no sample."""


@dataclass(frozen=True)
class Samples:
    """Judgements, each with what came before it.

    Attributes
    ----------
    person, item
        ``int32[n]``: who judged what, as in the domain.
    label
        ``bool[n]``: whether it was liked.
    history
        ``int32[n, h]``: the items before it, oldest first, -1 where there are fewer.
    liked
        ``bool[n, h]``: whether each of them was liked.
    time
        ``int64[n]``: milliseconds since 1970 UTC; ``None`` where the source knows none.
    """

    person: NDArray[np.int32]
    item: NDArray[np.int32]
    label: NDArray[np.bool_]
    history: NDArray[np.int32]
    liked: NDArray[np.bool_]
    time: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Samples:
        """Those of some rows."""
        time = None if self.time is None else self.time[rows]
        return Samples(self.person[rows], self.item[rows], self.label[rows], self.history[rows], self.liked[rows], time)

    def shuffled(self, rng: np.random.Generator) -> Samples:
        """In a drawn order that begins with one of either label, so that every beginning of two or more holds both.

        Raises
        ------
        RecommenderError
            K484 one of the labels is not there.
        """
        order = rng.permutation(len(self))
        for place, label in enumerate((True, False)):
            found = np.flatnonzero(self.label[order] == label)
            if not len(found):
                raise _one_sided(len(self), label)
            order[[place, found[0]]] = order[[found[0], place]]
        return self.take(order)

    def split(self, row: int, said: Sequence[str]) -> tuple[list[str], list[str]]:
        """Texts of what one row's person liked and disliked before, oldest first; ``said`` is text by item."""
        known = self.history[row] >= 0
        items, liked = self.history[row][known], self.liked[row][known]
        return [said[item] for item in items[liked]], [said[item] for item in items[~liked]]


def judged_samples(domain: Domain, *, liked_from: float, history: int, rng: np.random.Generator) -> Samples:
    """Every event with a weight and at least :data:`LEAST_HISTORY` before it.

    Where there are times, what came before is what is told; where there are none, a person's events are put in a drawn
    order and only the last of it is a sample: one judgement of everybody, and others of theirs drawn beside it.

    Parameters
    ----------
    domain
        Its events' weights are read.
    liked_from
        The least weight of a liking.
    history
        Events told at most.
    rng
        Draws the order.

    Raises
    ------
    RecommenderError
        K484 no event has a weight.
    """
    events = domain.events
    if events.marks is None or np.isnan(events.marks.weight).all():
        raise RecommenderError(
            "K484",
            f"{domain.name} has no weights that say what people liked and what not.",
            "Set dislikes = 'drawn', or give the events weights.",
        )
    events = events.take(~np.isnan(events.marks.weight))
    if events.time is None:
        events = events.take(np.lexsort((rng.random(len(events)), events.user)))
    at, first = _with_history(events)
    if events.time is None:
        at = at[np.r_[events.user[at][1:] != events.user[at][:-1], True]] if len(at) else at
    return _samples(events, at, first, liked_from, history)


def drawn_samples(domain: Domain, *, liked_from: float, history: int, rng: np.random.Generator) -> Samples:
    """Every liking with enough before it, and as many items that its person has not taken: these are the dislikings.

    Raises
    ------
    RecommenderError
        K484 nobody has enough events.
    """
    events = domain.events
    at, first = _with_history(events)
    taken = _samples(events, at, first, liked_from, history)
    taken = taken.take(taken.label)
    if not len(taken):
        raise _one_sided(len(at), True)
    item = rng.integers(domain.n_items, size=len(taken)).astype(np.int32)
    held = domain.matrix
    for _ in range(20):  # an item that was taken after all is drawn again
        again = np.asarray(held[taken.person, item]).ravel() > 0
        if not again.any():
            break
        item[again] = rng.integers(domain.n_items, size=int(again.sum()))
    free = np.asarray(held[taken.person, item]).ravel() == 0
    not_taken = Samples(taken.person, item, np.zeros(len(item), dtype=np.bool_), taken.history, taken.liked, taken.time)
    return _joined(taken, not_taken.take(free))


def _with_history(events: Interactions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the events that have enough before them, and where each event's person begins."""
    first = np.searchsorted(events.user, events.user)
    at = np.arange(len(events))
    return at[at - first >= LEAST_HISTORY], first


def _samples(
    events: Interactions, at: NDArray[np.int64], first: NDArray[np.int64], liked_from: float, history: int
) -> Samples:
    weight = np.full(len(events), np.inf) if events.marks is None else events.marks.weight.astype(np.float64)
    liked = np.where(np.isnan(weight), True, weight >= liked_from)
    before = at[:, None] - np.arange(history, 0, -1)
    known = before >= first[at][:, None]
    before = np.where(known, before, 0)
    return Samples(
        events.user[at],
        events.item[at],
        liked[at],
        np.where(known, events.item[before], -1).astype(np.int32),
        liked[before] & known,
        None if events.time is None else events.time[at],
    )


def _joined(one: Samples, other: Samples) -> Samples:
    time = None if one.time is None or other.time is None else np.concatenate((one.time, other.time))
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("person", "item", "label", "history", "liked")]
    person, item, label, history, liked = (np.concatenate(pair) for pair in pairs)
    return Samples(person, item, label, history, liked, time)


def _one_sided(rows: int, label: bool) -> RecommenderError:
    missing = "likings" if label else "dislikings"
    return RecommenderError(
        "K484",
        f"There are no {missing} among {rows} judgements with {LEAST_HISTORY} events before them.",
        "Check liked_from against the events' weights, or set dislikes = 'drawn'.",
    )
