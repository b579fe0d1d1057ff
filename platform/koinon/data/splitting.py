"""How a partner's events are divided: ``time``, ``holdout`` and ``leave-last-out``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data.domain import Domain, Interactions
from koinon.data.marks import PSEUDO, Context, Marks
from koinon.data.split import EvaluationSet, Split, SplitConfig
from koinon.data.tables import CONTEXT, Tables, context_columns
from koinon.errors import DataError

__all__ = ["global_clock", "make_split", "stable_unit"]

TRAIN, VALIDATION, TEST, WITHHELD = 0, 1, 2, 3
_COLD_HISTORY = 2
_MILLISECONDS = pl.col("timestamp").dt.epoch("ms")

Labels = NDArray[np.int8]


def stable_unit(seed: int, *names: str) -> float:
    """Return a number in [0, 1) that depends on the arguments alone: the same in every process and on every machine."""
    key = "\x1f".join((str(seed), *names)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big") / 2**56


def global_clock(events: Iterable[pl.DataFrame], validation: float = 0.8, test: float = 0.9) -> tuple[int, int]:
    """Return ``(validation_from, test_from)`` in milliseconds UTC: quantiles of all timestamped events of all partners.

    Parameters
    ----------
    events
        Canonical event tables; those without times do not count.
    validation, test
        Shares of the events that lie before validation and before test, ``0 < validation < test < 1``.

    Raises
    ------
    DataError
        K250 no event has a time; K253 the quantiles are out of order or all events happen at once.
    """
    if not 0 < validation < test < 1:
        raise DataError("K253", f"The quantiles {validation} and {test} are out of order.", "Take 0 < a < b < 1.")
    times = pl.concat([frame.select(pl.col("timestamp").dt.epoch("ms")).drop_nulls() for frame in events])["timestamp"]
    if times.is_empty():
        raise DataError("K250", "No event of any partner has a time.", "Use the protocol `holdout`.")
    ordered = np.sort(times.to_numpy())
    validation_from, test_from = (
        int(ordered[min(int(len(ordered) * q), len(ordered) - 1)]) for q in (validation, test)
    )
    if not ordered[0] < validation_from < test_from:
        raise DataError(
            "K253", "Too many events happen at the same moment to set a clock.", "Use `holdout`, or finer times."
        )
    return validation_from, test_from


@dataclass(frozen=True)
class _Indexed:
    """Distinct user-item pairs sorted by user and time, with their catalogue."""

    items: pl.DataFrame
    user_ids: tuple[str, ...]
    events: Interactions
    withheld: NDArray[np.bool_]
    indptr: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """``int64[users]``: distinct items of each user."""
        return np.diff(self.indptr)


def make_split(name: str, tables: Tables, config: SplitConfig) -> Split:
    """Divide one partner's events.

    A person's repeated events with one item count once, as the first of them (its time, kind, weight and context); rows
    of the kind ``pseudo`` do not count. The catalogue holds the items with at least ``minimum_item_events`` events so
    counted. A share ``cold_items`` of it, chosen by a stable hash of seed, partner and item id, loses its training
    events. Items and users are indexed in the order of their ids.

    ``time``
        Events before ``validation_from`` train, then validate, from ``test_from`` on test. A request carries the time
        of the user's first event in the period.
    ``holdout``
        Of users with at least ``minimum_user_events`` events one seeded event is the test and one the validation;
        of users with two to that many one is the test; the rest trains.
    ``leave-last-out`` (secondary: it lets training see other people's future)
        The last event in time is the test, the one before it the validation, of users with at least
        ``max(3, minimum_user_events)`` events; the others only train. Where there are no times the source's order
        counts. A request carries the time of the last event in its history, since the target's own time would be a
        leak. No items are withheld.

    Parameters
    ----------
    name
        The partner's name, part of the seed.
    tables
        Canonical tables.
    config
        The federation's division.

    Raises
    ------
    DataError
        K250 the protocol needs times, or a clock, that are not there; K251 some events have times and others not;
        K252 no event is left.
    """
    protocol = _protocol(name, tables, config)
    indexed = _index(name, tables, config, protocol)
    if protocol == "time":
        labels = _by_time(name, indexed.events, config)
    elif protocol == "holdout":
        labels = _by_holdout(name, indexed, config)
    else:
        labels = _by_last(indexed, config)
    labels[(labels == TRAIN) & indexed.withheld[indexed.events.item]] = WITHHELD
    main = indexed.counts >= config.minimum_user_events
    train_events = indexed.events.take(labels == TRAIN)
    cold_item = np.ones(indexed.items.height, dtype=np.bool_)
    cold_item[train_events.item] = False
    request_from_history = protocol == "leave-last-out"
    return Split(
        train=Domain(name, indexed.items, indexed.user_ids, train_events),
        validation=_evaluation(indexed, labels == TRAIN, labels == VALIDATION, main, request_from_history),
        test=_evaluation(indexed, labels <= VALIDATION, labels == TEST, main, request_from_history),
        cold_item=cold_item,
        events=indexed.events,
    )


def _protocol(name: str, tables: Tables, config: SplitConfig) -> str:
    missing = tables.events["timestamp"].null_count()
    timed = missing < tables.events.height
    if timed and missing:
        raise DataError(
            "K251",
            f"{name}: {missing:,} of {tables.events.height:,} events have no time.",
            "Give every event a time, or leave the column out.",
        )
    protocol = ("time" if timed else "holdout") if config.protocol == "auto" else config.protocol
    if protocol == "time" and not timed:
        raise DataError("K250", f"{name}: the protocol `time` needs times.", "Use `auto` or `holdout`.")
    if protocol == "time" and (config.validation_from is None or config.test_from is None):
        raise DataError(
            "K250",
            f"{name}: the protocol `time` needs the federation's clock.",
            "Set validation_from and test_from (koinon.data.splitting.global_clock gives them).",
        )
    return protocol


def _index(name: str, tables: Tables, config: SplitConfig, protocol: str) -> _Indexed:
    pairs = (
        tables.events.lazy()
        .filter(pl.col("kind").ne_missing(PSEUDO))
        .select("user_id", "item_id", "kind", "weight", *context_columns(tables.events), time=_MILLISECONDS)
        .with_row_index("row")
        .sort("time", "row")
        .unique(["user_id", "item_id"], keep="first", maintain_order=True)
        .filter(pl.len().over("item_id") >= config.minimum_item_events)
        .collect()
    )
    items = tables.items.join(pairs, on="item_id", how="semi").sort("item_id")
    pairs = pairs.join(items, on="item_id", how="semi")
    if pairs.is_empty():
        raise DataError(
            "K252",
            f"{name}: no item has {config.minimum_item_events} events.",
            "Lower minimum_item_events or bring more events.",
        )
    users = pairs.select(pl.col("user_id").unique()).sort("user_id")
    pairs = (
        pairs.join(users.with_row_index("user"), on="user_id")
        .join(items.select("item_id").with_row_index("item"), on="item_id")
        .sort("user", "time", "row")
    )
    times = None if pairs["time"].null_count() else pairs["time"].to_numpy().astype(np.int64)
    user, item = (pairs[column].to_numpy().astype(np.int32) for column in ("user", "item"))
    events = Interactions(user, item, times, _marks(pairs))
    withheld = np.zeros(items.height, dtype=np.bool_)
    if config.cold_items > 0 and protocol != "leave-last-out":
        ids = items["item_id"].to_list()
        withheld[:] = [stable_unit(config.seed, "cold", name, item) < config.cold_items for item in ids]
    indptr = np.zeros(users.height + 1, dtype=np.int64)
    np.cumsum(np.bincount(events.user, minlength=users.height), out=indptr[1:])
    return _Indexed(items, tuple(users["user_id"].to_list()), events, withheld, indptr)


def _marks(pairs: pl.DataFrame) -> Marks:
    kinds, kind = _coded(pairs["kind"])
    context = {}
    for name in context_columns(pairs):
        values, code = _coded(pairs[name])
        context[name.removeprefix(CONTEXT)] = Context(code, values)
    weight = pairs["weight"].cast(pl.Float32).fill_null(np.nan).to_numpy()
    return Marks(kind.astype(np.int16), weight, kinds, context)


def _coded(column: pl.Series) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """What occurs, in alphabetical order, and each row's place in it; -1 where it is empty."""
    values = column.unique().drop_nulls().sort().to_list()
    code = column.replace_strict(values, range(len(values)), default=-1, return_dtype=pl.Int32)
    return tuple(values), code.to_numpy()


def _by_time(name: str, events: Interactions, config: SplitConfig) -> Labels:
    if events.time is None or config.validation_from is None or config.test_from is None:
        raise DataError("K250", f"{name}: the protocol `time` needs times and a clock.", "Use `holdout`.")
    clock = np.array([config.validation_from, config.test_from], dtype=np.int64)
    return np.searchsorted(clock, events.time, side="right").astype(np.int8)


def _by_holdout(name: str, indexed: _Indexed, config: SplitConfig) -> Labels:
    labels = np.zeros(len(indexed.events), dtype=np.int8)
    item_ids = indexed.items["item_id"].to_list()
    for user, count in enumerate(indexed.counts):
        if count < 2:
            continue
        start = indexed.indptr[user]
        user_id = indexed.user_ids[user]
        draws = [
            stable_unit(config.seed, "holdout", name, user_id, item_ids[item])
            for item in indexed.events.item[start : start + count]
        ]
        order = np.argsort(draws)
        labels[start + order[0]] = TEST
        if count >= config.minimum_user_events and count > 2:
            labels[start + order[1]] = VALIDATION
    return labels


def _by_last(indexed: _Indexed, config: SplitConfig) -> Labels:
    labels = np.zeros(len(indexed.events), dtype=np.int8)
    ends = indexed.indptr[1:][indexed.counts >= max(3, config.minimum_user_events)]
    labels[ends - 1] = TEST
    labels[ends - 2] = VALIDATION
    return labels


def _evaluation(
    indexed: _Indexed,
    known: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    main: NDArray[np.bool_],
    request_from_history: bool,
) -> EvaluationSet:
    """One row for every user with a target; events are sorted by user, so slices of them stay in order."""
    users_total = len(indexed.user_ids)
    asked_per_user = np.bincount(indexed.events.user[asked], minlength=users_total)
    rows = np.flatnonzero(asked_per_user)
    has_row = asked_per_user > 0
    history = indexed.events.take(known & has_row[indexed.events.user])
    targets = indexed.events.take(asked)
    history_counts = np.bincount(history.user, minlength=users_total)[rows]
    history_indptr = np.concatenate([[0], np.cumsum(history_counts)]).astype(np.int64)
    target_indptr = np.concatenate([[0], np.cumsum(asked_per_user[rows])]).astype(np.int64)
    time = None
    if targets.time is not None:
        time = targets.time[target_indptr[:-1]]
        if request_from_history and history.time is not None:
            time = history.time[history_indptr[1:] - 1]
    return EvaluationSet(
        user=rows.astype(np.int32),
        history_indptr=history_indptr,
        history_items=history.item,
        target_indptr=target_indptr,
        target_items=targets.item,
        time=time,
        cold_user=history_counts <= _COLD_HISTORY,
        main=main[rows],
        history_times=history.time,
        history_marks=history.marks,
    )
