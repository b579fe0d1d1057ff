"""A few lists that a person can judge, answered by the partners' deployed models as ``koinon recommend`` answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from koinon.clients.serving import Answer, Ask, Shop
from koinon.data import Split
from koinon.studies.report import Sample, SampleItem

__all__ = ["TYPED", "sample_lists"]

_SHOWN = 5
_LIKED = ("Harry Potter und der Stein der Weisen", "Le Petit Prince", "The Hobbit")
_WISH = "ein düsterer Kriminalroman in Schottland"
_CARRIED = 6
TYPED = (*_LIKED, _WISH)
"""What the samples type; encoded with the items, so that a second run needs no encoder."""


def sample_lists(folders: Mapping[str, Path], splits: Mapping[str, Split], *, seed: int) -> list[Sample]:
    """Ask the shops: people they know, a stranger with three titles in three languages, words, a reader from abroad."""
    rng = np.random.default_rng(seed)
    shops = {name: Shop.open(folder) for name, folder in folders.items()}
    samples = [
        _known_person(shops[name], splits[name], heading, rng)
        for name, heading in (
            ("books-en-uk", "A reader in the United Kingdom"),
            ("books-de", "A reader of the German shop"),
            ("movies-drama", "A film lover"),
        )
        if name in shops
    ]
    if "books-de" in shops and "books-en-intl" in splits:
        samples.append(_from_abroad(shops["books-de"], splits["books-de"], splits["books-en-intl"], rng))
    if "books-es" in shops:
        answer = shops["books-es"].answer(Ask(liked=_LIKED, k=_SHOWN))
        note = "Nothing else is known of this person; the titles were typed in German, French and English."
        samples.append(_sample("A stranger at the Spanish shop, with three liked titles", answer, _LIKED, note=note))
    if "books-en-us" in shops:
        answer = shops["books-en-us"].answer(Ask(query=_WISH, k=_SHOWN))
        samples.append(_sample("A wish in German, at the English-language shop", answer, (), query=_WISH))
    return samples


def _known_person(shop: Shop, split: Split, heading: str, rng: np.random.Generator) -> Sample:
    """Somebody with four to eight items of history."""
    lengths = np.diff(split.test.history_indptr)
    rows = np.flatnonzero(split.test.main & (lengths >= 4) & (lengths <= 8))
    row = int(rng.choice(rows if len(rows) else np.flatnonzero(split.test.main)))
    user = int(split.test.user[row])
    answer = shop.answer(Ask(user=split.train.user_ids[user], k=_SHOWN))
    titles = split.train.items["title"].to_list()
    return _sample(heading, answer, tuple(titles[item] for item in shop.known.history(user)[-8:]))


def _from_abroad(shop: Shop, here: Split, there: Split, rng: np.random.Generator) -> Sample:
    """Somebody whom the other shop knows and this one does not."""
    lengths = np.diff(there.test.history_indptr)
    strangers = [
        int(row)
        for row in np.flatnonzero(there.test.main & (lengths >= 4) & (lengths <= 12))
        if there.train.user_ids[there.test.user[row]] not in here.train.user_index
    ]
    history = there.test.history(int(rng.choice(strangers)))[-_CARRIED:]
    items = there.train.items[history.tolist()]
    answer = shop.answer(Ask(carried=tuple(items["text"].to_list()), k=_SHOWN))
    note = "The German shop has no event of this person; what they read in English was brought by themself."
    return _sample("An English reader at the German shop", answer, tuple(items["title"].to_list()), note=note)


def _sample(
    heading: str, answer: Answer, known: tuple[str, ...], *, query: str | None = None, note: str = ""
) -> Sample:
    items = tuple(
        SampleItem(title=item.title, creator=item.creator or "", language=item.language, reasons=item.reasons)
        for item in answer.items
    )
    return Sample(heading=heading, partner=answer.partner, items=items, known=known, query=query, note=note)
