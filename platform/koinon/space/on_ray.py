"""Encoding a large catalogue on Ray: on this machine or on a cluster, into the same cache."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koinon.errors import SpaceError
from koinon.space.cached import CachedSpace, open_space
from koinon.space.encoders import DEFAULT_ENCODER, Progress, open_encoder

__all__ = ["encode_with_ray"]


def encode_with_ray(
    texts: Sequence[str],
    uri: str = DEFAULT_ENCODER,
    cache_dir: Path | None = None,
    address: str = "auto",
    *,
    shard_texts: int = 2048,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CachedSpace:
    """Fill the cache with the vectors of ``texts``, encoded by Ray workers, and return the space.

    Every worker opens the encoder by its name (an ``hf:`` or ``gguf:`` path must lie at the same place on every node)
    and proves by the fingerprint that its weights are the same. Finished shards go to the cache at once: a run that
    was stopped goes on where it was. The vectors equal those of :meth:`CachedSpace.encode`.

    Parameters
    ----------
    texts
        Texts; those in the cache already are not encoded again.
    uri, cache_dir
        As for :func:`koinon.space.open_space`.
    address
        ``local``: a Ray of this process alone; ``auto``: the cluster of this machine, or a local one where there is
        none; ``ray://host:port``: a cluster.
    shard_texts
        Texts of one task.
    workers
        Encoders at work at once; ``None``: one per CPU of the cluster, at most one per shard.
    progress
        Called as ``progress(done, total)``, counted in new texts.

    Raises
    ------
    SpaceError
        K301 Ray is not installed, K320 the cluster cannot be reached or a worker failed, K321 a worker holds other
        weights; and what opening an encoder raises.
    """
    space = open_space(uri, cache_dir)
    missing = space.missing(texts)
    if not missing:
        return space
    shards = [missing[start : start + shard_texts] for start in range(0, len(missing), shard_texts)]
    with _cluster(address) as ray:
        available = int(ray.cluster_resources().get("CPU", 1))
        number = max(1, min(workers or available, len(shards)))
        actor = ray.remote(num_cpus=1)(_Worker)
        try:
            pool = [actor.remote(uri) for _ in range(number)]
            for fingerprint in ray.get([worker.fingerprint.remote() for worker in pool]):
                if fingerprint != space.fingerprint:
                    raise SpaceError(
                        "K321",
                        f"A Ray worker holds other weights or settings of `{uri}` than this process.",
                        "Install the same packages and the same model files on every node.",
                    )
            done = 0
            for shard, vectors in _work(ray, pool, shards):
                space.remember(shard, vectors)
                done += len(shard)
                if progress:
                    progress(done, len(missing))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, SpaceError):
                raise cause from error
            raise SpaceError(
                "K320",
                f"A Ray worker failed: {str(error).strip().splitlines()[-1]}",
                "Start the command again: finished shards are in the cache.",
            ) from error
    return space


class _Worker:
    """An encoder on a node, one thread per CPU that Ray gives it."""

    def __init__(self, uri: str) -> None:
        import torch

        torch.set_num_threads(1)
        self._encoder = open_encoder(uri)

    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return self._encoder.encode(texts)


def _work(ray: Any, pool: list[Any], shards: list[list[str]]) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Shards with their vectors as they are finished; a free worker takes the next shard."""
    waiting = iter(shards)
    running: dict[Any, tuple[Any, list[str]]] = {}

    def give(worker: Any) -> None:
        shard = next(waiting, None)
        if shard is not None:
            running[worker.encode.remote(shard)] = (worker, shard)

    for worker in pool:
        give(worker)
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        worker, shard = running.pop(ready)
        give(worker)
        yield shard, np.array(ray.get(ready))


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected; what this function started it also ends."""
    if importlib.util.find_spec("ray") is None:
        raise SpaceError("K301", "Encoding on Ray needs Ray.", "`pip install 'koinon[simulation]'`.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address in ("auto", "local"):
            try:
                if address == "local":
                    raise ConnectionError
                ray.init(address="auto", **quiet)
            except ConnectionError:
                ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, OSError, ValueError, RuntimeError, TimeoutError) as error:
        raise SpaceError(
            "K320",
            f"Cannot reach Ray at `{address}`: {next(iter(str(error).splitlines()), type(error).__name__)}",
            "Give `auto`, `local` or the `ray://host:10001` of a running cluster of the same Ray version.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
