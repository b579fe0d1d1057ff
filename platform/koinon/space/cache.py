"""Vectors on disk, keyed by text: append-only segments that any number of processes may write and read at once.

A segment is two NumPy files, ``<name>.vectors.npy`` (``float32[texts, dimension]``) and ``<name>.keys.npy``
(``uint8[texts, 16]``, BLAKE2b of the texts). Each is written to a temporary file, synced and renamed; the keys come
last, and a segment without keys does not exist. So a process killed at any point leaves whole segments or none.
Small segments are merged under a lock when there are many. Readers map the vectors into memory.
"""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from koinon.config import atomic_path
from koinon.errors import SpaceError

__all__ = ["VectorCache", "text_key"]

_KEY_BYTES = 16
_MERGE_ABOVE = 24
_MERGE_ROWS_BELOW = 16_384


def text_key(text: str) -> bytes:
    """The 16 bytes that stand for a text in a cache."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()


class _Segment(NamedTuple):
    name: str
    vectors: NDArray[np.float32]


class VectorCache:
    """The vectors of one encoder.

    Parameters
    ----------
    folder
        Where caches lie; this one takes a sub-folder named by the fingerprint.
    fingerprint
        The encoder's hash; another encoder, prompt or length is another cache.
    dimension
        Length of a vector.

    Raises
    ------
    SpaceError
        K310 the folder cannot be used, or holds vectors of another length.
    """

    def __init__(self, folder: Path, fingerprint: str, dimension: int) -> None:
        self.folder = folder / fingerprint[:32]
        self._dimension = dimension
        self._segments: list[_Segment] = []
        self._names: set[str] = set()
        self._place: dict[bytes, tuple[int, int]] = {}
        self._lock = threading.RLock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpaceError(
                "K310", f"Cannot use the vector cache {self.folder}: {error.strerror}.", "Choose another cache folder."
            ) from error
        self.refresh()

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def refresh(self) -> None:
        """Read the segments that other processes have written since."""
        with self._lock:
            for keys_path in sorted(self.folder.glob("*.keys.npy")):
                name = keys_path.name.removesuffix(".keys.npy")
                if name not in self._names:
                    self._adopt(name)

    def find(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """``bool[keys]``: which of them are in the cache."""
        with self._lock:
            place = self._place
            return np.fromiter((key in place for key in keys), dtype=np.bool_, count=len(keys))

    def read(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """``float32[keys, dimension]``; every key must be there (``KeyError`` otherwise)."""
        with self._lock:
            places = np.array([self._place[key] for key in keys], dtype=np.int64).reshape(-1, 2)
            segments = list(self._segments)
        vectors = np.empty((len(keys), self._dimension), dtype=np.float32)
        for number in np.unique(places[:, 0]):
            wanted = np.flatnonzero(places[:, 0] == number)
            vectors[wanted] = segments[number].vectors[places[wanted, 1]]
        return vectors

    def add(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write a segment: ``vectors`` is ``float32[keys, dimension]``, keys are distinct.

        Raises
        ------
        ResourceError
            K801 when the disk is full; nothing of the segment remains.
        """
        if not keys:
            return
        with self._lock:
            self._adopt(self._write(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES), vectors))
            if sum(len(segment.vectors) < _MERGE_ROWS_BELOW for segment in self._segments) > _MERGE_ABOVE:
                self._merge()

    def _write(self, keys: NDArray[np.uint8], vectors: NDArray[np.float32]) -> str:
        name = uuid.uuid4().hex
        self._save(self.folder / f"{name}.vectors.npy", np.ascontiguousarray(vectors, dtype=np.float32))
        try:
            self._save(self.folder / f"{name}.keys.npy", keys)
        except BaseException:
            (self.folder / f"{name}.vectors.npy").unlink(missing_ok=True)
            raise
        return name

    @staticmethod
    def _save(path: Path, array: NDArray[np.generic]) -> None:
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.save(handle, array, allow_pickle=False)

    def _adopt(self, name: str) -> None:
        """Take a segment into the index; one that is damaged or was merged away meanwhile is passed over."""
        try:
            keys = np.load(self.folder / f"{name}.keys.npy", allow_pickle=False)
            vectors = np.load(self.folder / f"{name}.vectors.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return
        if keys.ndim != 2 or keys.shape[1] != _KEY_BYTES or keys.dtype != np.uint8 or len(keys) != len(vectors):
            return
        if vectors.shape[1:] != (self._dimension,):
            raise SpaceError(
                "K310",
                f"The vector cache {self.folder} holds vectors of length {vectors.shape[-1]}, not {self._dimension}.",
                "Remove that folder; its vectors will be encoded again.",
            )
        self._names.add(name)
        number = len(self._segments)
        self._segments.append(_Segment(name, vectors))
        packed = keys.tobytes()
        for row in range(len(keys)):
            self._place.setdefault(packed[row * _KEY_BYTES : (row + 1) * _KEY_BYTES], (number, row))

    def _merge(self) -> None:
        """Make one segment of the small ones, unless another process is doing so."""
        with self._only_one() as mine:
            if not mine:
                return
            small = [s for s in self._segments if len(s.vectors) < _MERGE_ROWS_BELOW]
            loaded = [(s, self.folder / f"{s.name}.keys.npy") for s in small]
            present = [(segment, np.load(path, allow_pickle=False)) for segment, path in loaded if path.exists()]
            if len(present) < 2:
                return
            name = self._write(
                np.concatenate([keys for _, keys in present]),
                np.concatenate([segment.vectors for segment, _ in present]),
            )
            for segment, _ in present:
                (self.folder / f"{segment.name}.keys.npy").unlink(missing_ok=True)
                (self.folder / f"{segment.name}.vectors.npy").unlink(missing_ok=True)
            self._segments, self._names, self._place = [], set(), {}
            self.refresh()
            if name not in self._names:
                self._adopt(name)

    @contextmanager
    def _only_one(self) -> Iterator[bool]:
        """Hold the folder's merge lock, or say that another process does."""
        lock = self.folder / "merge.lock"
        with lock.open("a") as handle:
            try:
                if os.name == "posix":
                    import fcntl

                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield os.name == "posix"
