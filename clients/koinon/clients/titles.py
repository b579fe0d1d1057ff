"""Typed titles to items of the catalogue: by spelling, by near spelling, by meaning, and honest about which it was."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from koinon.clients.words import encode_typed
from koinon.data import Domain
from koinon.recommenders.federated.identities import identity_key
from koinon.space import Space

__all__ = ["NEAR_MEANING", "NEAR_SPELLING", "TitleIndex", "Understood"]

NEAR_SPELLING = 0.87
"""Least similarity of two spellings (difflib's ratio of normalised titles)."""

NEAR_MEANING = 0.75
"""Least cosine of two titles for one to stand for the other. On titles typed in one language against catalogues in
another, true translations lie between .59 and .94 and wrong neighbours reach .74: above it what is found is right,
below it the title is used as a text, which loses little."""

_YEAR = re.compile(r" (1[89]|20)\d\d$")
_SUBTITLE = re.compile(r"\s*[:;.(\[–/]\s*")

How = Literal["title", "spelling", "meaning", "text"]


@dataclass(frozen=True)
class Understood:
    """What became of one typed title.

    Attributes
    ----------
    typed
        As it was typed.
    how
        ``title``: it is in the catalogue; ``spelling``: nearly; ``meaning``: the nearest title in the space;
        ``text``: it is not in the catalogue, its words are used.
    item
        Index in the catalogue; ``None`` for ``text``.
    similarity
        Of spelling or of meaning, 0 to 1; 1 for ``title``, of the nearest title for ``text`` where there is a space.
    """

    typed: str
    how: How
    item: int | None
    similarity: float


class TitleIndex:
    """Finds typed titles in one catalogue.

    Parameters
    ----------
    domain
        The catalogue; its training events say which of several editions is meant: the one taken most.
    space
        For matches by meaning, across languages; ``None``: spelling alone.
    """

    def __init__(self, domain: Domain, space: Space | None) -> None:
        self.domain = domain
        self.space = space

    def spelled(self, texts: Sequence[str]) -> list[int | None]:
        """Items whose whole title, or title and creator, the texts are; near spellings and meanings do not count."""
        return [self._keys[0].get(_key(text)) for text in texts]

    def understand(self, typed: Sequence[str]) -> list[Understood]:
        """Say of each typed title which item it is, if any."""
        found = [self._by_spelling(title) for title in typed]
        open_ = [place for place, match in enumerate(found) if match is None]
        if open_ and self.space is not None and self.domain.n_items:
            similar = encode_typed(self.space, [typed[place] for place in open_]) @ self._vectors.T
            for place, row in zip(open_, similar, strict=True):
                found[place] = self._by_meaning(typed[place], row)
        return [match or Understood(title, "text", None, 0.0) for title, match in zip(typed, found, strict=True)]

    def _by_spelling(self, typed: str) -> Understood | None:
        key = _key(typed)
        if not key:
            return None
        for keys in self._keys:
            if key in keys:
                return Understood(typed, "title", keys[key], 1.0)
        # a query cannot be near in spelling to a title of quite another length
        near = [k for k in self._keys[0] if abs(len(k) - len(key)) <= 0.3 * len(key)] if len(key) >= 5 else []
        best = difflib.get_close_matches(key, near, n=1, cutoff=NEAR_SPELLING)
        if not best:
            return None
        ratio = difflib.SequenceMatcher(None, best[0], key).ratio()
        return Understood(typed, "spelling", self._keys[0][best[0]], round(ratio, 3))

    def _by_meaning(self, typed: str, similar: NDArray[np.float32]) -> Understood:
        nearest = float(similar.max())
        if nearest < NEAR_MEANING:
            return Understood(typed, "text", None, round(nearest, 3))
        tied = np.flatnonzero(similar >= nearest - 1e-4)
        item = int(tied[np.argmax(self.domain.item_counts[tied])])
        return Understood(typed, "meaning", item, round(nearest, 3))

    @cached_property
    def _keys(self) -> tuple[dict[str, int], dict[str, int]]:
        """Normalised titles to items, whole titles and short forms (no year, no subtitle); the most taken item wins."""
        whole: dict[str, int] = {}
        short: dict[str, int] = {}
        titles = self.domain.items["title"].to_list()
        creators = self.domain.items["creator"].to_list()
        for item in np.argsort(self.domain.item_counts, kind="stable").tolist():
            key = _key(titles[item])
            whole[key] = item
            if creators[item]:
                whole[f"{key} {_key(creators[item])}"] = item
            for form in (_YEAR.sub("", key), _key(_SUBTITLE.split(titles[item], maxsplit=1)[0])):
                if len(form) >= 4:
                    short[form] = item
        return whole, short

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        assert self.space is not None
        return self.space.encode([_bare(title) for title in self.domain.items["title"].to_list()])


_REMARK = re.compile(r"\s*(\([^()\[\]]*\)|\[[^()\[\]]*\])")


def _bare(title: str) -> str:
    """A title without bracketed remarks (years, series, bindings), nested ones included."""
    before = title
    while (bare := _REMARK.sub("", before)) != before:
        before = bare
    return bare.strip() or title


def _key(title: str) -> str:
    return identity_key(title, None).rpartition("|")[0]
