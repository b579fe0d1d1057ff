"""Identities of the space: which items of different partners are one work.

Two items are one identity when their normalised title and author are equal, or when they are each other's nearest
neighbours in the pinned encoder, above a threshold: editions in one language whose words agree, and translations whose
author's name does. Merging is never transitive: within an identity every two keys look alike directly, so that no chain
of near-equal texts can pull unlike works together.

An identity only carries other partners' statistics over. A partner that lists several editions of one work keeps them
apart when it ranks.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Catalogue
from koinon.space import Space

__all__ = ["Identities", "catalogue_of", "identity_key", "key_hashes", "look_up", "match_identities"]

_BRACKETS = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]")
_NOT_WORD = re.compile(r"[^\w]+")
_ARTICLES = frozenset(
    [
        "the",
        "a",
        "an",
        "der",
        "die",
        "das",
        "ein",
        "eine",
        "le",
        "la",
        "les",
        "l",
        "un",
        "une",
        "el",
        "los",
        "las",
        "una",
    ]
)


def _words(text: str) -> list[str]:
    """Casefolded words without accents and punctuation."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return _NOT_WORD.sub(" ", plain).replace("_", " ").split()


def _keep_numbers(match: re.Match[str]) -> str:
    """Of a bracketed remark keep the numbers: volumes and years tell works apart, names of series do not."""
    return " " + " ".join(re.findall(r"\d+", match.group(0))) + " "


def _without_brackets(text: str) -> str:
    """Drop bracketed remarks, from the innermost outwards."""
    while (shorter := _BRACKETS.sub(_keep_numbers, text)) != text:
        text = shorter
    return text


def identity_key(title: str, creator: str | None) -> str:
    """Return the normalised title and author, ``"da vinci code|brown dan"``.

    Case, accents, punctuation, a leading article and bracketed remarks (but for their numbers) are dropped; the
    author's words are sorted, so that "Brown, Dan" and "Dan Brown" agree. A title with no word left is kept as it is.
    """
    words = _words(_without_brackets(title)) or _words(title) or [title]
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    return " ".join(words) + "|" + " ".join(sorted(_words(creator or "")))


def catalogue_of(
    partner: str, items: pl.DataFrame, *, public: bool = True, match_key: bytes | None = None
) -> Catalogue:
    """Return what a partner tells of its items: identity keys and, if the catalogue is public, texts.

    Parameters
    ----------
    partner
        Its name.
    items
        Canonical item table in index order.
    public
        Whether texts and languages may be told.
    match_key
        A secret the partners share and the server does not know. With it every partner's keys become
        HMAC-SHA-256 of the normalised text, so that the server can compare but not read them. It is needed
        as soon as one partner's catalogue is secret, and then by all partners.

    Raises
    ------
    RecommenderError
        K430 for a secret catalogue without a ``match_key``.
    """
    if not public and match_key is None:
        raise RecommenderError(
            "K430",
            f"The catalogue of {partner} is secret, but there is no match key to hide its titles with.",
            "Agree on a match key among the partners (it is not told to the server), or declare the catalogue public.",
        )
    keys = [identity_key(t, c) for t, c in zip(items["title"].to_list(), items["creator"].to_list(), strict=True)]
    if match_key is not None:
        keys = [hmac.new(match_key, key.encode(), hashlib.sha256).hexdigest()[:32] for key in keys]
    return Catalogue(
        partner=partner,
        keys=tuple(keys),
        texts=tuple(items["text"].to_list()) if public else None,
        languages=tuple(items["language"].to_list()) if public else None,
    )


def key_hashes(keys: Sequence[str]) -> NDArray[np.uint64]:
    """Return a 64-bit BLAKE2b of every key, ``uint64[keys]``: how a release names identities."""
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


@dataclass(frozen=True)
class Identities:
    """The works that several partners list.

    Attributes
    ----------
    hashes
        ``uint64[keys]``, ascending: hashes of the keys (see :func:`key_hashes`) of every matched work.
    identity
        ``int32[keys]``: the identity of each hash, ``0 … n - 1``.
    listings
        Per catalogue the distinct identities it lists, ``int32[…]``, ascending.
    n
        Number of identities.
    """

    hashes: NDArray[np.uint64]
    identity: NDArray[np.int32]
    listings: tuple[NDArray[np.int32], ...]
    n: int

    def of(self, keys: Sequence[str]) -> NDArray[np.int32]:
        """Return the identity of each key, ``int32[keys]``; -1 where no other partner lists the work."""
        return look_up(self.hashes, self.identity, keys)


def look_up(hashes: NDArray[np.uint64], identity: NDArray[np.int32], keys: Sequence[str]) -> NDArray[np.int32]:
    """Return the identity of each key by its hash, -1 where there is none."""
    if not len(hashes):
        return np.full(len(keys), -1, dtype=np.int32)
    own = key_hashes(keys)
    at = np.minimum(np.searchsorted(hashes, own), len(hashes) - 1)
    return np.where(hashes[at] == own, identity[at], -1).astype(np.int32)


def match_identities(
    catalogues: Sequence[Catalogue],
    space: Space | None,
    *,
    edition: float = 0.8,
    translation: float = 0.75,
    shared_by: int = 2,
) -> Identities:
    """Return the works listed by at least ``shared_by`` partners.

    Parameters
    ----------
    catalogues
        One per partner.
    space
        The pinned encoder; ``None`` matches equal keys alone. Texts of the public catalogues only are encoded.
    edition
        Least cosine of mutual nearest neighbours in one language. One's words must also hold the other's, or the two
        be spelled nearly alike; a higher cosine alone tells the volumes of a series apart no better.
    translation
        Least cosine of mutual nearest neighbours in two languages; they must share a word (in practice the author).
    shared_by
        A work that fewer partners list gains nothing from the others and is left out.
    """
    keys = sorted({key for catalogue in catalogues for key in catalogue.keys})
    row = {key: number for number, key in enumerate(keys)}
    rows = [np.unique(np.array([row[key] for key in c.keys], dtype=np.int32)) for c in catalogues]
    group = np.arange(len(keys), dtype=np.int32)
    if space is not None:
        alike = _Alike(catalogues, rows, row, space, edition, translation)
        for members in alike.groups():
            group[members] = members[0]
    listed = np.zeros(len(keys), dtype=np.int64)
    for own in rows:
        listed[np.unique(group[own])] += 1
    shared = np.flatnonzero(listed >= shared_by)
    number = np.full(len(keys), -1, dtype=np.int32)
    number[shared] = np.arange(len(shared), dtype=np.int32)
    identity = number[group]
    kept = np.flatnonzero(identity >= 0)
    hashes = key_hashes([keys[k] for k in kept])
    order = np.argsort(hashes)
    found = tuple(np.unique(identity[own][identity[own] >= 0]) for own in rows)
    return Identities(hashes[order], identity[kept][order], found, len(shared))


class _Alike:
    """Which keys of public catalogues look like one work."""

    def __init__(
        self,
        catalogues: Sequence[Catalogue],
        rows: Sequence[NDArray[np.int32]],
        row: dict[str, int],
        space: Space,
        edition: float,
        translation: float,
    ) -> None:
        self.edition, self.translation = edition, translation
        self.texts: dict[int, tuple[str, str]] = {}
        self.rows: list[NDArray[np.int32]] = []
        for catalogue, own in zip(catalogues, rows, strict=True):
            if catalogue.texts is not None and catalogue.languages is not None:
                self.rows.append(own)
                for key, text, language in zip(catalogue.keys, catalogue.texts, catalogue.languages, strict=True):
                    self.texts.setdefault(row[key], (text, language))
        known = sorted(self.texts)
        self.vectors = np.zeros((len(row), space.dimension), dtype=np.float32)
        if known:
            self.vectors[known] = space.encode([self.texts[key][0] for key in known])

    def groups(self) -> list[list[int]]:
        """Sets of keys that are one work: nearest pairs first, joined while all across are alike."""
        found = self._mutual()
        group: dict[int, list[int]] = {}
        for x, y in sorted(found, key=lambda pair: (-found[pair], pair)):
            left, right = group.get(x, [x]), group.get(y, [y])
            if left is right or not all(self._one_work(a, b) for a in left for b in right):
                continue
            joined = left + right
            group.update(dict.fromkeys(joined, joined))
        return list({id(members): members for members in group.values()}.values())

    def _mutual(self) -> dict[tuple[int, int], float]:
        """Mutual nearest neighbours of any two partners that may be one work, with their cosine."""
        found: dict[tuple[int, int], float] = {}
        for own, other in combinations(self.rows, 2):
            # a work that both list under one key is settled; only what is left over looks for a counterpart
            left = own[~np.isin(own, other, assume_unique=True)]
            right = other[~np.isin(other, own, assume_unique=True)]
            if not len(left) or not len(right):
                continue
            similarity = self.vectors[left] @ self.vectors[right].T
            best, back = similarity.argmax(axis=1), similarity.argmax(axis=0)
            mutual = np.flatnonzero(back[best] == np.arange(len(left)))
            near = similarity[mutual, best[mutual]]
            for i, cosine in zip(mutual.tolist(), near.tolist(), strict=True):
                x, y = sorted((int(left[i]), int(right[best[i]])))
                if (x, y) not in found and cosine >= self._least(x, y) and _agree(self.texts[x], self.texts[y]):
                    found[x, y] = cosine
        return found

    def _one_work(self, x: int, y: int) -> bool:
        cosine = float(self.vectors[x] @ self.vectors[y])
        return cosine >= self._least(x, y) and _agree(self.texts[x], self.texts[y])

    def _least(self, x: int, y: int) -> float:
        return self.edition if self.texts[x][1] == self.texts[y][1] else self.translation


def _agree(left: tuple[str, str], right: tuple[str, str]) -> bool:
    """Whether the words of two texts (text, language) allow them to be one work; numbers must be the same."""
    if set(re.findall(r"\d+", left[0])) != set(re.findall(r"\d+", right[0])):
        return False
    one, other = _words(_without_brackets(left[0])), _words(_without_brackets(right[0]))
    if left[1] != right[1]:
        return any(len(word) >= 3 for word in set(one) & set(other))
    if set(one) <= set(other) or set(other) <= set(one):
        return True
    return SequenceMatcher(None, " ".join(one), " ".join(other)).ratio() >= SPELLED_ALIKE


SPELLED_ALIKE = 0.93
"""Share of characters in common (Ratcliff and Obershelp) above which two texts are spellings of one."""
