"""Where noise comes from: a ChaCha20 key stream under a key of the operating system, turned into Gaussians.

A statistical generator's stream can be continued from a part of it (numpy's PCG64 and Mersenne twister are linear or
nearly so); who learns some noise would learn the rest. The key stream of a cipher has no such weakness.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

__all__ = ["NoiseSource"]

Doubles = NDArray[np.float64]
_BLOCK = 1 << 20


class NoiseSource:
    """Draws noise.

    Parameters
    ----------
    unsafe_seed
        Makes it repeatable, for tests and benchmarks alone; ``None``: a fresh key of the operating system.
    about
        With a seed: what the noise is for, so that two uses of one seed do not get the same noise.
    """

    def __init__(self, unsafe_seed: int | None = None, about: str = "") -> None:
        key = secrets.token_bytes(32)
        if unsafe_seed is not None:
            key = hashlib.sha256(f"unsafe noise {unsafe_seed} {about}".encode()).digest()
        self._stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def uniform(self, size: int) -> Doubles:
        """``float64[size]``: multiples of 2^-53 shifted by half a one, in the open interval (0, 1)."""
        words = np.frombuffer(self._stream.update(bytes(8 * size)), dtype="<u8")
        return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def normal(self, size: int) -> Doubles:
        """Standard normal, ``float64[size]`` (Box and Muller 1958); its tails end at 8.6, a chance of 10^-17."""
        out = np.empty(size)
        for begin in range(0, size, _BLOCK):
            wanted = min(_BLOCK, size - begin)
            half = (wanted + 1) // 2
            radius = np.sqrt(-2.0 * np.log(self.uniform(half)))
            angle = 2.0 * np.pi * self.uniform(half)
            out[begin : begin + wanted] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:wanted]
        return out

    def discrete_normal(self, size: int, scale: float) -> NDArray[np.int64]:
        """Discrete Gaussian: ``P(y) ∝ exp(-y² / 2 scale²)`` over the integers.

        Canonne, Kamath and Steinke (2020, The Discrete Gaussian for Differential Privacy, Algorithm 3): draw from a
        discrete Laplace and reject. Chances are compared in float64, so each is off by at most about 10^-15.

        Parameters
        ----------
        size
            How many, ``int64[size]``.
        scale
            In units of the grid, at least 0.5.
        """
        out = np.empty(size, dtype=np.int64)
        for begin in range(0, size, _BLOCK):
            wanted = min(_BLOCK, size - begin)
            found: NDArray[np.int64] = np.empty(0, dtype=np.int64)
            while len(found) < wanted:
                found = np.concatenate([found, self._accepted(2 * (wanted - len(found)) + 16, scale)])
            out[begin : begin + wanted] = found[:wanted]
        return out

    def _accepted(self, tries: int, scale: float) -> NDArray[np.int64]:
        steepness = np.floor(scale) + 1.0
        size = np.floor(-np.log(self.uniform(tries)) * steepness)
        negative = self.uniform(tries) < 0.5
        chance = np.exp(-((size - scale**2 / steepness) ** 2) / (2.0 * scale**2))
        kept = (self.uniform(tries) < chance) & ~(negative & (size == 0))
        signed: NDArray[np.int64] = np.where(negative, -size, size)[kept].astype(np.int64)
        return signed
