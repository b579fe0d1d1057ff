"""A space seen through a map of its vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from koinon.space.cached import CachedSpace
from koinon.space.space import Space

__all__ = ["SpaceView"]

Floats = NDArray[np.float32]


class SpaceView:
    """A space whose vectors go through a map and are of length 1 again.

    Parameters
    ----------
    space
        Of any encoder.
    turn
        ``float32[texts, space.dimension]`` to ``float32[texts, dimension]``.
    dimension
        Length of a vector.
    fingerprint
        SHA-256 (hex) over the space's fingerprint and all that makes the map.
    """

    def __init__(self, space: Space, turn: Callable[[Floats], Floats], dimension: int, fingerprint: str) -> None:
        self.space, self.dimension, self.fingerprint = space, dimension, fingerprint
        self._turn = turn

    def encode(self, texts: Sequence[str], *, remember: bool = True) -> Floats:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1; ``remember`` as for a cached space."""
        space = self.space
        if isinstance(space, CachedSpace | SpaceView):
            turned = self._turn(space.encode(texts, remember=remember))
        else:
            turned = self._turn(space.encode(texts))
        norms = np.linalg.norm(turned, axis=1, keepdims=True)
        unit: Floats = (turned / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
        return unit
