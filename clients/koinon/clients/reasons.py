"""Why an item is on a list: only what the score rests on, said with titles the person already knows."""

from __future__ import annotations

from collections.abc import Sequence

from koinon.clients.words import Words
from koinon.data import Domain
from koinon.explain import explain
from koinon.recommenders.protocol import Recommender, Request

__all__ = ["Reasons"]

_NEAR = 0.45
"""A text further away than this cosine explains nothing."""
_NEAR_WISH = 0.25
"""The same for a wish, which is another kind of sentence than a title."""
_SHARE = 0.25
"""A history item is named when it carries at least this share of what the leading one carries."""


class Reasons:
    """Grounded reasons for one request's list.

    Parameters
    ----------
    domain
        The catalogue.
    recommender
        What scored it; see :func:`koinon.explain.explain` for what it can say of history items.
    words
        ``None`` where there is no space.
    """

    def __init__(self, domain: Domain, recommender: Recommender, words: Words | None) -> None:
        self.domain = domain
        self.recommender = recommender
        self.words = words
        self.titles: list[str] = domain.items["title"].to_list()
        self.creators: list[str | None] = domain.items["creator"].to_list()

    def of(
        self, request: Request, items: Sequence[int], texts: Sequence[str], query: str | None
    ) -> list[tuple[str, ...]]:
        """Return each item's reasons, the strongest first; at least one.

        Parameters
        ----------
        request
            The history as it was scored.
        items
            Listed items.
        texts
            Liked and carried texts.
        query
            The wish.
        """
        near = self._near(items, texts)
        wished = None if self.words is None or not query else self.words.similarity([query])[0][list(items)]
        found = []
        for place, item in enumerate(items):
            reasons = []
            if wished is not None and wished[place] >= _NEAR_WISH:
                reasons.append(f"near the wish in meaning ({wished[place]:.2f})")
            reasons += self._from_history(request, item) + near[place]
            found.append(tuple(reasons) or (self._popular(item),))
        return found

    def _from_history(self, request: Request, item: int) -> list[str]:
        """What carries the recommender's own score: up to two history items by title, or popularity."""
        if not len(request.history):
            return []
        speaking = explain(self.recommender, request, item, domain=self.domain, limit=3)
        least = speaking[0].value * _SHARE if speaking else 0.0
        causes = [reason.text for reason in speaking if reason.kind == "history" and reason.value >= least][:2]
        if causes:
            return [f"goes with {_quoted(list(dict.fromkeys(causes)))}"]
        near = [reason for reason in speaking if reason.kind == "near" and reason.value >= _NEAR][:1]
        if near:
            return [f"close in meaning to {_quoted([near[0].text])} ({near[0].value:.2f})"]
        return []

    def _near(self, items: Sequence[int], texts: Sequence[str]) -> list[list[str]]:
        if not texts or self.words is None:
            return [[] for _ in items]
        similar = self.words.similarity(texts)[:, list(items)]
        found: list[list[str]] = []
        for place, item in enumerate(items):
            reasons = []
            creator = self.creators[item]
            naming = [text for text in texts if creator and self.words.names(text, item)]
            if naming:
                reasons.append(f"by {creator}, as is {_quoted(naming[:1])}")
            nearest = int(similar[:, place].argmax())
            if similar[nearest, place] >= _NEAR and texts[nearest] not in naming[:1]:
                reasons.append(f"close in meaning to {_quoted([texts[nearest]])} ({similar[nearest, place]:.2f})")
            found.append(reasons)
        return found

    def _popular(self, item: int) -> str:
        """Said in shares, never in counts: a count of one would be somebody's."""
        above = int((self.domain.item_counts > self.domain.item_counts[item]).sum())
        share = (above + 1) / max(self.domain.n_items, 1)
        for part in (0.01, 0.05, 0.1, 0.25, 0.5):
            if share <= part:
                return f"among the {part:.0%} of the catalogue taken most here"
        return "little is known yet: the best guess from its text"


def _quoted(titles: Sequence[str]) -> str:
    return " and ".join(f"“{title.strip().rstrip('.')}”" for title in titles)
