"""Tensors as words of a ring and back: fixed point, rounded to the nearest, no overflow by construction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum.masks import Words, word_type

__all__ = ["Part", "Quantiser", "WordLayout"]

_CHUNK = 1 << 16
_EXACT = 53  # a float64 holds integers of so many bits


@dataclass(frozen=True)
class Quantiser:
    """Fixed point in words of 32 or 64 bits, for numbers that several parties add up.

    Deterministic rounding to the nearest multiple of ``step``, a power of two. Each party's number is held to
    ``limit = total / parties`` in absolute value, so that the sum can leave neither the bound nor the ring. A sum of
    ``p`` parties' numbers is off by ``p · step / 2`` at most; whole numbers are exact.

    Attributes
    ----------
    total
        Bound on the absolute value of the sum, above 0.
    parties
        How many may contribute, at least 1.
    bits
        Of a word, 32 or 64.
    whole
        Whole numbers: ``step`` is 1.

    Raises
    ------
    PrivacyError
        K622 neither 32 nor 64 bits, K623 the ring cannot hold such a sum.
    """

    total: float
    parties: int
    bits: int = 32
    whole: bool = False

    def __post_init__(self) -> None:
        word_type(self.bits)
        sound = math.isfinite(self.total) and 1e-290 < self.total < 1e290 and self.parties >= 1
        if not sound or self._levels <= 0 or (self.whole and self.total > self._levels):
            raise PrivacyError(
                "K623",
                f"Words of {self.bits} bits cannot hold a sum up to {self.total} of {self.parties} parties.",
                "Lower the bound, or take words of 64 bits.",
            )

    @property
    def _levels(self) -> float:
        """Largest multiple of the step that a sum may reach before rounding; one is kept back for the limit's own."""
        largest: int = 2 ** (min(self.bits, _EXACT) - 1) - 1
        return largest - self.parties / 2 - 1

    @cached_property
    def step(self) -> float:
        """Distance of two neighbouring numbers, a power of two."""
        if self.whole:
            return 1.0
        mantissa, exponent = math.frexp(self.total / self._levels)
        return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)

    @property
    def limit(self) -> float:
        """What one party may contribute at most, in absolute value."""
        return self.total // self.parties if self.whole else self.total / self.parties

    @property
    def error(self) -> float:
        """How far a sum of all parties may be off: ``parties · step / 2``, 0 for whole numbers."""
        return 0.0 if self.whole else self.parties * self.step / 2

    def encode(self, values: NDArray[np.generic], words: Words, name: str = "values") -> None:
        """Write values into words, of which there are as many.

        Raises
        ------
        PrivacyError
            K624 a value is not finite or exceeds the limit.
        """
        flat, signed = values.reshape(-1), words.view(f"<i{self.bits // 8}")
        for start in range(0, len(flat), _CHUNK):
            part = flat[start : start + _CHUNK].astype(np.float64)
            if not max(part.max(), -part.min()) <= self.limit:
                raise PrivacyError(
                    "K624",
                    f"`{name}` holds a value that is not finite or exceeds {self.limit:g} in absolute value.",
                    "Clip it before it is summed.",
                )
            part *= 1 / self.step
            signed[start : start + _CHUNK] = np.rint(part, out=part)

    def decode(self, words: Words) -> NDArray[np.float64] | NDArray[np.int64]:
        """Read a sum, ``float64``, or ``int64`` of whole numbers, one dimension."""
        signed = words.view(f"<i{self.bits // 8}")
        return signed.astype(np.int64) if self.whole else np.multiply(signed, self.step, dtype=np.float64)


@dataclass(frozen=True)
class Part:
    """One named tensor in a vector of words.

    Attributes
    ----------
    name, shape, dtype
        As each party gives it; ``dtype`` is a numpy name of a float or an integer type.
    total
        Bound on the absolute value of each element of the sum over all parties.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    total: float


class WordLayout:
    """Where named tensors lie in one vector of words, the number of people last.

    Parameters
    ----------
    parts
        The tensors, in order; decided by the policy, never by events.
    parties
        How many may contribute.
    bits
        Of a word, 32 or 64.

    Raises
    ------
    PrivacyError
        K622, K623 as :class:`Quantiser`; K625 a name twice or a dtype that is no number's.
    """

    def __init__(self, parts: Sequence[Part], parties: int, bits: int = 32) -> None:
        self.parts = tuple(parts)
        self.bits = bits
        kinds = [np.dtype(part.dtype).kind for part in self.parts]
        if len({part.name for part in self.parts}) < len(self.parts) or set(kinds) - set("fiu"):
            raise PrivacyError("K625", "A tensor is named twice or holds no numbers.", "Mend the policy's tensors.")
        self.quantisers = {
            part.name: Quantiser(part.total, parties, bits, whole=kind != "f")
            for part, kind in zip(self.parts, kinds, strict=True)
        }
        self._people = Quantiser(float(2 ** (min(bits, _EXACT) - 1) - 2 - math.ceil(parties / 2)), parties, bits, True)

    @property
    def count(self) -> int:
        """Words in all."""
        return sum(math.prod(part.shape) for part in self.parts) + 1

    def pack(self, arrays: Mapping[str, NDArray[np.generic]], n_users: int) -> Words:
        """Turn a party's tensors and its number of people into words.

        Raises
        ------
        PrivacyError
            K624 a value is not finite or too large, K625 these are not the declared tensors.
        """
        if arrays.keys() != self.quantisers.keys():
            raise PrivacyError(
                "K625", f"The sum is of {sorted(self.quantisers)}, not of {sorted(arrays)}.", "Give exactly those."
            )
        words: Words = np.empty(self.count, dtype=word_type(self.bits))
        start = 0
        for part in self.parts:
            array = arrays[part.name]
            if (array.shape, array.dtype.name) != (part.shape, part.dtype):
                raise PrivacyError(
                    "K625",
                    f"`{part.name}` is {array.dtype.name}{array.shape}, declared {part.dtype}{part.shape}.",
                    "Give the declared one.",
                )
            self.quantisers[part.name].encode(array, words[start : start + array.size], part.name)
            start += array.size
        self._people.encode(np.array([n_users]), words[start:], "n_users")
        return words

    def unpack(self, words: Words) -> tuple[dict[str, NDArray[np.float64] | NDArray[np.int64]], int]:
        """Turn a total's words into tensors (``float64``, integers ``int64``) and the number of people."""
        arrays: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
        start = 0
        for part in self.parts:
            size = math.prod(part.shape)
            arrays[part.name] = self.quantisers[part.name].decode(words[start : start + size]).reshape(part.shape)
            start += size
        return arrays, int(self._people.decode(words[start:])[0])
