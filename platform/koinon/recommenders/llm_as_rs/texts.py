"""What a prompt says of an item. The text comes from whoever sells it, so it is taken as data, not as instructions.

Only the creator and the title are said, cleaned and cut; a description never enters a prompt. The creator comes first,
so that whatever is appended to a title comes after all that was there before.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import polars as pl

__all__ = ["clean", "listed", "said"]

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")


def clean(text: str, length: int) -> str:
    """One line of visible characters in their plain form (NFKC), cut after a word, at most ``length`` characters."""
    plain = unicodedata.normalize("NFKC", text)
    seen = "".join(" " if mark.isspace() else mark for mark in plain if mark.isspace() or not _hidden(mark))
    words = seen.split()
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word[:length]
        if len(longer) > length:
            break
        line = longer
    return line


def _hidden(mark: str) -> bool:
    return unicodedata.category(mark) in _UNSEEN


def said(items: pl.DataFrame, length: int) -> list[str]:
    """What stands for each item of a canonical table: ``creator: title``, or the title; ``?`` where nothing is left."""
    rows = items.select("creator", "title").iter_rows()
    both = ((clean(creator or "", length), clean(title or "", length)) for creator, title in rows)
    return [": ".join(part for part in pair if part) or "?" for pair in both]


def listed(opening: str, titles: Iterable[str]) -> str:
    """The opening and one line for each title."""
    return "\n".join([opening, *(f"- {title}" for title in titles)])
