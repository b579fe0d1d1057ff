"""The semantic space in daily use: an encoder with a memory on disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from koinon.errors import SpaceError
from koinon.space.cache import VectorCache, text_key
from koinon.space.encoders import DEFAULT_ENCODER, Encoder, Progress, open_encoder

__all__ = ["CachedSpace", "open_space"]

_SEGMENT_TEXTS = 8192


class CachedSpace:
    """A :class:`koinon.space.Space` that never encodes a text twice.

    Parameters
    ----------
    encoder
        Where new texts go. Its weights are loaded with the first of them, not before.
    cache_dir
        Folder of the vector caches, shared by all encoders and processes.

    Attributes
    ----------
    encoded_texts
        How many texts this object has given to the encoder; 0 means that all came from the cache.
    """

    def __init__(self, encoder: Encoder, cache_dir: Path) -> None:
        self.encoder = encoder
        self.encoded_texts = 0
        self._cache_dir = cache_dir
        self.cache = VectorCache(cache_dir, encoder.fingerprint, encoder.dimension)
        self._encoding = threading.Lock()

    @property
    def uri(self) -> str:
        """The encoder's name."""
        return self.encoder.uri

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.encoder.dimension

    @property
    def fingerprint(self) -> str:
        """Hash of weights and settings."""
        return self.encoder.fingerprint

    def __reduce__(self) -> tuple[type[CachedSpace], tuple[Encoder, Path]]:
        return type(self), (self.encoder, self._cache_dir)

    def encode(
        self, texts: Sequence[str], *, remember: bool = True, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given.

        Parameters
        ----------
        texts
            Any language; empty texts are allowed.
        remember
            Write new vectors to the disk. Turn it off for what users type: a cache is for item texts.
        progress
            Called as ``progress(done, total)``, counted in new texts; never called when there are none.

        Raises
        ------
        SpaceError
            K307 the encoder gave values that are not finite, K308 something that is no text.
        ResourceError
            K801 when the disk is full; what was encoded before stays in the cache.
        """
        texts = check_texts(texts)
        keys = [text_key(text) for text in texts]
        new = self._missing(texts, keys)
        if not new:
            return self.cache.read(keys)
        with self._encoding:
            self.cache.refresh()
            new = {key: text for key, text in new.items() if key not in self.cache}
            fresh = self._encode_new(new, remember, progress)
        if remember:
            return self.cache.read(keys)
        known = {key: row for row, key in enumerate(new)}
        vectors = np.empty((len(keys), self.dimension), dtype=np.float32)
        old = [place for place, key in enumerate(keys) if key not in known]
        vectors[old] = self.cache.read([keys[place] for place in old])
        unseen = [place for place, key in enumerate(keys) if key in known]
        vectors[unseen] = fresh[[known[keys[place]] for place in unseen]]
        return vectors

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The distinct texts that are not in the cache yet, in the order of their first appearance."""
        self.cache.refresh()
        texts = check_texts(texts)
        return list(self._missing(texts, [text_key(text) for text in texts]).values())

    def remember(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Put vectors that this encoder gave elsewhere into the cache (texts distinct, ``float32[texts, dimension]``).

        Raises
        ------
        SpaceError
            K307 when a vector is not finite or not of norm 1.
        """
        _check_vectors(vectors, len(texts), self.dimension, self.uri)
        self.cache.add([text_key(text) for text in texts], vectors)

    def _missing(self, texts: Sequence[str], keys: Sequence[bytes]) -> dict[bytes, str]:
        there = self.cache.find(keys)
        return {keys[place]: texts[place] for place in np.flatnonzero(~there).tolist()}

    def _encode_new(self, new: dict[bytes, str], remember: bool, progress: Progress | None) -> NDArray[np.float32]:
        keys, texts = list(new), list(new.values())
        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(texts), _SEGMENT_TEXTS):
            part = self.encoder.encode(texts[start : start + _SEGMENT_TEXTS])
            _check_vectors(part, len(part), self.dimension, self.uri)
            self.encoded_texts += len(part)
            if remember:
                self.cache.add(keys[start : start + _SEGMENT_TEXTS], part)
            else:
                parts.append(part)
            if progress:
                progress(start + len(part), len(texts))
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)


def open_space(uri: str = DEFAULT_ENCODER, cache_dir: Path | None = None, *, device: str = "cpu") -> CachedSpace:
    """Open the space of an encoder, with its cache.

    Parameters
    ----------
    uri
        An encoder's name, see :func:`koinon.space.open_encoder` (which lists the errors).
    cache_dir
        Folder of vector caches; ``None``: the user's cache folder.
    device
        A torch device for new texts.

    Examples
    --------
    >>> space = open_space()  # doctest: +SKIP
    >>> space.encode(["Das fremde Gesicht. Mary Higgins Clark"]).shape  # doctest: +SKIP
    (1, 512)
    """
    return CachedSpace(open_encoder(uri, device=device), cache_dir or default_cache_dir())


def default_cache_dir() -> Path:
    """The user's cache folder for vectors."""
    from platformdirs import user_cache_path

    return user_cache_path("koinon") / "vectors"


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as valid Unicode; lone surrogates become ``?``. SpaceError K308 for what is no text."""
    if isinstance(texts, str):
        raise SpaceError("K308", "One string was given where a list of texts is wanted.", "Pass `[text]`.")
    checked: list[str] = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise SpaceError(
                "K308",
                f"Text {place} is of type {type(text).__name__}, not a string.",
                "Replace missing texts by an empty string.",
            )
        checked.append(text if text.isascii() else text.encode("utf-8", "replace").decode())
    return checked


def _check_vectors(vectors: NDArray[np.float32], texts: int, dimension: int, uri: str) -> None:
    norms = np.einsum("ij,ij->i", vectors, vectors) if vectors.ndim == 2 else np.empty(0)
    if vectors.shape != (texts, dimension) or not np.all(np.abs(norms - 1.0) < 1e-2):
        raise SpaceError(
            "K307",
            f"Encoder `{uri}` gave vectors that are not finite unit vectors of length {dimension}.",
            "Its weights or its precision are unfit; try dtype=float32 or another model.",
        )
