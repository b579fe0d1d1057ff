"""The data sets of a study: read, capped, divided, with cold items in every one of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from koinon.data import Domain, EvaluationSet, Split, SplitConfig, Tables, Vault, global_clock, make_split
from koinon.data.partner import PARTNER_FILE
from koinon.data.public import DEMO_ITEMS, DEMO_USERS, cap_tables, find_dataset, get
from koinon.data.splitting import stable_unit
from koinon.errors import ConfigError, RecommenderError
from koinon.recommenders.clicks import ClickData, click_data
from koinon.recommenders.training import known_before_test
from koinon.studies.paradigms.config import StudyConfig

__all__ = ["DataSpec", "Prepared", "open_data", "parse_spec", "rows_of", "sample_rows"]

Protocol = Literal["time", "holdout", "leave-last-out"]
PROTOCOLS: dict[str, Protocol] = {"time": "time", "holdout": "holdout", "last": "leave-last-out"}
BOOKS = re.compile(r"books-(?P<cut>en|de|fr|es|it|en-(?:us|ca|uk|au|intl))")


@dataclass(frozen=True)
class DataSpec:
    """One data set as it was asked for.

    Attributes
    ----------
    name
        As the report names it; unique in a study.
    base
        The name without the division: it is part of every draw.
    source
        A public name, or a partner's folder.
    protocol
        As stated, or ``None``: by time where there are times, by the last event where there is an order, else held out.
    """

    name: str
    base: str
    source: str
    protocol: Protocol | None


@dataclass(frozen=True)
class Prepared:
    """A data set ready to be learned from.

    Attributes
    ----------
    spec
        What was asked for.
    tables
        After the caps.
    split
        The division; every protocol withholds cold items.
    protocol
        In use.
    ordered
        Whether its events have an order, so that a sequence can be read.
    """

    spec: DataSpec
    tables: Tables
    split: Split
    protocol: Protocol
    ordered: bool

    @property
    def name(self) -> str:
        """As the report names it."""
        return self.spec.name

    @cached_property
    def known(self) -> Domain:
        """Training and validation events: what is learned from before the test is asked."""
        return known_before_test(self.split)

    @cached_property
    def clicks(self) -> ClickData | None:
        """Likes and dislikes by time; ``None`` where the data tell none."""
        try:
            return click_data(self.spec.base, self.tables)
        except RecommenderError as error:
            if error.code in ("K420", "K421"):
                return None
            raise

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits over catalogue, people, events and their division."""
        digest = hashlib.sha256(f"{self.protocol} {self.split.train.n_users}".encode())
        for column in ("item_id", "title", "text"):
            digest.update("\0".join(value or "" for value in self.split.train.items[column]).encode())
        parts = (self.split.events, self.split.train.events)
        arrays = [array for part in parts for array in (part.user, part.item, part.time)]
        for rows in (self.split.validation, self.split.test):
            arrays += [rows.user, rows.target_items, rows.history_items, rows.history_indptr]
        for array in arrays:
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def parse_spec(text: str) -> DataSpec:
    """Read ``NAME``, ``FOLDER``, either followed by ``@time``, ``@holdout`` or ``@last``.

    Raises
    ------
    ConfigError
        K126 neither a public data set nor a partner's folder, or no such division.
    """
    source, at, protocol = text.rpartition("@")
    if not at:
        source, protocol = text, ""
    if at and protocol not in PROTOCOLS:
        raise ConfigError("K126", f"There is no division {protocol!r}.", f"Write @{', @'.join(PROTOCOLS)} or leave it.")
    folder = Path(source)
    if (folder / PARTNER_FILE).is_file():
        name = folder.resolve().name
    elif BOOKS.fullmatch(source) or _is_public(source):
        name = source
    else:
        raise ConfigError(
            "K126",
            f"`{source}` is neither a public data set nor a partner's folder.",
            "`koinon data list` names the public ones, `koinon partner init` makes a folder.",
        )
    return DataSpec(f"{name}-{protocol}" if protocol else name, name, source, PROTOCOLS.get(protocol))


def open_data(spec: DataSpec, config: StudyConfig) -> Prepared:
    """Read, cap and divide a data set; the same in every process.

    Raises
    ------
    DataError
        As the vault's, the public set's and :func:`koinon.data.make_split`.
    """
    tables, ordered = _read(spec.source)
    if config.max_items is not None or config.max_users is not None:
        tables = cap_tables(tables, max_items=config.max_items, max_users=config.max_users)
    timed = tables.events["timestamp"].null_count() == 0
    protocol: Protocol = spec.protocol or ("time" if timed else "leave-last-out" if ordered else "holdout")
    clock: dict[str, int] = {}
    if protocol == "time":
        clock = dict(zip(("validation_from", "test_from"), global_clock([tables.events]), strict=True))
    settings = SplitConfig(protocol=protocol, cold_items=config.cold_items, **clock)
    split = make_split(spec.base, tables, settings)
    if protocol == "leave-last-out" and config.cold_items > 0:
        split = withhold(split, config.cold_items, settings.seed)
    return Prepared(spec, tables, split, protocol, ordered)


def withhold(split: Split, share: float, seed: int) -> Split:
    """Take the training events of a share of the catalogue out of a division that left nothing cold.

    The items are drawn by a stable hash, as :func:`koinon.data.make_split` draws them for the other protocols; they
    leave training events and histories, and stay candidates and targets.
    """
    ids = split.train.items["item_id"].to_list()
    cold = np.array([stable_unit(seed, "cold", split.train.name, item) < share for item in ids], dtype=np.bool_)
    train = split.train.with_events(split.train.events.take(~cold[split.train.events.item]))
    cold_item = train.item_counts == 0
    return replace(
        split,
        train=train,
        validation=_without(split.validation, cold),
        test=_without(split.test, cold),
        cold_item=cold_item,
    )


def rows_of(evaluation: EvaluationSet, rows: Sequence[int] | NDArray[np.integer]) -> EvaluationSet:
    """Return some rows of an evaluation set, in the order given."""
    chosen = np.asarray(rows, dtype=np.int64)
    places, indptr = _spans(evaluation.history_indptr, chosen)
    targets, target_indptr = _spans(evaluation.target_indptr, chosen)
    return replace(
        evaluation,
        user=evaluation.user[chosen],
        history_indptr=indptr,
        history_items=evaluation.history_items[places],
        target_indptr=target_indptr,
        target_items=evaluation.target_items[targets],
        time=None if evaluation.time is None else evaluation.time[chosen],
        cold_user=evaluation.cold_user[chosen],
        main=evaluation.main[chosen],
        history_times=None if evaluation.history_times is None else evaluation.history_times[places],
        history_marks=None if evaluation.history_marks is None else evaluation.history_marks.take(places),
    )


def sample_rows(evaluation: EvaluationSet, count: int, *, seed: int, least: int = 0) -> NDArray[np.int64]:
    """Rows of at most ``count`` main users with at least ``least`` events of history, a seeded sample, ascending."""
    able = evaluation.main & (np.diff(evaluation.target_indptr) > 0)
    able &= np.diff(evaluation.history_indptr) >= least
    rows = np.flatnonzero(able)
    if len(rows) > count:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    return rows


def _read(source: str) -> tuple[Tables, bool]:
    """Tables, and whether events have an order."""
    if (Path(source) / PARTNER_FILE).is_file():
        vault = Vault.open(Path(source))
        tables, stated = vault.tables(), vault.config.sources.events
        ordered = stated is not None and bool({"timestamp", "order"} & set(stated.columns))
        return tables, ordered or tables.events["timestamp"].null_count() == 0
    if found := BOOKS.fullmatch(source):
        return _books(found["cut"]), False
    return get(source), find_dataset(source).timestamps


def _books(cut: str) -> Tables:
    """Cut as the demonstration's shops are: at most 4,000 items and 8,000 people."""
    if cut == "en":
        tables = get("book-crossing")
        items = tables.items.filter(pl.col("language") == "en")
        tables = Tables(items, tables.events.join(items, on="item_id", how="semi"), tables.users)
    else:
        tables = get(f"book-crossing-{cut}")
    return cap_tables(tables, max_items=DEMO_ITEMS, max_users=DEMO_USERS)


def _is_public(name: str) -> bool:
    from koinon.data.public import list_datasets

    return name in {dataset.name for dataset in list_datasets()}


def _without(evaluation: EvaluationSet, cold: NDArray[np.bool_]) -> EvaluationSet:
    """The same rows with cold items taken out of their histories."""
    keep = ~cold[evaluation.history_items]
    owner = np.repeat(np.arange(len(evaluation)), np.diff(evaluation.history_indptr))[keep]
    indptr = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(evaluation))))).astype(np.int64)
    marks = evaluation.history_marks
    return replace(
        evaluation,
        history_indptr=indptr,
        history_items=evaluation.history_items[keep],
        history_times=None if evaluation.history_times is None else evaluation.history_times[keep],
        history_marks=None if marks is None else marks.take(np.flatnonzero(keep)),
        cold_user=np.diff(indptr) <= 2,
    )


def _spans(indptr: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of what the rows hold, and their new ``indptr``."""
    lengths = np.diff(indptr)[rows]
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    within = np.arange(int(ends[-1])) - np.repeat(ends[:-1], lengths)
    return cast(NDArray[np.int64], np.repeat(indptr[:-1][rows], lengths) + within), ends
