"""A partner's deployed recommender, ready to answer: the same answers on the command line, over HTTP and in Python.

A list shows a work once: other editions of it, and of what the person has already, are left out (the figures of a
study rank editions apart). Everything happens in the partner's own folder. What people type is turned into vectors and
forgotten; user ids are neither logged nor returned.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from koinon.clients.reasons import Reasons
from koinon.clients.titles import TitleIndex, Understood
from koinon.clients.wishing import LOOKED_AT, UNWANTED, Limits, Wished, Wishes
from koinon.clients.words import Words, WordWeights
from koinon.data import Domain, Interactions, SplitConfig, Vault, make_split
from koinon.data.partner import PARTNER_FILE
from koinon.errors import ConfigError, RecommenderError
from koinon.recommenders import store
from koinon.recommenders.federated.identities import identity_key
from koinon.recommenders.protocol import Recommender, Request
from koinon.space import Space

__all__ = [
    "Answer",
    "AnswerItem",
    "Ask",
    "Reading",
    "Shop",
    "carried_history",
    "find_partner",
    "partners_in",
]

CARRIED = 30
"""Of a history carried over from another partner so many texts count, the newest."""

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Ask(BaseModel):
    """What is asked for: at least one of ``user``, ``liked``, ``carried``, ``query``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Title | None = None
    """Id of a user of this partner."""
    liked: tuple[Title, ...] = Field(default=(), max_length=100)
    """Titles liked, typed in any language; looked up in the catalogue, else read as texts."""
    carried: tuple[Title, ...] = Field(default=(), max_length=1000)
    """Item texts of the person's history elsewhere, brought by themself; the last 30 count."""
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)] | None = None
    """A wish in words, any language. Prices, years, languages, categories and what is not wanted limit the list."""
    clarify: bool = False
    """Whether a question may come back where the wish leaves much open."""
    answered: Title | None = None
    """The answer to that question; nothing more is asked."""
    k: int = Field(default=10, ge=1, le=100)
    """Items wanted."""


class Reading(BaseModel):
    """How one liked title was understood."""

    typed: str
    how: Literal["title", "spelling", "meaning", "text"]
    """``title``: in the catalogue; ``spelling``: nearly; ``meaning``: nearest in the space; ``text``: not there."""
    item_id: str | None = None
    title: str | None = None
    similarity: float


class AnswerItem(BaseModel):
    """One recommended item."""

    rank: int
    item_id: str
    title: str
    creator: str | None
    language: str
    score: float
    """Comparable within one answer only."""
    reasons: tuple[str, ...]
    """Grounded in what was told: history, liked titles, the wish, popularity."""


class Answer(BaseModel):
    """What the shop recommends."""

    partner: str
    arm: str
    """The deployed recommender."""
    basis: str
    """What the list rests on, in words."""
    understood: tuple[Reading, ...]
    wish: Wished | None = None
    """How the wish was understood; ``None`` without one."""
    items: tuple[AnswerItem, ...]


@dataclass(frozen=True)
class _Known:
    """A request as the recommender takes it: catalogue items, and texts of what is not in the catalogue."""

    request: Request
    own: int
    """History items that the shop itself knew."""
    liked: tuple[str, ...]
    carried: tuple[str, ...]
    query: str | None


class Shop:
    """One partner's deployed recommender over its present data.

    Parameters
    ----------
    name
        The partner.
    arm
        The deployed arm.
    domain
        What the recommender was fitted on.
    events
        Everything the partner knows now: histories come from here.
    recommender
        Fitted on ``domain``.
    space
        For words; ``None``: only users and titles that are in the catalogue can be asked about.
    """

    def __init__(
        self,
        name: str,
        arm: str,
        domain: Domain,
        events: Interactions,
        recommender: Recommender,
        space: Space | None,
        weights: WordWeights | None = None,
    ) -> None:
        self.name = name
        self.arm = arm
        self.recommender = recommender
        self.domain = domain
        self.known = domain.with_events(events)
        self.space = space
        self.titles = TitleIndex(domain, space)
        self._titles: list[str] = domain.items["title"].to_list()
        self._creators: list[str | None] = domain.items["creator"].to_list()
        self.words = None if space is None else Words(domain, space, weights)
        self.wishes = Wishes(domain, space)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Load what a partner has deployed.

        Raises
        ------
        ConfigError
            K101-K103 there is no usable ``partner.toml``.
        DataError
            K209 there is no vault.
        RecommenderError
            K451 nothing is deployed, K454 the catalogue is not the one the model was fitted on.
        """
        vault = Vault(folder)
        deployed = _deployed(folder)
        split = make_split(vault.name, vault.tables(), SplitConfig.from_dict(deployed["split"]))
        space: Space | None = None
        if deployed["encoder"] != "none":
            from koinon.space import open_space

            space = open_space(deployed["encoder"])
        try:
            recommender = store.load(folder / "models" / deployed.get("folder", deployed["arm"]), split.train, space)
        except RecommenderError as error:
            if error.code != "K412":
                raise
            raise RecommenderError(
                "K454",
                f"The catalogue of {vault.name} has changed since its model was fitted.",
                "Run the federation again; it fits the model anew.",
            ) from error
        return cls(vault.name, deployed["arm"], split.train, split.events, recommender, space)

    def answer(self, ask: Ask) -> Answer:
        """Recommend.

        Raises
        ------
        RecommenderError
            K450 the user is not known here and nothing else is told, K452 nothing is told, K453 there are words but
            this partner's federation has no encoder.
        """
        readings = self.titles.understand(ask.liked)
        known = self._known(ask, readings)
        limits = None if ask.query is None else self.wishes.limits(ask.query, ask.answered)
        scores = self._scores(known, limits)
        chosen = self._listed(scores, known.request.history, ask.k, limits)
        reasons = Reasons(self.domain, self.recommender, self.words).of(
            known.request, chosen, (*known.liked, *known.carried), known.query
        )
        rows = self.domain.items[chosen].select("item_id", "title", "creator", "language").rows(named=True)
        return Answer(
            partner=self.name,
            arm=self.arm,
            basis=_basis(known, stranger=bool(ask.user) and known.request.user is None),
            understood=tuple(self._reading(reading) for reading in readings),
            wish=None if limits is None else self._wished(ask, limits, scores, known.request.history),
            items=tuple(
                AnswerItem(rank=rank, score=round(float(scores[item]), 6), reasons=why, **row)
                for rank, (item, row, why) in enumerate(zip(chosen, rows, reasons, strict=True), start=1)
            ),
        )

    def _known(self, ask: Ask, readings: list[Understood]) -> _Known:
        if not (ask.user or ask.liked or ask.carried or ask.query):
            raise RecommenderError(
                "K452", "Nothing was told to recommend from.", "Give a user, liked titles, or a wish in words."
            )
        user = self.domain.user_index.get(ask.user) if ask.user else None
        if ask.user and user is None and not (ask.liked or ask.carried or ask.query):
            raise RecommenderError(
                "K450",
                f"{self.name} knows no user of that id.",
                "Check the id, or give liked titles or a wish in words instead.",
            )
        own, times = self._own(user)
        carried = ask.carried[-CARRIED:]
        spelled = self.titles.spelled(carried)
        added = [item for item in spelled if item is not None]
        added += [reading.item for reading in readings if reading.item is not None]
        history = np.array([*own.tolist(), *dict.fromkeys(item for item in added if item not in set(own.tolist()))])
        now = time.time_ns() // 1_000_000
        if times is not None:
            # what is told with the question counts as of now
            times = np.concatenate((times, np.full(len(history) - len(own), now, dtype=np.int64)))
        marks = None if user is None else self.known.history_marks(user)
        if marks is not None:
            # of what is told with the question neither kind nor weight is known
            marks = marks.and_unknown(len(history) - len(own))
        known = _Known(
            request=Request(history=history.astype(np.int32), user=user, time=now, times=times, marks=marks),
            own=len(own),
            liked=tuple(reading.typed for reading in readings if reading.item is None),
            carried=tuple(text for text, item in zip(carried, spelled, strict=True) if item is None),
            query=ask.query,
        )
        if self.words is None and not len(history) and (known.liked or known.carried or known.query):
            raise RecommenderError(
                "K453",
                "None of that is in the catalogue, and this partner's federation has no encoder for words.",
                "Give titles of the catalogue, or federate with an encoder.",
            )
        return known

    def _own(self, user: int | None) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
        """What the shop knows of a user, and when it happened where the shop has times."""
        if user is not None:
            return self.known.history(user), self.known.history_times(user)
        timed = self.known.events.time is not None
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64) if timed else None

    def _wished(self, ask: Ask, limits: Limits, scores: NDArray[np.float32], history: NDArray[np.int32]) -> Wished:
        """How the wish was understood, and what is asked back about the best of its list."""
        asking = ask.clarify and ask.answered is None
        return self.wishes.understood(limits, self._listed(scores, history, LOOKED_AT, limits) if asking else None)

    def _scores(self, known: _Known, limits: Limits | None) -> NDArray[np.float32]:
        """``float32[items]``: the recommender on what it knows; words where there are any, within a wish's limits."""
        worded = known.liked or known.carried or known.query
        if self.words is None or not worded:
            scores = np.asarray(self.recommender.score([known.request])[0])
            return scores if limits is None else limits.apply(scores)
        evidence = self.recommender.score([known.request])[0] if len(known.request.history) else None
        if limits is None:
            return self.words.combine(evidence, known.liked, known.carried, known.query)
        scores = self.words.combine(evidence, known.liked, known.carried, limits.wish.text)
        if limits.wish.unwanted:
            unwanted = np.maximum(self.words.similarity(limits.wish.unwanted), 0.0).sum(axis=0)
            scores = scores - np.float32(UNWANTED) * unwanted
        return limits.apply(scores)

    def _listed(
        self, scores: NDArray[np.float32], history: NDArray[np.int32], k: int, limits: Limits | None = None
    ) -> list[int]:
        """Best ``k`` items, equal scores in catalogue order; one edition of a work, and none of a work already had."""
        works = {self._work(int(item))[0] for item in history}
        listed: list[int] = []
        for item in np.argsort(-scores, kind="stable").tolist():
            if limits is not None and not limits.allowed[item]:
                continue
            work, without_subtitle = self._work(item)
            if work not in works and without_subtitle not in works:
                works.add(work)
                listed.append(item)
            if len(listed) == k:
                break
        return listed

    def _work(self, item: int) -> tuple[str, str]:
        """What editions of a work have in common: title and creator, whole and without a subtitle."""
        title, creator = self._titles[item], self._creators[item]
        return identity_key(title, creator), identity_key(title.partition(":")[0], creator)

    def _reading(self, reading: Understood) -> Reading:
        item = None if reading.item is None else self.domain.items.row(reading.item, named=True)
        return Reading(
            typed=reading.typed,
            how=reading.how,
            item_id=None if item is None else item["item_id"],
            title=None if item is None else item["title"],
            similarity=reading.similarity,
        )


def partners_in(folder: Path) -> dict[str, Path]:
    """Partner folders within a folder (its own sub-folders, or those of its ``partners``), by name."""
    places = [path.parent for pattern in ("*", "partners/*") for path in folder.glob(f"{pattern}/{PARTNER_FILE}")]
    return {place.name: place for place in sorted(places)}


def find_partner(folder: Path, partner: str | None = None) -> Path:
    """Return the partner's folder: ``folder`` itself, or one within it (a demonstration's or a study's output).

    Raises
    ------
    ConfigError
        K120 there is no partner, K121 there are several and none was named, or the named one is not there.
    """
    if (folder / PARTNER_FILE).is_file():
        if partner is None or partner in (folder.name, Vault(folder).name):
            return folder
        raise ConfigError("K121", f"{folder} is {Vault(folder).name}, not {partner}.", "Leave --partner out.")
    found = partners_in(folder)
    if not found:
        raise ConfigError(
            "K120",
            f"{folder} holds no {PARTNER_FILE}, nor do its sub-folders.",
            "Give a partner's folder, or the demonstration's output.",
        )
    if partner is None and len(found) == 1:
        return next(iter(found.values()))
    if partner is None:
        raise ConfigError("K121", f"{folder} holds {len(found)} partners.", f"Say --partner: {', '.join(found)}.")
    if partner not in found:
        raise ConfigError("K121", f"{folder} holds no partner {partner}.", f"There are: {', '.join(found)}.")
    return found[partner]


def carried_history(folder: Path, user: str) -> tuple[str, ...]:
    """Item texts of a user's history at another partner, oldest first: what the person carries over, read locally.

    Raises
    ------
    RecommenderError
        K450 that partner does not know the user either.
    """
    vault = Vault(folder)
    tables = vault.tables()
    mine = tables.events.filter(pl.col("user_id") == user)
    if not mine.height:
        raise RecommenderError("K450", f"{vault.name} knows no user of that id.", "Check the id and the folder.")
    texts = mine.join(tables.items.select("item_id", "text"), on="item_id", how="left", maintain_order="left")["text"]
    return tuple(dict.fromkeys(text[:500] for text in texts.drop_nulls().to_list() if text.strip()))


def _deployed(folder: Path) -> dict[str, Any]:
    path = folder / "models" / "deployed.json"
    try:
        deployed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = deployed["arm"], deployed["encoder"], deployed["split"]
    except FileNotFoundError as error:
        raise RecommenderError(
            "K451", f"{folder} has no deployed model.", "Run `koinon federation run` or `koinon demo` first."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecommenderError("K451", f"{path} is damaged: {error}.", "Run the federation again.") from error
    return deployed


def _basis(known: _Known, *, stranger: bool) -> str:
    """What a list rests on, in words."""
    added = len(known.request.history) - known.own
    parts = [
        (known.own, _counted(known.own, "item") + " of the user's history here"),
        (added, _counted(added, "title") + " found in the catalogue"),
        (len(known.liked), _counted(len(known.liked), "title") + " read as text"),
        (len(known.carried), _counted(len(known.carried), "text") + " carried over from elsewhere"),
        (int(known.query is not None), "the wish in words"),
    ]
    said = [text for count, text in parts if count]
    if stranger:
        said.append("no history here")
    return ", ".join(said) if said else "popularity here: nothing is known of this user yet"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
