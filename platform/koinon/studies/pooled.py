"""The pooled arm: what the best recommender reaches on the raw data of all partners together.

No federation may do this: people are merged by their true ids, works by identity, and every event is in one place. It
is the ceiling that a federation is held against. For each partner a joined table is made: its own items, its own
people with all that they took anywhere, and everybody else's events on works that it lists. Works that it does not
list but its people know from elsewhere stand beside the catalogue as further columns: they speak for items, and are
never ranked. EASE with the semantic prior is then tuned on the partner's own validation users, with and without what
they did elsewhere, and with the others' events weighted as validation says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.data import Domain, EvaluationSet, Interactions, Split
from koinon.data.tables import ITEM_SCHEMA
from koinon.evaluation import Evaluation, evaluate
from koinon.recommenders import Recommendation, Request
from koinon.recommenders.conventional import EaseConfig, SemanticEASE, gram_matrix
from koinon.recommenders.federated.gram import GramConfig
from koinon.recommenders.federated.gram_sums import Carried
from koinon.recommenders.federated.gram_tuning import search
from koinon.recommenders.federated.identities import catalogue_of, match_identities
from koinon.recommenders.ranking import best
from koinon.space import Space

__all__ = ["Pooled", "evaluate_pooled"]

MOST_COLUMNS = 8_000
"""Own items and works from elsewhere in one solve."""
ELSEWHERE_COLUMNS = 1_000
ELSEWHERE_EVENTS = 3
"""A work of another partner becomes a column if at least so many of the partner's own people took it."""
SHARED_PEOPLE = 0.1
"""Share of a partner's people known elsewhere from which their other histories are worth a trial."""
UNTIMED = GramConfig(lambda_=100.0, item_power=0.25, beta=0.1, popularity_weight=0.01, cold_weight=0.1)
TIMED = GramConfig(lambda_=550.0, user_power=1.0, output_power=0.5, beta=0.0, popularity_weight=0.3, cold_weight=0.1)
"""Where tuning begins unless told otherwise."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Taken:
    """Events as parallel arrays ``int64[events]``: ``row`` (person or user), ``item`` (work or column), ``time``."""

    row: Ints
    item: Ints
    time: Ints

    @classmethod
    def concatenate(cls, several: Sequence[Taken]) -> Taken:
        """All of several, in order."""
        if not several:
            return cls(*(np.empty(0, dtype=np.int64) for _ in range(3)))
        return cls(*(np.concatenate([getattr(one, name) for one in several]) for name in ("row", "item", "time")))

    def take(self, keep: NDArray[Any]) -> Taken:
        """The events selected by a mask or by positions."""
        return Taken(self.row[keep], self.item[keep], self.time[keep])

    def once(self) -> Taken:
        """Sorted by row and time (the order given where times are equal); of repeated items the first."""
        ordered = self.take(np.lexsort((self.time, self.row)))
        width = int(ordered.item.max(initial=0)) + 1
        first = np.sort(np.unique(ordered.row * width + ordered.item, return_index=True)[1])
        return ordered.take(first)


class Pool:
    """All partners' raw data: works in one numbering, people in one numbering.

    Parameters
    ----------
    splits
        By partner.
    space
        The encoder that identities are matched in.
    """

    def __init__(self, splits: Mapping[str, Split], space: Space) -> None:
        self.splits = splits
        catalogues = [catalogue_of(name, split.train.items) for name, split in splits.items()]
        found = match_identities(catalogues, space, shared_by=1)
        self.works = found.n
        self.work = {catalogue.partner: found.of(catalogue.keys).astype(np.int64) for catalogue in catalogues}
        ids = sorted({user for split in splits.values() for user in split.train.user_ids})
        row = {user: number for number, user in enumerate(ids)}
        self.persons = len(ids)
        self.person = {
            name: np.array([row[user] for user in split.train.user_ids], dtype=np.int64)
            for name, split in splits.items()
        }

    def elsewhere(self, name: str, known: Callable[[Split], Taken]) -> Taken:
        """What anybody took at other partners than ``name``: persons and works; ``known`` says until when."""
        found = []
        for other, split in self.splits.items():
            if other != name:
                events = known(split)
                found.append(Taken(self.person[other][events.row], self.work[other][events.item], events.time))
        return Taken.concatenate(found)

    def rows(self, works: Ints) -> pl.DataFrame:
        """Item table of some works, as the first partner that lists each does."""
        tables = [
            split.train.items.with_columns(pl.Series("work", self.work[name])) for name, split in self.splits.items()
        ]
        listed = pl.concat(tables).unique("work", keep="first", maintain_order=True)
        wanted = pl.DataFrame({"work": works})
        return wanted.join(listed, on="work", how="left", maintain_order="left").drop("work").select(list(ITEM_SCHEMA))


def times(events: Interactions) -> Ints:
    """Time of each event, 0 where there is none, ``int64[events]``."""
    return np.zeros(len(events), dtype=np.int64) if events.time is None else events.time


def training(split: Split) -> Taken:
    """A partner's training events."""
    events = split.train.events
    return Taken(events.user.astype(np.int64), events.item.astype(np.int64), times(events))


def until_test(split: Split) -> Taken:
    """Its training and validation events: what may be known when test requests are made."""
    width = split.train.n_items
    held = split.validation
    key = split.events.user.astype(np.int64) * width + split.events.item
    order = np.argsort(key, kind="stable")
    row = np.repeat(held.user.astype(np.int64), np.diff(held.target_indptr))
    item = held.target_items.astype(np.int64)
    at = order[np.searchsorted(key, row * width + item, sorter=order)]
    return Taken.concatenate([training(split), Taken(row, item, times(split.events)[at])])


class Joined:
    """One partner's view of the pool: a split over its items and further columns, and everybody else's Gram matrix.

    Parameters
    ----------
    pool
        The joined data.
    name
        The partner.
    elsewhere
        Whether what its own people did at other partners joins their histories; otherwise it counts as other people's.

    Attributes
    ----------
    listed
        How many items are the partner's own; they come first.
    split
        Its split over all columns. Targets are its own items.
    others
        Everybody else's Gram matrix.
    """

    def __init__(self, pool: Pool, name: str, *, elsewhere: bool) -> None:
        own = pool.splits[name]
        self.listed = own.train.n_items
        person_row = np.full(pool.persons, -1, dtype=np.int64)
        if elsewhere:
            person_row[pool.person[name]] = np.arange(own.train.n_users)
        everywhere = pool.elsewhere(name, training)
        self._column, foreign = self._columns(pool, name, everywhere, person_row)
        self._person_row = person_row
        items = own.train.items
        if len(foreign):
            items = pl.concat([items, pool.rows(foreign)])
        train = self._with(training(own), everywhere)
        timed = own.train.events.time is not None
        domain = Domain(name, items, own.train.user_ids, self._interactions(train, timed))
        self.split = Split(
            train=domain,
            validation=self._extended(own.validation, train),
            test=self._extended(own.test, self._with(until_test(own), pool.elsewhere(name, until_test))),
            cold_item=np.concatenate([own.cold_item, np.zeros(len(foreign), dtype=np.bool_)]),
            events=domain.events,
        )
        self.others = self._others(pool, everywhere, domain)

    def _columns(self, pool: Pool, name: str, everywhere: Taken, person_row: Ints) -> tuple[Ints, Ints]:
        """Column of each work, -1 for none, and the works that are further columns."""
        counts = pool.splits[name].train.item_counts
        column = np.full(pool.works, -1, dtype=np.int64)
        # of several editions, a reader of the work elsewhere is given the one that is taken most here
        order = np.argsort(counts, kind="stable")
        column[pool.work[name][order]] = order
        mine = everywhere.take(person_row[everywhere.row] >= 0).once()
        taken = np.bincount(mine.item, minlength=pool.works)
        foreign = np.flatnonzero((column < 0) & (taken >= ELSEWHERE_EVENTS))
        room = max(min(ELSEWHERE_COLUMNS, MOST_COLUMNS - self.listed), 0)
        foreign = foreign[np.argsort(-taken[foreign], kind="stable")[:room]]
        column[foreign] = self.listed + np.arange(len(foreign))
        return column, foreign

    def _mine(self, everywhere: Taken) -> Taken:
        """What the partner's own people took elsewhere: rows and columns."""
        mine = Taken(self._person_row[everywhere.row], self._column[everywhere.item], everywhere.time)
        return mine.take((mine.row >= 0) & (mine.item >= 0))

    def _with(self, own: Taken, everywhere: Taken) -> Taken:
        """Own events and those elsewhere; where there are no times, those elsewhere are the older ones."""
        return Taken.concatenate([self._mine(everywhere), own]).once()

    @staticmethod
    def _interactions(taken: Taken, timed: bool) -> Interactions:
        return Interactions(taken.row.astype(np.int32), taken.item.astype(np.int32), taken.time if timed else None)

    @staticmethod
    def _extended(asked: EvaluationSet, known: Taken) -> EvaluationSet:
        """The same requests, with all that may be known as history (targets excepted)."""
        start = np.searchsorted(known.row, asked.user)
        stop = np.searchsorted(known.row, asked.user, side="right")
        histories = []
        for row, (a, b) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
            history = known.item[a:b]
            histories.append(history[~np.isin(history, asked.targets(row))])
        indptr = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
        items = np.concatenate([*histories, np.empty(0, dtype=np.int64)]).astype(np.int32)
        return replace(asked, history_indptr=indptr, history_items=items, history_times=None, history_marks=None)

    def _others(self, pool: Pool, everywhere: Taken, domain: Domain) -> Carried:
        """The Gram matrix of all other people over the columns that they took."""
        strangers = everywhere.take(self._person_row[everywhere.row] < 0)
        column = self._column[strangers.item]
        row, column = strangers.row[column >= 0], column[column >= 0]
        item, place = np.unique(column, return_inverse=True)
        matrix = csr_matrix(
            (np.ones(len(row), dtype=np.float32), (row, place)), shape=(pool.persons, len(item)), dtype=np.float32
        )
        matrix.data[:] = 1.0
        return Carried(item.astype(np.int32), gram_matrix(matrix, dtype=np.float32), domain.item_counts[item])


class Pooled:
    """EASE with the semantic prior on the joined data, asked as the partner's own recommenders are.

    Parameters
    ----------
    joined
        The partner's view of the pool.
    config
        As tuned.
    """

    name: ClassVar[str] = "pooled"

    def __init__(self, joined: Joined, config: GramConfig) -> None:
        self.joined = joined
        self.model = SemanticEASE(config)
        self.histories: dict[int, NDArray[np.int32]] = {}

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Pooled:
        """Solve on the joined Gram matrix; ``domain`` and ``rng`` are not used."""
        table, config = self.joined.split.train, self.model.config
        assert isinstance(config, GramConfig)
        gram = gram_matrix(table.matrix, user_power=config.user_power, dtype=np.float32)
        counts = table.item_counts.astype(np.float64)
        if self.joined.others and config.share:
            self.joined.others.add_to(gram, config.share, config.cap)
            counts = self.joined.others.known(counts, config.share, config.cap)
        self.model.fit_gram(table, space, gram, np.ceil(counts).astype(np.int64))
        return self.knowing(self.joined.split.test)

    def knowing(self, asked: EvaluationSet) -> Pooled:
        """Answer requests of this set of the joined split from now on; :meth:`fit` prepares for the test set."""
        self.histories = {int(user): asked.history(row) for row, user in enumerate(asked.user)}
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        """Return ``float32[requests, candidates]`` for requests of the prepared set: all their people did is known."""
        known = [replace(r, history=self.histories.get(-1 if r.user is None else r.user, r.history)) for r in requests]
        own = np.arange(self.joined.listed, dtype=np.int32) if candidates is None else candidates
        return self.model.score(known, own)

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """Return the ``k`` best unseen items per request, best first."""
        return best(self.score(requests), requests, k)


def evaluate_pooled(
    splits: Mapping[str, Split],
    space: Space,
    *,
    known_elsewhere: Mapping[str, NDArray[np.integer]] | None = None,
    starts: Mapping[str, EaseConfig] | None = None,
    seed: int = 0,
    on_partner: Callable[[str, Pooled], None] | None = None,
) -> dict[str, tuple[Evaluation, float]]:
    """Tune the pooled recommender for every partner on validation and measure it on test.

    Returns, by partner, the evaluation on test and the mean NDCG@10 of main validation users.

    Parameters
    ----------
    splits
        By partner; user ids are true ids, equal for one person at several partners.
    space
        The encoder.
    known_elsewhere
        Per partner the rows of its users who are at another one, for the slice of that name.
    starts
        Per partner the settings its own model was tuned to, where tuning begins.
    seed
        Draws validation users and events.
    on_partner
        Called with each partner's name and fitted recommender.
    """
    pool = Pool(splits, space)
    found = {}
    for name, split in splits.items():
        pooled = tune_pooled(pool, name, space, start=(starts or {}).get(name), seed=seed)
        pooled.fit(split.train, space, rng=np.random.default_rng(seed))
        if on_partner is not None:
            on_partner(name, pooled)
        validation = evaluate(
            pooled.knowing(pooled.joined.split.validation), split.train, split.validation, slices=("all",)
        ).mean()
        test = evaluate(
            pooled.knowing(pooled.joined.split.test),
            split.train,
            split.test,
            known_elsewhere=None if known_elsewhere is None else known_elsewhere[name],
            vectors=space.encode(split.train.texts),
            beyond=True,
        )
        found[name] = test, validation
    return found


def tune_pooled(pool: Pool, name: str, space: Space, *, start: EaseConfig | None, seed: int) -> Pooled:
    """Choose settings, and whether people's other histories are used, on the partner's validation users."""
    timed = pool.splits[name].train.events.time is not None
    begin = TIMED if timed else UNTIMED
    if start is not None:
        begin = begin.model_copy(update=start.model_dump(exclude={"share", "cap"}))
    others = np.concatenate([rows for other, rows in pool.person.items() if other != name] or [pool.person[name][:0]])
    elsewhere = float(np.isin(pool.person[name], others).mean()) >= SHARED_PEOPLE
    best_value, chosen = -np.inf, None
    for joins in (False, True) if elsewhere and not timed else (elsewhere,):
        joined = Joined(pool, name, elsewhere=joins)
        config, trials = search(
            begin,
            joined.others,
            joined.split,
            space,
            rng=np.random.default_rng(seed),
            start=begin if joined.others else None,
            rows=1000,
            caution=0.0,
            on_trial=None,
            ranked=joined.listed,
        )
        value = max((trial.value for trial in trials if trial.config == config), default=-np.inf)
        if chosen is None or value > best_value:
            best_value, chosen = value, Pooled(joined, config)
    assert chosen is not None
    return chosen
