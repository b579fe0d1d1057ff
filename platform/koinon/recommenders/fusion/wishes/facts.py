"""What a catalogue can be limited by, and the limits themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config
from koinon.data import Domain
from koinon.recommenders.fusion.wishes.cues import plain

__all__ = ["Constraint", "Facts"]

Mask = NDArray[np.bool_]
_YEAR = re.compile(r"\(((?:1[89]|20)\d\d)\)")


class Constraint(Config):
    """One limit that a wish states."""

    kind: Literal["category", "price", "language", "year", "creator", "word"]
    wanted: bool = True
    """Whether it has to hold, or must not."""
    value: str | None = None
    """Category, language (ISO 639-1), creator or word."""
    least: float | None = None
    most: float | None = None
    """Of a price or a year, both included."""
    said: str
    """The words that say it."""
    how: Literal["rule", "name", "meaning", "model"] = "rule"
    """By a rule, by a name of the catalogue, by nearness in the space, or by a language model's likelihoods."""

    def __str__(self) -> str:
        """In words, e.g. ``category Comedy``, ``not category Horror``, ``price at most 10``."""
        limits = [f"at least {self.least:g}"] if self.least is not None else []
        limits += [f"at most {self.most:g}"] if self.most is not None else []
        said = " and ".join(limits) if limits else (self.value or "")
        if self.least is not None and self.least == self.most:
            said = f"{self.least:g}"
        return f"{'' if self.wanted else 'not '}{self.kind} {said}"


class Facts:
    """A catalogue's categories, prices, languages, years, creators and words.

    A year is what stands in brackets in a title, as in ``Heat (1995)``.
    """

    def __init__(self, domain: Domain) -> None:
        self.items = domain.items
        self.n = domain.n_items

    @cached_property
    def categories(self) -> list[tuple[str, ...]]:
        """``[items]``: each item's categories."""
        return [tuple(found or ()) for found in self.items["categories"].to_list()]

    @cached_property
    def names(self) -> list[str]:
        """Names of all categories, the most frequent first."""
        counts: dict[str, int] = {}
        for found in self.categories:
            for name in found:
                counts[name] = counts.get(name, 0) + 1
        return sorted(counts, key=lambda name: (-counts[name], name))

    @cached_property
    def by_name(self) -> dict[str, str]:
        """Plain name, or plain part of one, to the category; a whole name goes before a part."""
        parts = {plain(part): name for name in reversed(self.names) for part in re.split(r"[&/,>|]| and ", name)}
        whole = {plain(name): name for name in reversed(self.names)}
        return {key: name for key, name in {**parts, **whole}.items() if key}

    @cached_property
    def prices(self) -> NDArray[np.float64]:
        """``float64[items]``; nan where there is none."""
        return self.items["price"].cast(float).fill_null(np.nan).to_numpy()

    @cached_property
    def languages(self) -> NDArray[np.str_]:
        """``str[items]``."""
        return np.array([language or "" for language in self.items["language"].to_list()])

    @cached_property
    def years(self) -> NDArray[np.float64]:
        """``float64[items]``; nan where the title holds none."""
        found = [_YEAR.search(title or "") for title in self.items["title"].to_list()]
        return np.array([float(one.group(1)) if one else np.nan for one in found])

    @cached_property
    def words(self) -> list[str]:
        """``str[items]``: title, creator, description and categories as plain words, a space around each."""
        rows = self.items.select("title", "creator", "description").iter_rows()
        texts = (
            " ".join([*(part or "" for part in row), *found]) for row, found in zip(rows, self.categories, strict=True)
        )
        return [f" {plain(text)} " for text in texts]

    @cached_property
    def creators(self) -> dict[str, str]:
        """Plain name to creator."""
        return {plain(name): name for name in self.items["creator"].to_list() if name}

    def holds(self, constraint: Constraint) -> Mask:
        """``bool[items]``: which items are allowed. Of what is not known of an item no limit holds that has to."""
        found = self._holds(constraint)
        return found if constraint.wanted else ~found

    def _holds(self, one: Constraint) -> Mask:
        if one.kind in ("price", "year"):
            values = self.prices if one.kind == "price" else self.years
            least = -np.inf if one.least is None else one.least
            most = np.inf if one.most is None else one.most
            return np.asarray((values >= least) & (values <= most), dtype=np.bool_)
        if one.kind == "language":
            return np.asarray(self.languages == one.value, dtype=np.bool_)
        if one.kind == "category":
            return np.array([one.value in found for found in self.categories], dtype=np.bool_)
        if one.kind == "creator":
            return np.array([name == one.value for name in self.items["creator"].to_list()], dtype=np.bool_)
        word = f" {plain(one.value or '')} "
        return np.array([word in text for text in self.words], dtype=np.bool_)

    def allowed(self, constraints: Sequence[Constraint], least: int = 1) -> tuple[Mask, list[Constraint]]:
        """``bool[items]`` that meet all limits, and the limits left out because fewer than ``least`` items would."""
        mask, dropped = np.ones(self.n, dtype=np.bool_), []
        for one in constraints:
            narrower = mask & self.holds(one)
            if narrower.sum() >= min(least, mask.sum()):
                mask = narrower
            else:
                dropped.append(one)
        return mask, dropped
