"""Other words for the same items: paraphrases by rules and translations by a small dictionary.

Neither is what a good writer would do. They ask one thing: do a recommender's lists hang on how a text happens to be
put? Both are rules, so that everybody gets the same words, and no model has to be at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import polars as pl

from koinon.data import Domain

__all__ = ["CHANGES", "Reworded", "dictionary", "paraphrase", "reworded", "translate"]

LANGUAGES = ("en", "de", "fr", "es")
_WORD = re.compile(r"[^\W\d_]+")
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_ARTICLE = re.compile(r"^(the|a|an|der|die|das|ein|eine|le|la|les|l'|un|une|el|los|las|una)\s+(.+)$", re.IGNORECASE)
_MOVED = re.compile(r"^(.+),\s+(the|a|an|der|die|das|le|la|les|l'|el|los|las)$", re.IGNORECASE)
_SHORT: Mapping[str, str] = {
    "&": "and", "and": "&", "vol": "volume", "volume": "vol.", "mr": "mister", "mrs": "missis", "dr": "doctor",
    "st": "saint", "saint": "st.", "und": "&", "et": "&", "y": "&", "book": "bk.", "part": "pt.", "ii": "2",
    "iii": "3", "iv": "4", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "pack": "set", "set": "pack",
    "inch": "in.", "inches": "in.", "ounce": "oz.", "black": "in black", "white": "in white",
}  # fmt: skip
_GENRE: Mapping[str, str] = {
    "comedy": "humour", "drama": "dramatic story", "thriller": "suspense", "romance": "love story", "horror": "scary",
    "sci-fi": "science fiction", "children's": "for children", "animation": "animated", "war": "warfare",
    "action": "adventure and fights", "adventure": "exploits", "crime": "criminals", "mystery": "whodunit",
    "musical": "with songs", "western": "cowboys", "fantasy": "magic", "documentary": "factual film",
    "film-noir": "noir",
}  # fmt: skip


@dataclass(frozen=True)
class Reworded:
    """A domain with other words, and how far they are other.

    Attributes
    ----------
    domain
        The same items and events.
    changed
        Share of items whose text differs.
    words
        Share of the words that were looked up and replaced.
    """

    domain: Domain
    changed: float
    words: float


def paraphrase(title: str) -> tuple[str, int, int]:
    """Put a title otherwise: article moved, year first, short forms and numbers the other way round, case levelled.

    Returns the text, words replaced and words in all.
    """
    year = _YEAR.search(title)
    core = _YEAR.sub("", title).strip()
    moved = _MOVED.match(core)
    if moved:
        core = f"{moved[2]} {moved[1]}"
    elif led := _ARTICLE.match(core):
        core = f"{led[2]}, {led[1]}"
    tokens = core.split()
    out = [_other(token) for token in tokens]
    changed = sum(a != b for a, b in zip(tokens, out, strict=True))
    said = " ".join(out).lower()
    return (f"{year[1]}: {said}" if year else said), changed, len(tokens)


def translate(text: str, source: str, target: str) -> tuple[str, int, int]:
    """Replace every word that the dictionary knows, word by word, as it stands; names and the rest stay.

    Returns the text, words replaced and words in all.
    """
    words = dictionary(source, target)
    replaced = total = 0

    def swap(found: re.Match[str]) -> str:
        nonlocal replaced, total
        total += 1
        word = found[0]
        other = words.get(word.lower())
        if other is None:
            return word
        replaced += 1
        return other[:1].upper() + other[1:] if word[:1].isupper() else other

    return _WORD.sub(swap, text), replaced, total


@cache
def dictionary(source: str, target: str) -> dict[str, str]:
    """Words of one language to another, of the packaged list (``words.tsv``); lower case."""
    rows = files("koinon.studies.paradigms").joinpath("words.tsv").read_text(encoding="utf-8").splitlines()
    first, last = LANGUAGES.index(source), LANGUAGES.index(target)
    found: dict[str, str] = {}
    for row in rows:
        forms = [cell.split("|") for cell in row.split("\t")]
        for form in forms[first]:
            found.setdefault(form, forms[last][0])
    return found


def reworded(domain: Domain, change: str) -> Reworded:
    """Return the domain with every item's texts paraphrased or translated.

    English (and what is in no language of the dictionary) becomes German, German, French and Spanish become English.
    """
    items = domain.items
    replaced = total = 0
    columns: dict[str, list[str | None]] = {name: [] for name in ("title", "description", "text")}
    for row in items.select("title", "creator", "description", "text", "language").iter_rows(named=True):
        said: dict[str, str | None] = {}
        for name in ("title", "description"):
            if row[name] is None:
                said[name] = None
                continue
            said[name], swapped, all_words = CHANGES[change](row[name], row["language"])
            replaced, total = replaced + swapped, total + all_words
        columns["title"].append(said["title"])
        columns["description"].append(said["description"])
        columns["text"].append(_text(row, said, change))
    other = items.with_columns(*(pl.Series(name, values, dtype=pl.String) for name, values in columns.items()))
    changed = float((other["text"] != items["text"]).to_numpy().mean())
    return Reworded(replace(domain, items=other), changed, replaced / max(total, 1))


def _text(row: Mapping[str, str | None], said: Mapping[str, str | None], change: str) -> str:
    """What the encoder reads, with the title and the description in it exchanged."""
    text, title = row["text"] or "", row["title"] or ""
    head, found, tail = text.partition(title) if title else ("", "", text)
    if row["description"] and row["description"] in tail:
        tail = tail.replace(row["description"], said["description"] or "")
    elif change == "translated":
        creator = row["creator"] or "\0"
        tail = creator.join(CHANGES[change](part, row["language"])[0] for part in tail.split(creator))
    elif change == "paraphrased":
        tail = re.sub(r"[\w'-]+", lambda word: _GENRE.get(word[0].lower(), word[0]), tail)
    return f"{head}{said['title'] if found else ''}{tail}".strip() or text


def _other(token: str) -> str:
    return _SHORT.get(token.lower().rstrip(".,:"), token)


def _into(text: str, language: str | None) -> tuple[str, int, int]:
    source = language if language in LANGUAGES else "en"
    return translate(text, source, "de" if source == "en" else "en")


CHANGES: Mapping[str, Callable[[str, str | None], tuple[str, int, int]]] = {
    "paraphrased": lambda text, language: paraphrase(text),
    "translated": _into,
}
"""What may be done to texts, by name."""
