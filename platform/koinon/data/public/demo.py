"""The ten partners of the demonstration, cut from public data, and the one division they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import polars as pl

from koinon.data.public.carrier import Progress
from koinon.data.public.store import cached_tables, get
from koinon.data.split import SplitConfig
from koinon.data.splitting import global_clock, stable_unit
from koinon.data.tables import Tables
from koinon.errors import DataError

__all__ = ["DEMO_ITEMS", "DEMO_PARTNERS", "DEMO_USERS", "DemoPartner", "cap_tables", "demo_split_config", "demo_tables"]

DEMO_ITEMS = 4_000
"""Without ``full`` a demo partner keeps so many items, those with most events."""

DEMO_USERS = 8_000
"""Without ``full`` a demo partner keeps so many users."""

_SEED = 7


@dataclass(frozen=True)
class DemoPartner:
    """One partner of the demonstration.

    Attributes
    ----------
    dataset
        The public data set it is cut from.
    kind
        ``movies`` or ``books``.
    language
        Of its catalogue (ISO 639-1).
    region
        Of its readers, where the language has several shops.
    sensitive
        The attributes of its users; all of them are declared sensitive.
    """

    dataset: str
    kind: str
    language: str
    region: str | None
    sensitive: tuple[str, ...]


_MOVIE_ATTRIBUTES = ("gender", "age", "occupation")
_READER_ATTRIBUTES = ("age", "country")

DEMO_PARTNERS: Mapping[str, DemoPartner] = MappingProxyType(
    {
        "movies-drama": DemoPartner("ml-1m-drama", "movies", "en", None, _MOVIE_ATTRIBUTES),
        "movies-action": DemoPartner("ml-1m-action", "movies", "en", None, _MOVIE_ATTRIBUTES),
        **{
            f"books-en-{region}": DemoPartner(f"book-crossing-en-{region}", "books", "en", region, _READER_ATTRIBUTES)
            for region in ("us", "ca", "uk", "au", "intl")
        },
        **{
            f"books-{language}": DemoPartner(f"book-crossing-{language}", "books", language, None, _READER_ATTRIBUTES)
            for language in ("de", "fr", "es")
        },
    }
)
"""Name to partner, in the order of every table and report."""


def demo_tables(
    name: str, full: bool = False, cache_dir: Path | None = None, progress: Progress | None = None
) -> Tables:
    """Return the canonical tables of one demo partner.

    The catalogue holds items with at least two events; without ``full`` also no more than :data:`DEMO_ITEMS` items and
    :data:`DEMO_USERS` users (:func:`cap_tables`). User ids are shared between partners where people are.

    Raises
    ------
    DataError
        K233 there is no demo partner of that name; else as :func:`koinon.data.public.get`.
    ResourceError
        As :func:`koinon.data.public.get`.
    """
    if name not in DEMO_PARTNERS:
        raise DataError("K233", f"There is no demo partner `{name}`.", f"Choose one of: {', '.join(DEMO_PARTNERS)}.")
    partner = DEMO_PARTNERS[name]

    def make() -> Tables:
        tables = get(partner.dataset, cache_dir, progress)
        tables = replace(tables, users=tables.users.select("user_id", *partner.sensitive))
        if full:
            return cap_tables(tables)
        return cap_tables(tables, max_items=DEMO_ITEMS, max_users=DEMO_USERS)

    return cached_tables(f"demo-{name}{'-full' if full else ''}", make, cache_dir)


def demo_split_config(
    seed: int = _SEED, cache_dir: Path | None = None, progress: Progress | None = None
) -> SplitConfig:
    """Return the division of the demonstration: one clock from all timestamped events, before any cap.

    ``seed`` draws the hold-out of the events that have no time.
    Raises as :func:`koinon.data.public.get` does.
    """
    movies = get("ml-1m", cache_dir, progress)
    validation_from, test_from = global_clock([movies.events])
    return SplitConfig(validation_from=validation_from, test_from=test_from, seed=seed)


def cap_tables(
    tables: Tables,
    *,
    max_items: int | None = None,
    max_users: int | None = None,
    minimum_item_events: int = 2,
    seed: int = _SEED,
) -> Tables:
    """Return a smaller partner: the items with most events, then a sample of the users.

    Items with fewer than ``minimum_item_events`` events go first, then all but the ``max_items`` with most events
    (ties by id). If more than ``max_users`` people are left, those with at least two events are sampled, by a hash of
    ``seed`` and id that is the same at every partner, so that shared people stay shared; otherwise all stay.
    """
    pairs = tables.events.unique(["user_id", "item_id"])
    popular = (
        pairs.group_by("item_id")
        .len()
        .filter(pl.col("len") >= minimum_item_events)
        .sort("len", "item_id", descending=[True, False])
    )
    if max_items is not None:
        popular = popular.head(max_items)
    pairs = pairs.join(popular, on="item_id", how="semi")
    per_user = pairs.group_by("user_id").len().sort("user_id")
    if max_users is not None and per_user.height > max_users:
        useful = per_user.filter(pl.col("len") >= 2)["user_id"].to_list()
        kept = sorted(useful, key=lambda user: stable_unit(seed, "user", user))[:max_users]
        per_user = pl.DataFrame({"user_id": kept}, schema={"user_id": pl.String})
    events = tables.events.join(popular, on="item_id", how="semi", maintain_order="left").join(
        per_user, on="user_id", how="semi", maintain_order="left"
    )
    return Tables(
        items=tables.items.join(events, on="item_id", how="semi", maintain_order="left"),
        events=events,
        users=tables.users.join(events, on="user_id", how="semi", maintain_order="left"),
    )
