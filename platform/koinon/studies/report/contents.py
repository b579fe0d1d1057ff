"""What a report shows beyond the figures of ``results.json``: a map of the space and samples a person can judge."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample", "SampleItem", "SpaceMap"]


@dataclass(frozen=True)
class SpaceMap:
    """Items laid out in two dimensions, near where their texts mean similar things.

    Attributes
    ----------
    xy
        ``float32[points, 2]``, any units.
    partner, language, title
        ``str[points]`` each.
    method
        How it was laid out, in words.
    """

    xy: NDArray[np.float32]
    partner: tuple[str, ...]
    language: tuple[str, ...]
    title: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class SampleItem:
    """One recommended item and the grounded reasons for it."""

    title: str
    creator: str = ""
    language: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One list somebody would get.

    Attributes
    ----------
    heading
        Who asks, in words: no user id.
    partner
        Whose catalogue answers.
    known
        What the recommender was told: titles of the history or of liked things, in the order given.
    query
        The wish in words, if there was one.
    items
        Best first.
    """

    heading: str
    partner: str
    items: tuple[SampleItem, ...]
    known: tuple[str, ...] = ()
    query: str | None = None
    note: str = field(default="")
