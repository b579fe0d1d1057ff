"""From a domain's events, or from requests, to batches of sequences.

What stands in a history is read by three rules: events out of order in time are put in order (equal times stay as they
came); items outside the catalogue are skipped; of what is left the newest ``length`` count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koinon.data import Domain
from koinon.recommenders.protocol import Request
from koinon.recommenders.sequential.jagged import Layout

__all__ = ["Batch", "Histories", "batch_of", "history_of", "ordered"]


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
    """

    items: Tensor
    layout: Layout
    times: Tensor | None
    asked: Tensor | None
    gaps: Tensor | None
    targets: Tensor | None = None


def ordered(
    items: NDArray[np.integer], times: NDArray[np.integer] | None, catalogue: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Apply the three rules to one history: in order of time, without unknown items, the newest ``length``.

    Returns
    -------
    Items and times in seconds (``None`` without), ``int64[≤ length]`` each.
    """
    read: NDArray[np.int64] = np.asarray(items, dtype=np.int64)
    seconds = None if times is None else np.asarray(times, dtype=np.int64) // 1000
    if seconds is not None and (np.diff(seconds) < 0).any():
        order = np.argsort(seconds, kind="stable")
        read, seconds = read[order], seconds[order]
    known = (read >= 0) & (read < catalogue)
    if not known.all():
        read, seconds = read[known], None if seconds is None else seconds[known]
    return read[-length:], None if seconds is None else seconds[-length:]


class Histories:
    """Everybody's training events as sequences.

    Parameters
    ----------
    domain
        Whose training events are read.
    length
        Rows that count; a person's last event is only a target, so ``length + 1`` events do.
    """

    def __init__(self, domain: Domain, length: int) -> None:
        self.items, self.times, self.starts = _read(domain, length + 1)
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
        return _batch(self.items[inner], lengths, times, asked, device, self.items[inner + 1], own_clock)


def batch_of(
    requests: Sequence[Request], catalogue: int, length: int, device: torch.device, *, timed: bool, own_clock: bool
) -> Batch:
    """Requests' histories as sequences; none may come out empty.

    ``timed``: the network knows times. A request that says no time is made when its history ends; a history without
    times lies at the time of the request.
    """
    read = [history_of(request, catalogue, length, timed=timed) for request in requests]
    times = np.concatenate([known for _, known, _ in read]) if timed else None
    asked = np.concatenate([np.append(known[1:], asked) for _, known, asked in read]) if timed else None
    items = np.concatenate([items for items, _, _ in read])
    return _batch(items, [len(items) for items, _, _ in read], times, asked, device, None, own_clock)


def history_of(
    request: Request, catalogue: int, length: int, *, timed: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """What a request's history comes to: items, their times in seconds, and the time of the request."""
    items, seconds = ordered(request.history, request.times if timed else None, catalogue, length)
    if request.time is not None:
        asked = request.time // 1000
    else:
        asked = 0 if seconds is None or not len(seconds) else int(seconds[-1])
    return items, np.full(len(items), asked, dtype=np.int64) if seconds is None else seconds, asked


def _batch(
    items: NDArray[np.int64],
    lengths: Sequence[int],
    times: NDArray[np.int64] | None,
    asked: NDArray[np.int64] | None,
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
    return Batch(torch.from_numpy(items).to(device), layout, known, later, put(gaps), put(targets))


def _read(domain: Domain, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, NDArray[np.int64]]:
    events = domain.events
    seconds = None if events.time is None else events.time // 1000
    keys = (events.user,) if seconds is None else (seconds, events.user)
    order = np.lexsort(keys)
    order = order[(events.item[order] >= 0) & (events.item[order] < domain.n_items)]
    counts = np.bincount(events.user[order], minlength=domain.n_users)
    after = np.repeat(np.cumsum(counts), counts) - np.arange(len(order))
    order = order[after <= most]
    starts = np.concatenate(([0], np.cumsum(np.minimum(counts, most)))).astype(np.int64)
    return events.item[order].astype(np.int64), None if seconds is None else seconds[order], starts
