"""Batches shared out among threads that never wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["in_threads"]

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def in_threads(work: Callable[[Batch], Result], batches: Sequence[Batch], device: torch.device) -> list[Result]:
    """``[work(batch) for batch in batches]`` without gradients; on a CPU each batch by one thread.

    torch's own threads meet at the end of every operation, so that one busy core delays all of them at each; here a
    busy core delays its own batch alone, and the result does not depend on the number of threads.
    """
    threads = min(torch.get_num_threads(), len(batches))

    def alone(batch: Batch) -> Result:
        with torch.inference_mode():
            return work(batch)

    if threads <= 1 or device.type != "cpu":
        return [alone(batch) for batch in batches]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "encode", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(alone, batches))
    finally:
        torch.set_num_threads(before)
