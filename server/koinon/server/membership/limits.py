"""How often one address may ask."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Limits"]

MOST_PEERS = 10_000
"""Beyond that the peers that have been silent longest are forgotten."""


@dataclass
class _Bucket:
    tokens: float
    filled: float
    dry: bool = False


class Limits:
    """A token bucket per peer: ``burst`` requests at once, ``per_second`` in the long run.

    Parameters
    ----------
    burst, per_second
        Size of a bucket, and how fast it fills.
    clock
        Seconds, never going back.
    """

    def __init__(
        self, *, burst: float = 20, per_second: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.burst = burst
        self.per_second = per_second
        self.clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, peer: str) -> tuple[bool, bool]:
        """Count one request.

        Returns
        -------
        allowed, first
            ``first``: it is the first that is refused since one was allowed; a flood need not go on record twice.
        """
        with self._lock:
            now = self.clock()
            bucket = self._buckets.pop(peer, None) or _Bucket(self.burst, now)
            self._buckets[peer] = bucket
            if len(self._buckets) > MOST_PEERS:
                self._buckets.popitem(last=False)
            bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.filled) * self.per_second)
            bucket.filled = now
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                bucket.dry = False
                return True, False
            first, bucket.dry = not bucket.dry, True
            return False, first
