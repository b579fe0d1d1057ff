"""When a written text is of no use, by rules that can be read: empty, noise, a loop, an echo, another language.

The rules tell texts that cannot be meant; whether what a text says is true they do not tell.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Literal

__all__ = ["Fault", "fault_of", "language_of"]

Fault = Literal["empty", "no words", "loops", "repeats the prompt", "another script", "another language"]

LETTERS = 12
"""Fewer letters are no text."""
OF_LETTERS = 0.7
"""Of its characters, such a share must be letters, marks over letters, or spaces between them."""
LOOPED = 0.5
"""Of its sequences of three words, such a share may have stood there before; and no word five times running."""
ECHOED = 0.6
"""Of its sequences of four words, such a share may stand in the prompt."""
OF_SCRIPT = 0.8
"""Of its letters, such a share must be of the language's script."""

_SCRIPTS: dict[str, tuple[str, ...]] = {
    code: tuple(scripts.split())
    for codes, scripts in {
        "en de fr es it pt nl sv da no fi pl cs hu ro tr": "LATIN",
        "ru uk bg sr": "CYRILLIC",
        "zh": "CJK",
        "ja": "CJK HIRAGANA KATAKANA KATAKANA-HIRAGANA",
        "ko": "HANGUL CJK",
        "ar": "ARABIC",
        "el": "GREEK",
        "he": "HEBREW",
        "th": "THAI",
        "hi": "DEVANAGARI",
    }.items()
    for code in codes.split()
}
"""As Unicode names them."""

_COMMON: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the of and to is was that with for are this it by as from an or who in about they",
        "de": "der die das und ist ein eine mit für den von zu nicht auch im auf sich dem des wird",
        "fr": "le les des et est une un dans pour qui que du avec sur par pas au plus ce cette",
        "es": "el los las y es una un con para que del por en se su como más al lo esta",
    }.items()
}


def fault_of(text: str, prompt: str, language: str | None = None) -> Fault | None:
    """Return the first rule that a text breaks, or ``None``.

    Parameters
    ----------
    text, prompt
        What was written, and what it was asked for with.
    language
        ISO 639-1 of the language asked for; ``None``: any. The script is checked for the common ones, the language
        itself where it can be told by its smallest words (en, de, fr, es).
    """
    if sum(mark.isalpha() for mark in text) < LETTERS:
        return "empty"
    if sum(mark.isalpha() or mark == " " or unicodedata.category(mark)[0] == "M" for mark in text) < OF_LETTERS * len(
        text
    ):
        return "no words"
    words = _words(text)
    if _loops(words):
        return "loops"
    if _share_within(words, _words(prompt)) > ECHOED:
        return "repeats the prompt"
    if language in _SCRIPTS and _of_script(text, _SCRIPTS[language]) < OF_SCRIPT:
        return "another script"
    found = language_of(text)
    if language in _COMMON and found is not None and found != language:
        return "another language"
    return None


def language_of(text: str) -> str | None:
    """Which of en, de, fr, es a text is in, by its smallest words; ``None`` where that does not show."""
    words = Counter(_words(text))
    counts = {code: sum(words[word] for word in common) for code, common in _COMMON.items()}
    best, second = sorted(counts.values(), reverse=True)[:2]
    return max(counts, key=lambda code: counts[code]) if best - second >= max(2, best / 2) else None


def _words(text: str) -> list[str]:
    """Casefolded words; a script without spaces is taken sign by sign."""
    words = re.findall(r"\w+", text.casefold())
    spaceless = words and sum(map(len, words)) / len(words) > 20
    return [mark for mark in text if mark.isalnum()] if spaceless else words


def _loops(words: list[str]) -> bool:
    if any(len(set(words[at : at + 5])) == 1 for at in range(len(words) - 4)):
        return True
    spans = list(zip(words, words[1:], words[2:], strict=False))
    return len(spans) >= 6 and 1 - len(set(spans)) / len(spans) > LOOPED


def _share_within(words: list[str], others: list[str]) -> float:
    spans = list(zip(words, words[1:], words[2:], words[3:], strict=False))
    there = set(zip(others, others[1:], others[2:], others[3:], strict=False))
    return sum(span in there for span in spans) / len(spans) if spans else 0.0


def _of_script(text: str, scripts: tuple[str, ...]) -> float:
    letters = [unicodedata.name(mark, "?").split()[0] for mark in text if mark.isalpha()]
    return sum(script in scripts for script in letters) / max(1, len(letters))
