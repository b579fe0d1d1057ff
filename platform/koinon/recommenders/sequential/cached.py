"""One person's history, read once: new events cost one row each, candidates are placed after it in micro-batches.

Keys and values of every block are kept (Zhai et al. 2024, section 3.4, M-FALCON). A row asked at the time of what comes
next is known only when that has happened: the newest event is kept aside and worked out for each request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koinon.data import Marks
from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Request
from koinon.recommenders.sequential._hstu import HSTUNetwork, Past
from koinon.recommenders.sequential.histories import batch_of, history_of
from koinon.recommenders.sequential.side import MarkWords

__all__ = ["HistoryCache"]


class HistoryCache:
    """Keys and values of one history.

    Parameters
    ----------
    network
        Trained, in evaluation mode.
    request
        Whose history; read by the rules of :mod:`koinon.recommenders.sequential.histories`.
    device
        Where the network lives.
    words
        Of marks, where the network is told them.

    Attributes
    ----------
    history
        The events that count.
    """

    def __init__(
        self, network: HSTUNetwork, request: Request, device: torch.device, words: MarkWords | None = None
    ) -> None:
        self._network, self._device, self._words = network, device, words
        self.history = history_of(
            request, network.items.count, network.config.length, timed=network.timed, words=words
        )  # fmt: skip
        self._asked = self.history.asked
        self._read()

    def __len__(self) -> int:
        return len(self.history)

    def _read(self) -> None:
        """One pass over all events but the newest."""
        network = self._network
        if len(self) < 2:
            self._pasts = [Past(*(part[None] for part in block.nothing())) for block in network.each()]
            return
        known = replace(self.history.take(slice(-1)), asked=int(self.history.times[-1]))
        batch = batch_of([known], self._device, timed=network.timed, own_clock=network.own_clock)
        with torch.inference_mode():
            _, pasts = network.read(batch)
        self._pasts = [Past(keys[None], values[None]) for keys, values in pasts]

    def append(
        self,
        item: int,
        time: int | None = None,
        *,
        kind: str | None = None,
        weight: float | None = None,
        context: Mapping[str, str] | None = None,
    ) -> None:
        """Take in an event, as if it had stood in the history from the start.

        Parameters
        ----------
        item
            Of the catalogue; any other is skipped.
        time
            Milliseconds since 1970 UTC; ``None``: when the request was made.
        kind, weight, context
            The event's marks; ``None``: not known. Without effect where the network is not told them.

        Where the history is full its oldest event falls out and every place shifts, and where the event is older than
        the newest one it has to be put in between: then the history is read again.
        """
        if not 0 <= item < self._network.items.count:
            return
        seconds = self._seconds(time)
        late = len(self) > 0 and seconds < self.history.times[-1]
        full = len(self) == self._network.config.length
        if not (late or full) and len(self):
            self._pasts = self._settled(seconds)[1]
        circumstances = {name: [value] for name, value in (context or {}).items()}
        words = None if self._words is None else self._words.read(Marks.of([kind], [weight], circumstances), 1)
        self.history = self.history.then(item, seconds, words)
        if late or full:
            order = np.argsort(self.history.times, kind="stable")[-self._network.config.length :]
            self.history = self.history.take(order)
            self._read()
        self._asked = max(self._asked, seconds)

    def state(self, time: int | None = None) -> NDArray[np.float32]:
        """``float32[width]``: what to hold against items' vectors at a time (default: when the request was made).

        Raises
        ------
        RecommenderError
            K475 the history is empty.
        """
        if not len(self):
            raise RecommenderError("K475", "An empty history has no state.", "Ask for popular items instead.")
        with torch.inference_mode():
            found: NDArray[np.float32] = self._settled(self._seconds(time))[0].cpu().numpy()
        return found

    def rank(
        self, candidates: NDArray[np.integer], time: int | None = None, *, batch: int = 1024
    ) -> NDArray[np.float32]:
        """``float32[candidates]``: the target-aware head's logits, each candidate placed after the history.

        Parameters
        ----------
        candidates
            Items of the catalogue.
        time
            Milliseconds since 1970 UTC of the request.
        batch
            Candidates worked on together; each costs one row that looks at the history, whatever else is asked.

        Raises
        ------
        RecommenderError
            K476 the network was trained without such a head.
        """
        network = self._network
        if network.rank is None:
            raise RecommenderError(
                "K476", "This network has no target-aware head.", "Train it with ranking_negatives > 0."
            )
        seconds = self._seconds(time)
        with torch.inference_mode():
            pasts = self._settled(seconds)[1] if len(self) else self._pasts
            length = torch.tensor([[len(self)]], device=self._device)
            clocks, times = self._put([[seconds]]), self._put(self.history.times[None])
            gaps = self._put([[seconds - self.history.times[-1] if len(self) else 0]])
            logits = [
                network.rank_after(self._items(part), length, clocks, times, pasts, gaps)[0]
                for part in np.split(candidates, range(batch, len(candidates), batch))
            ]
            found: NDArray[np.float32] = torch.cat(logits).float().cpu().numpy()
        return found

    def _settled(self, seconds: int) -> tuple[Tensor, list[Past]]:
        """The newest event's row if the next thing happens then: its state ``[width]``, and keys and values with it."""
        before, newest = self.history.times[:-1], self.history.times[-1]
        marks = self.history.marks
        clock = newest if self._network.own_clock else seconds
        with torch.inference_mode():
            rows, made = self._network.after(
                self._items(self.history.items[-1:]),
                torch.tensor([[len(before)]], device=self._device),
                self._put([[clock]]),
                self._put(before[None]),
                self._pasts,
                self._put([[newest - before[-1] if len(before) else 0]]),
                self._put([[newest]]),
                None if marks is None else torch.from_numpy(marks[None, -1:]).to(self._device),
            )
            pasts = [
                Past(torch.cat((past.keys, new.keys), 1), torch.cat((past.values, new.values), 1))
                for past, new in zip(self._pasts, made, strict=True)
            ]
            return self._network.finish(rows[0, 0]), pasts

    def _seconds(self, time: int | None) -> int:
        return self._asked if time is None else time // 1000

    def _items(self, items: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(np.asarray(items, dtype=np.int64)[None]).to(self._device)

    def _put(self, times: object) -> Tensor | None:
        if not self._network.timed:
            return None
        return torch.from_numpy(np.asarray(times, dtype=np.int64)).to(self._device)
