"""One language of the report: its texts by key, its way of writing numbers, and what results say in English."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

__all__ = ["LANGUAGES", "ReportLanguage", "Words", "words_in"]

ReportLanguage = Literal["en", "de"]
LANGUAGES: tuple[ReportLanguage, ...] = get_args(ReportLanguage)

_DASH, _MINUS, _NARROW = "\u2013", "\u2212", "\u202f"
_PLACES = {"n": r"\d+", "low": r"\d+", "high": r"\d+"}
"""What may stand in some places of a sentence; in others anything."""


class Words:
    """Texts and figures of one language.

    Parameters
    ----------
    language
        One of :data:`LANGUAGES`.
    """

    def __init__(self, language: ReportLanguage) -> None:
        self.language = language
        self.texts = dict(_flat(_read(language)))
        self._decimal, self._thousands = self.texts["number.decimal"], self.texts["number.thousands"]

    def __call__(self, key: str, **parts: object) -> str:
        """Return a text by its key, with its places filled (raises ``KeyError`` for a key that is not there)."""
        text = self.texts[key]
        return text.format(**parts) if parts else text

    def number(self, value: float | None, digits: int = 3) -> str:
        """Write a figure with a true minus, or a dash where there is none."""
        if value is None:
            return _DASH
        said = f"{value:.{digits}f}"
        said = said if float(said) else f"{0:.{digits}f}"
        return said.replace("-", _MINUS).replace(".", self._decimal)

    def percent(self, value: float | None, digits: int = 1) -> str:
        """Write a share in per cent."""
        return _DASH if value is None else self.number(value * 100, digits) + f"{_NARROW}%"

    def count(self, value: int) -> str:
        """Write a whole number."""
        return f"{value:,}".replace(",", self._thousands)

    def p(self, value: float | None) -> str:
        """Write a p-value."""
        if value is None:
            return _DASH
        return f"< {self.number(0.001)}" if value < 0.001 else self.number(value)

    def span(self, lo: float | None, hi: float | None, digits: int = 3) -> str:
        """Write an interval, or a dash."""
        if lo is None or hi is None:
            return _DASH
        return self("number.span", lo=self.number(lo, digits), hi=self.number(hi, digits))

    def percent_span(self, lo: float | None, hi: float | None) -> str:
        """Write an interval of a share, or nothing."""
        return "" if lo is None or hi is None else self("number.span", lo=self.percent(lo), hi=self.percent(hi))

    def said(self, kind: str, text: str) -> str:
        """Say in this language what the results say in English; what is no sentence of theirs stays as it is.

        Parameters
        ----------
        kind
            Which sentences may be meant, a table under ``said``: a group that somebody has named like a class of
            items is not translated.
        text
            What the results say; parts joined by " × " or "; " are looked up one by one.
        """
        if self.language == "en" or not text:
            return text
        for joint in ("; ", " × "):
            if joint in text:
                return joint.join(self.said(kind, part) for part in text.split(joint))
        for key, pattern in _patterns(kind):
            if found := pattern.fullmatch(text):
                return self(key, **found.groupdict())
        return text


@cache
def words_in(language: ReportLanguage) -> Words:
    """Return a language's words, read once."""
    return Words(language)


@cache
def _patterns(kind: str) -> list[tuple[str, re.Pattern[str]]]:
    """What results may say, as patterns with named places; the longest first."""
    said = {key: text for key, text in words_in("en").texts.items() if key.startswith(f"said.{kind}.")}
    found = []
    for key, text in sorted(said.items(), key=lambda one: -len(one[1])):
        escaped = re.escape(text)
        pattern = re.sub(r"\\\{(\w+)\\\}", lambda place: f"(?P<{place[1]}>{_PLACES.get(place[1], '.+?')})", escaped)
        found.append((key, re.compile(pattern)))
    return found


def _read(language: str) -> Mapping[str, Any]:
    return tomllib.loads(files("koinon.fairness.words").joinpath(f"{language}.toml").read_text(encoding="utf-8"))


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, str(value)
