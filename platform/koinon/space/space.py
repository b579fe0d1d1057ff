"""The semantic space as recommenders see it: texts in, unit vectors out, nothing encoded twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Space"]


@runtime_checkable
class Space(Protocol):
    """Turns texts of any language into unit vectors.

    Attributes
    ----------
    dimension
        Length of a vector.
    fingerprint
        Hash of the encoder's weights and settings; equal fingerprints give equal vectors.
    """

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of weights and settings."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        ...
