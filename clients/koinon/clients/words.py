"""What words say about items: titles typed, a history carried over from elsewhere, and a wish.

Texts alone rank worse than they could, and often worse than plain popularity; how much of it helps was measured on
validation data (NDCG@10, books in German / French / Spanish):

- *liked*: three titles of a reader's own history, typed as if the shop did not carry them. Cosine .023/.044/.030,
  popularity .011/.019/.029; cosine + 0.2 · popularity + 0.2 · log(1 + texts that name the creator) .033/.060/.038
  (0.5 gives as much on average, and lists that answer less to what was typed).
- *carried*: a reader's English history, no history here. Cosine .009/.014/.014, popularity .037/.045/.029; with
  2 · popularity and the same share of creators .037/.049/.033. The weights were chosen on one half of the readers and
  held on the other: .033/.053/.035 against popularity's .032/.050/.029.
- Where the shop knows a history of its own, that leads, scaled to 1, and 0.2 of what the words say is added:
  .039/.069/.056 become .040/.070/.057.

For wishes there is no such data: there the words lead, and popularity only breaks near-ties.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.recommenders.conventional import popularity_prior
from koinon.space import CachedSpace, Space

__all__ = ["WordWeights", "Words", "encode_typed", "scaled"]

Scores = NDArray[np.float32]


class WordWeights(Config):
    """How words, popularity and known history are weighed against each other."""

    liked_popularity: float = Field(default=0.2, ge=0.0)
    """Of the popularity prior (0 to 1), in cosine, where typed titles are the best evidence there is."""
    carried_popularity: float = Field(default=2.0, ge=0.0)
    """The same where a carried history is."""
    wish_popularity: float = Field(default=0.05, ge=0.0)
    """The same where there is a wish and nothing else."""
    creator: float = Field(default=0.2, ge=0.0)
    """Of ``log(1 + texts that name the item's creator)``, in cosine."""
    beside: float = Field(default=0.2, ge=0.0)
    """Of lesser evidence, scaled to 1, beside better evidence, scaled to 1."""
    wish_history: float = Field(default=0.1, ge=0.0)
    """Of everything else, scaled to 1, beside a wish."""


class Words:
    """Scores one catalogue by words.

    Parameters
    ----------
    domain
        The catalogue and its training events.
    space
        Where texts become vectors.
    """

    def __init__(self, domain: Domain, space: Space, weights: WordWeights | None = None) -> None:
        self.domain = domain
        self.space = space
        self.weights = weights or WordWeights()

    @cached_property
    def vectors(self) -> Scores:
        """``float32[items, d]``: the catalogue in the space."""
        return self.space.encode(self.domain.texts)

    @cached_property
    def popularity(self) -> Scores:
        """``float32[items]``, 0 to 1."""
        return popularity_prior(self.domain)

    def combine(
        self, evidence: Scores | None, liked: Sequence[str], carried: Sequence[str], query: str | None
    ) -> Scores:
        """Return ``float32[items]``: the best evidence there is leads, the lesser is added, a wish goes before all.

        Parameters
        ----------
        evidence
            ``float32[items]``: the recommender's scores for the history alone; ``None`` where there is no history.
        liked
            Titles liked that are not in the catalogue.
        carried
            Item texts of a history elsewhere.
        query
            A wish in words.
        """
        weights = self.weights
        scores = None if evidence is None else scaled(evidence)
        for texts, share in ((liked, weights.liked_popularity), (carried, weights.carried_popularity)):
            if not texts:
                continue
            said = self.likeness(texts) + np.float32(weights.creator) * np.log1p(self.named_creators(texts))
            scores = (
                scaled(said + share * self.popularity) if scores is None else scores + weights.beside * scaled(said)
            )
        if query:
            beside = (
                weights.wish_popularity * self.popularity if scores is None else weights.wish_history * scaled(scores)
            )
            scores = self.similarity([query])[0] + beside
        return np.asarray(self.popularity if scores is None else scores, dtype=np.float32)

    def likeness(self, texts: Sequence[str]) -> Scores:
        """``float32[items]``: cosine to the mean of the texts' vectors."""
        mean = encode_typed(self.space, texts).mean(axis=0)
        return np.asarray(self.vectors @ (mean / max(float(np.linalg.norm(mean)), 1e-9)), dtype=np.float32)

    def similarity(self, texts: Sequence[str]) -> Scores:
        """``float32[texts, items]``: cosines."""
        return np.asarray(encode_typed(self.space, texts) @ self.vectors.T, dtype=np.float32)

    def named_creators(self, texts: Sequence[str]) -> Scores:
        """``float32[items]``: how many of the texts name each item's creator (a name of two words or more)."""
        counts = np.zeros(self.domain.n_items, dtype=np.float32)
        longest = max((len(name.split()) for name in self._by_creator), default=0)
        named: Counter[str] = Counter()
        for text in texts:
            words = _plain(text).split()
            grams = {" ".join(words[i : i + n]) for n in range(2, longest + 1) for i in range(len(words) - n + 1)}
            named.update(grams & self._by_creator.keys())
        for name, count in named.items():
            counts[self._by_creator[name]] += count
        return counts

    def names(self, text: str, item: int) -> bool:
        """Whether a text names the item's creator."""
        name = _plain(self.domain.items["creator"][item] or "")
        return item in self._by_creator.get(name, ()) and f" {name} " in f" {_plain(text)} "

    @cached_property
    def _by_creator(self) -> dict[str, list[int]]:
        items: dict[str, list[int]] = {}
        for item, creator in enumerate(self.domain.items["creator"].to_list()):
            name = _plain(creator or "")
            if 2 <= len(name.split()) <= 5:
                items.setdefault(name, []).append(item)
        return items


def encode_typed(space: Space, texts: Sequence[str]) -> Scores:
    """``float32[texts, d]`` of what a person typed or carried: no cache on disk remembers it."""
    typed = list(texts)
    return space.encode(typed, remember=False) if isinstance(space, CachedSpace) else space.encode(typed)


def scaled(scores: NDArray[np.floating]) -> Scores:
    """Divide by the greatest absolute score, so that it becomes 1."""
    return np.asarray(scores / max(float(np.abs(scores).max(initial=0.0)), 1e-9), dtype=np.float32)


def _plain(text: str) -> str:
    """Casefolded words without accents and punctuation, joined by single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", bare))
