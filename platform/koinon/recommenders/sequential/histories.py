"""From a domain's events, or from requests, to batches of sequences.

What stands in a history is read by three rules: events out of order in time are put in order (equal times stay as they
came); items outside the catalogue are skipped; of what is left the newest ``length`` count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koinon.data import Domain
from koinon.recommenders.protocol import Request
from koinon.recommenders.sequential.jagged import Layout
from koinon.recommenders.sequential.side import MarkWords

__all__ = ["Batch", "Histories", "History", "batch_of", "history_of", "ordered"]


@dataclass(frozen=True)
class Batch:
    """Sequences end to end.

    Attributes
    ----------
    items
        ``int64[T]``.
    layout
        Where sequences begin and end; holds their times.
    times, asked
        ``int64[T]`` seconds: when each event happened, and when what came after it did (the request, after the last);
        ``None`` without times.
    gaps
        ``int64[T]`` seconds since the event before in the same sequence (0 for its first); ``None`` without times.
    targets
        ``int64[T]`` what came next; ``None`` for requests.
    marks
        ``int64[T, 2]`` words of each event's kind and weight; ``None`` where they are not told.
    """

    items: Tensor
    layout: Layout
    times: Tensor | None
    asked: Tensor | None
    gaps: Tensor | None
    targets: Tensor | None = None
    marks: Tensor | None = None


def ordered(
    items: NDArray[np.integer], times: NDArray[np.integer] | None, catalogue: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Apply the three rules to one history: in order of time, without unknown items, the newest ``length``.

    Returns
    -------
    Items and times in seconds (``None`` without), ``int64[≤ length]`` each.
    """
    read, seconds, _ = _ordered(items, times, catalogue, length)
    return read, seconds


def _ordered(
    items: NDArray[np.integer], times: NDArray[np.integer] | None, catalogue: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64]]:
    """As :func:`ordered`, and the places where they stood."""
    read = np.asarray(items, dtype=np.int64)
    seconds = None if times is None else np.asarray(times, dtype=np.int64) // 1000
    place = np.arange(len(read))
    if seconds is not None and (np.diff(seconds) < 0).any():
        place = np.argsort(seconds, kind="stable")
    place = place[((read >= 0) & (read < catalogue))[place]][-length:]
    return read[place], None if seconds is None else seconds[place], place


@dataclass(frozen=True)
class History:
    """What a request's history comes to by the three rules.

    Attributes
    ----------
    items, times
        ``int64[n]`` each: oldest first; times in seconds.
    asked
        Second at which the request is made.
    marks
        ``int64[n, 2 + contexts]``: words of kinds, weights and contexts; ``None`` where they are not told.
    """

    items: NDArray[np.int64]
    times: NDArray[np.int64]
    asked: int
    marks: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.items)

    def take(self, chosen: slice | NDArray[np.integer]) -> History:
        """Some of its events, in the order given."""
        marks = None if self.marks is None else self.marks[chosen]
        return replace(self, items=self.items[chosen], times=self.times[chosen], marks=marks)

    def then(self, item: int, time: int, words: NDArray[np.int64] | None) -> History:
        """With one more event at its end."""
        marks = None if self.marks is None or words is None else np.concatenate((self.marks, words))
        return replace(self, items=np.append(self.items, item), times=np.append(self.times, time), marks=marks)


class Histories:
    """Everybody's training events as sequences.

    Parameters
    ----------
    domain
        Whose training events are read.
    length
        Rows that count; a person's last event is only a target, so ``length + 1`` events do.
    words
        Of marks, where they are told.
    """

    def __init__(self, domain: Domain, length: int, words: MarkWords | None = None) -> None:
        events = domain.events
        order, self.starts = _order(domain, length + 1)
        self.items = events.item[order].astype(np.int64)
        self.times = None if events.time is None else events.time[order] // 1000
        self.marks = None if words is None else words.read(events.marks, len(events))[order]
        self.users = np.flatnonzero(np.diff(self.starts) >= 2)

    @property
    def timed(self) -> bool:
        """Whether events have times."""
        return self.times is not None

    @property
    def rows(self) -> int:
        """Rows of one epoch: everybody's events but the last."""
        return int((np.diff(self.starts)[self.users] - 1).sum())

    def batch(self, users: NDArray[np.integer], device: torch.device, *, own_clock: bool = False) -> Batch:
        """Sequences of some users, each but its last event, with what came next.

        A row is asked at the time of what came next, or with ``own_clock`` at its own.
        """
        spans = [(int(self.starts[user]), int(self.starts[user + 1])) for user in users]
        inner = np.concatenate([np.arange(start, stop - 1) for start, stop in spans] or [np.empty(0, dtype=np.int64)])
        lengths = [stop - start - 1 for start, stop in spans]
        times = None if self.times is None else self.times[inner]
        asked = None if self.times is None else self.times[inner + 1]
        marks = None if self.marks is None else self.marks[inner]
        return _batch(self.items[inner], lengths, times, asked, marks, device, self.items[inner + 1], own_clock)


def batch_of(histories: Sequence[History], device: torch.device, *, timed: bool, own_clock: bool) -> Batch:
    """Requests' histories as sequences; none may be empty. ``timed``: the network knows times."""
    times = np.concatenate([one.times for one in histories]) if timed else None
    asked = np.concatenate([np.append(one.times[1:], one.asked) for one in histories]) if timed else None
    marks = [one.marks for one in histories if one.marks is not None]
    items = np.concatenate([one.items for one in histories])
    told = np.concatenate(marks) if marks else None
    return _batch(items, [len(one) for one in histories], times, asked, told, device, None, own_clock)


def history_of(
    request: Request, catalogue: int, length: int, *, timed: bool, words: MarkWords | None = None
) -> History:
    """What a request's history comes to.

    ``timed``: the network knows times. A request that says no time is made when its history ends; a history without
    times lies at the time of the request.
    """
    items, seconds, place = _ordered(request.history, request.times if timed else None, catalogue, length)
    if request.time is not None:
        asked = request.time // 1000
    else:
        asked = 0 if seconds is None or not len(seconds) else int(seconds[-1])
    if seconds is None:
        seconds = np.full(len(items), asked, dtype=np.int64)
    marks = None if words is None else words.read(request.marks, len(request.history))[place]
    return History(items, seconds, asked, marks)


def _batch(
    items: NDArray[np.int64],
    lengths: Sequence[int],
    times: NDArray[np.int64] | None,
    asked: NDArray[np.int64] | None,
    marks: NDArray[np.int64] | None,
    device: torch.device,
    targets: NDArray[np.int64] | None,
    own_clock: bool,
) -> Batch:
    def put(array: NDArray[np.int64] | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(device)

    known, later = put(times), put(asked)
    layout = Layout(lengths, device, known, known if own_clock else later)
    gaps = None
    if times is not None:
        gaps = np.diff(times, prepend=times[:1])
        gaps[layout.starts[:-1][layout.lengths > 0]] = 0
    return Batch(torch.from_numpy(items).to(device), layout, known, later, put(gaps), put(targets), put(marks))


def _order(domain: Domain, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of everybody's newest events, person by person and in order of time, and where each person's begin."""
    events = domain.events
    keys = (events.user,) if events.time is None else (events.time // 1000, events.user)
    order = np.lexsort(keys)
    order = order[(events.item[order] >= 0) & (events.item[order] < domain.n_items)]
    counts = np.bincount(events.user[order], minlength=domain.n_users)
    after = np.repeat(np.cumsum(counts), counts) - np.arange(len(order))
    starts = np.concatenate(([0], np.cumsum(np.minimum(counts, most)))).astype(np.int64)
    return order[after <= most], starts
