"""A wish in words, read: limits by rules, categories by name, by nearness or by likelihood, the rest a query."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.recommenders.conventional import encode_wishes
from koinon.recommenders.fusion.wishes.cues import CUES, CURRENCY, THINGS, Cues, language_asked, plain
from koinon.recommenders.fusion.wishes.facts import Constraint, Facts
from koinon.recommenders.fusion.wishes.likelihood import CategoryJudge
from koinon.space import Space

__all__ = ["Wish", "WishConfig", "WishReader"]

_BREAK = " ¦ "
_AMOUNT = rf"(?P<c1>{CURRENCY})?\s*(?P<n>\d+(?:[.,]\d{{1,2}})?)\s*(?P<c2>{CURRENCY})?"
_LONGEST = 3


class WishConfig(Config):
    """How a wish is read."""

    near: float = Field(default=0.5, ge=-1.0, le=1.0)
    """Least cosine at which words mean a category."""
    apart: float = Field(default=0.08, ge=0.0, le=2.0)
    """By so much it must be nearer than the next category."""
    gain: float = Field(default=2.0, ge=0.0)
    """With a language model: how much likelier (nats) a category must become by the wish, to be meant."""
    candidates: int = Field(default=8, ge=2, le=50)
    """With a language model: categories asked about, the nearest first."""
    cheap: float = Field(default=1 / 3, gt=0.0, lt=1.0)
    """Share of the catalogue that counts as cheap."""
    least_items: int = Field(default=1, ge=1)
    """A limit that leaves fewer items is left out, and the answer says so."""


@dataclass(frozen=True)
class Wish:
    """What was understood.

    Attributes
    ----------
    typed
        The wish.
    language
        Of the wish: ``en``, ``de``, ``fr`` or ``es``.
    constraints
        In the order in which they are applied.
    text
        What the query vector is made of: the wish without prices, years, languages and what is not wanted.
    unwanted
        Words for what is not wanted that name nothing in the catalogue; what is near them loses.
    """

    typed: str
    language: str
    constraints: tuple[Constraint, ...]
    text: str
    unwanted: tuple[str, ...] = ()


class WishReader:
    """Reads wishes about one catalogue.

    Works without a space (by rules and names alone) and without a language model.

    Parameters
    ----------
    domain
        The catalogue.
    space
        Finds categories by meaning; what is typed is written to no cache.
    config
        Settings.
    judge
        A language model's likelihoods choose categories where no name does, instead of nearness alone.
    """

    def __init__(
        self, domain: Domain, space: Space | None, config: WishConfig | None = None, judge: CategoryJudge | None = None
    ) -> None:
        self.facts = Facts(domain)
        self.space, self.config, self.judge = space, config or WishConfig(), judge

    def read_answered(self, typed: str, answer: str | None) -> Wish:
        """Understand a wish, and the answer to a question that was asked about it."""
        wish = self.read(typed)
        if not answer:
            return wish
        more = self.read(answer)
        known = {(one.kind, one.value) for one in wish.constraints}
        added = tuple(one for one in more.constraints if (one.kind, one.value) not in known)
        return replace(wish, constraints=(*wish.constraints, *added), text=f"{wish.text} {more.text}".strip())

    def read(self, typed: str) -> Wish:
        """Understand a wish; never fails on any text."""
        language = language_asked(typed)
        cues = CUES[language]
        left = " ".join(typed.replace("’", "'").split())
        found: list[Constraint] = []
        for rule in (self._between, self._speech, self._decades, self._limits, self._cheap):
            left, more = rule(left, cues)
            found += more
        left, unwanted = self._without(left, cues)
        found += [one for one in unwanted if isinstance(one, Constraint)]
        soft = tuple(one for one in unwanted if isinstance(one, str))
        excluded = {one.value for one in found if one.kind == "category" and not one.wanted}
        found += [one for one in self._categories(left) if one.value not in excluded]
        text = " ".join(left.replace("¦", " ").split())
        rest = text if "¦" in left and any(mark.isalpha() for mark in text) else typed
        return Wish(typed, language, tuple(found), rest, soft)

    def _between(self, text: str, cues: Cues) -> tuple[str, list[Constraint]]:
        def one(match: re.Match[str]) -> Constraint | None:
            low, high = sorted((_number(match["a"]), _number(match["b"])))
            return self._range(match[0], low, high, money=bool(re.search(CURRENCY, match[0], re.I)))

        return _taken(rf"\b{cues.between}\s*{CURRENCY}?", text, one)

    def _decades(self, text: str, cues: Cues) -> tuple[str, list[Constraint]]:
        if np.isnan(self.facts.years).all():
            return text, []

        def one(match: re.Match[str]) -> Constraint | None:
            start = int(match["d"])
            if start < 100:
                start += 1900 if start >= 30 else 2000
            return Constraint(kind="year", least=start, most=start + 9, said=match[0].strip())

        return _taken(rf"(?<!\w){cues.decade}(?!\w)", text, one)

    def _limits(self, text: str, cues: Cues) -> tuple[str, list[Constraint]]:
        """Upper and lower bounds; a bare number that can be a year is one."""
        upper, lower = f"{cues.most}|{cues.before}", f"{cues.least}|{cues.after}"

        def one(match: re.Match[str]) -> Constraint | None:
            number, money = _number(match["n"]), bool(match["c1"] or match["c2"])
            if match["upper"]:
                strict = re.fullmatch(cues.before, match["upper"], re.I) and _is_year(number)
                return self._range(match[0], None, number - bool(strict), money=money)
            strict = match["lower"].casefold() in (
                "after",
                "nach",
                "après",
                "después de",
            )
            return self._range(match[0], number + bool(strict and _is_year(number)), None, money=money)

        text, found = _taken(rf"\b(?:(?P<upper>{upper})|(?P<lower>{lower}))\s+{_AMOUNT}", text, one)

        def year(match: re.Match[str]) -> Constraint | None:
            number = float(match["y"])
            return self._range(match[0], number, number, money=False)

        text, more = _taken(r"(?<![\w.,(])(?:from |aus |von |de |del )?(?P<y>(?:1[89]|20)\d\d)(?![\w])", text, year)
        return text, found + more

    def _range(self, said: str, low: float | None, high: float | None, *, money: bool) -> Constraint | None:
        """A price or a year, whichever the numbers can be and the catalogue has."""
        numbers = [number for number in (low, high) if number is not None]
        years = not money and all(_is_year(number) for number in numbers) and not np.isnan(self.facts.years).all()
        if not years and np.isnan(self.facts.prices).all():
            return None
        return Constraint(kind="year" if years else "price", least=low, most=high, said=said.strip(" ¦"))

    def _cheap(self, text: str, cues: Cues) -> tuple[str, list[Constraint]]:
        prices = self.facts.prices[~np.isnan(self.facts.prices)]
        if not len(prices):
            return text, []
        most = float(np.quantile(prices, self.config.cheap))
        return _taken(rf"\b(?:{cues.cheap})\b", text, lambda m: Constraint(kind="price", most=most, said=m[0]))

    def _speech(self, text: str, cues: Cues) -> tuple[str, list[Constraint]]:
        """``in German``, ``not in English``; only languages that the catalogue has."""
        there = set(self.facts.languages.tolist())
        names = "|".join(sorted(cues.names, key=len, reverse=True))

        def one(match: re.Match[str]) -> Constraint | None:
            code = cues.names[match["name"].casefold()]
            if code not in there:
                return None
            return Constraint(kind="language", wanted=not match["no"], value=code, said=match[0].strip())

        pattern = rf"\b(?P<no>(?:{cues.without})\s+)?(?:{cues.speech})\s+(?P<name>{names})\b"
        return _taken(pattern, text, one)

    def _without(self, text: str, cues: Cues) -> tuple[str, list[Constraint | str]]:
        found: list[Constraint | str] = []

        def each(match: re.Match[str]) -> None:
            for piece in re.split(cues.joined, match["what"].casefold()):
                words = [word for word in re.findall(r"[\w'-]+", piece) if word not in cues.common]
                if set(words) - THINGS:
                    found.append(self._unwanted(" ".join(words[:_LONGEST])))

        pattern = rf"\b(?:{cues.without})\s+(?P<what>[^¦.;:!?]+?)(?=$|[¦.;:!?]|,?\s+(?:{cues.ends})\b)"
        for match in re.finditer(pattern, text, re.I):
            each(match)
        return re.sub(pattern, _BREAK, text, flags=re.I), found

    def _unwanted(self, phrase: str) -> Constraint | str:
        """A category, a creator or a word of the catalogue; else the phrase itself."""
        meant = self._meant(phrase)
        if meant is not None:
            return meant.model_copy(update={"wanted": False, "said": phrase})
        creator = self.facts.creators.get(plain(phrase.removeprefix("by ")))
        if creator is not None:
            return Constraint(kind="creator", wanted=False, value=creator, said=phrase, how="name")
        word = Constraint(kind="word", wanted=False, value=phrase, said=phrase, how="name")
        return phrase if self.facts.holds(word).all() else word

    def _categories(self, text: str) -> list[Constraint]:
        """Categories that are wanted: by name, then by meaning; with a model by likelihood where there is no name."""
        if not self.facts.names:
            return []
        named: list[Constraint] = []
        near: list[tuple[float, Constraint]] = []
        for words in _runs(text):
            place = 0
            while place < len(words):
                phrase = next(
                    (
                        " ".join(words[place : place + length])
                        for length in range(min(_LONGEST, len(words) - place), 0, -1)
                        if plain(" ".join(words[place : place + length])) in self.facts.by_name
                    ),
                    None,
                )
                if phrase is not None:
                    name = self.facts.by_name[plain(phrase)]
                    named.append(Constraint(kind="category", value=name, said=phrase, how="name"))
                    place += len(phrase.split())
                    continue
                place += 1
            near += self._near(words)
        if named:
            return _once(named)
        if self.judge is not None:
            return self._judged(text)
        return _once([one for _, one in sorted(near, key=lambda pair: -pair[0])][:1])

    def _near(self, words: Sequence[str]) -> list[tuple[float, Constraint]]:
        """Categories that some words of a run mean, with their cosines."""
        if self.space is None or not words or not self.facts.names:
            return []
        phrases = [" ".join(words[a : a + n]) for n in (2, 1) for a in range(len(words) - n + 1)]
        return [
            (cosine, Constraint(kind="category", value=name, said=phrase, how="meaning"))
            for phrase, (name, cosine, ahead) in zip(phrases, self._nearest(phrases), strict=True)
            if cosine >= self.config.near and ahead >= self.config.apart
        ]

    def _meant(self, phrase: str) -> Constraint | None:
        """The one category that a phrase names or means."""
        shorter = " ".join(words[0]) if (words := _runs(phrase)) else phrase
        for said in (phrase, shorter):
            if (name := self.facts.by_name.get(plain(said))) is not None:
                return Constraint(kind="category", value=name, said=phrase, how="name")
        found = [one for run in _runs(phrase) for one in self._near(run)]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def _nearest(self, phrases: Sequence[str]) -> list[tuple[str, float, float]]:
        """Nearest category of each phrase, its cosine, and by how much it is nearer than the next."""
        cosines = self._typed(phrases) @ self._name_vectors.T
        order = np.argsort(-cosines, axis=1)
        rows = np.arange(len(phrases))
        best = cosines[rows, order[:, 0]]
        second = cosines[rows, order[:, 1]] if cosines.shape[1] > 1 else np.full(len(phrases), -1.0)
        return [
            (self.facts.names[place], float(cosine), float(ahead))
            for place, cosine, ahead in zip(order[:, 0], best, best - second, strict=True)
        ]

    def _judged(self, text: str) -> list[Constraint]:
        """The category that a wish makes likelier than all others, if by enough."""
        assert self.judge is not None
        names = self.facts.names
        if self.space is not None and len(names) > self.config.candidates:
            cosines = (self._typed([text]) @ self._name_vectors.T)[0]
            names = [names[place] for place in np.argsort(-cosines)[: self.config.candidates]]
        gains = self.judge.gains(" ".join(text.replace("¦", " ").split()), names)
        best = int(np.argmax(gains))
        if gains[best] < self.config.gain:
            return []
        return [Constraint(kind="category", value=names[best], said=text.strip(" ¦"), how="model")]

    @cached_property
    def _name_vectors(self) -> NDArray[np.float32]:
        assert self.space is not None
        return np.asarray(self.space.encode(self.facts.names), dtype=np.float32)

    def _typed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        assert self.space is not None
        return np.asarray(encode_wishes(self.space, texts), dtype=np.float32)


def _taken(
    pattern: str, text: str, build: Callable[[re.Match[str]], Constraint | None]
) -> tuple[str, list[Constraint]]:
    """Take out of a text what a rule reads; what it makes nothing of stays."""
    found: list[Constraint] = []

    def replace(match: re.Match[str]) -> str:
        one = build(match)
        if one is None:
            return match[0]
        found.append(one)
        return _BREAK

    return re.sub(pattern, replace, text, flags=re.I), found


def _runs(text: str) -> list[list[str]]:
    """Runs of words that may mean something: common words and words for things end a run."""
    runs: list[list[str]] = [[]]
    for word in re.findall(r"[\w'-]+|¦|[,.;:!?]", text.casefold()):
        bare = _without_thing(word)
        if not bare or not any(mark.isalpha() for mark in bare) or any(bare in cues.common for cues in CUES.values()):
            runs.append([])
        else:
            runs[-1].append(bare)
    return [run for run in runs if run]


def _without_thing(word: str) -> str:
    """``kriegsfilm`` is read as ``kriegs``, ``film`` as nothing."""
    if word in THINGS:
        return ""
    for thing in ("filme", "film", "romane", "roman", "bücher", "buch"):
        if word.endswith(thing) and len(word) > len(thing) + 2:
            return word.removesuffix(thing).rstrip("-")
    return word


def _once(constraints: Sequence[Constraint]) -> list[Constraint]:
    return list({(one.kind, one.value): one for one in reversed(constraints)}.values())[::-1]


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _is_year(number: float) -> bool:
    return number == int(number) and 1850 <= number <= 2100
