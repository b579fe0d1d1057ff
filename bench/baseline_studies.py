"""What the baselines are measured on: public sets, and four more that a folder holds (see docs/baselines.md)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from koinon.data import PartnerConfig, Split, SplitConfig, Tables, Vault, global_clock, make_split
from koinon.data.partner import PARTNER_FILE
from koinon.data.public import DEMO_ITEMS, DEMO_USERS, cap_tables, get

__all__ = ["STUDIES", "Study"]

FOLDERS: Mapping[str, dict[str, Any]] = {
    "music-lastfm": {
        "items": {"item_id": "item_id", "title": "title"},
        "events": {"user_id": "user_id", "item_id": "item_id", "order": "timestamp_ms"},
    },
    "games-amazon": {
        "items": {"item_id": "item_id", "title": "title"},
        "events": {"user_id": "user_id", "item_id": "item_id", "order": "position"},
    },
    "office-amazon": {
        "items": {"item_id": "item_id", "title": "title", "creator": "brand"},
        "events": {"user_id": "user_id", "item_id": "item_id", "order": "position"},
    },
    "anime-mal": {
        "items": {"item_id": "item_id", "title": "title"},
        "events": {"user_id": "user_id", "item_id": "item_id"},
    },
}


@dataclass(frozen=True)
class Study:
    """One data set under one protocol.

    Attributes
    ----------
    title
        As the table names it.
    load
        Gives the tables, from the folder of data sets that are not public downloads where one is needed.
    config
        How events are divided; ``time`` takes its clock from the set's own events.
    ordered
        Whether its events have an order, so that a sequence can be read.
    local
        Whether it comes from that folder.
    """

    title: str
    load: Callable[[Path | None], Tables]
    config: SplitConfig
    ordered: bool
    local: bool = False

    def split(self, name: str, data: Path | None) -> Split:
        """Divide the events."""
        tables = self.load(data)
        config = self.config
        if config.protocol == "time":
            begins = dict(zip(("validation_from", "test_from"), global_clock([tables.events]), strict=True))
            config = SplitConfig.model_validate({**config.model_dump(), **begins})
        return make_split(name, tables, config)


def _capped(tables: Tables) -> Tables:
    return cap_tables(tables, max_items=DEMO_ITEMS, max_users=DEMO_USERS)


def _public(name: str, data: Path | None) -> Tables:
    return get(name)


def _shop(name: str, data: Path | None) -> Tables:
    return _capped(get(name))


def _english(data: Path | None) -> Tables:
    tables = get("book-crossing")
    items = tables.items.filter(language="en")
    return _capped(Tables(items, tables.events.join(items, on="item_id", how="semi"), tables.users))


def _from_folder(folder: str, caps: bool, data: Path | None) -> Tables:
    """Read a folder's items and events as a partner's are read."""
    if data is None:
        raise SystemExit(f"{folder} needs --data, the folder that holds it.")
    sources = {
        table: {"path": str((data / folder / f"{table}.csv.gz").resolve()), "format": "csv", "columns": columns}
        for table, columns in FOLDERS[folder].items()
    }
    config = PartnerConfig.model_validate({"name": folder, "sources": sources})
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / PARTNER_FILE).write_text(config.to_toml())
        Vault.ingest(Path(place))
        tables = Vault.open(Path(place)).tables()
    return _capped(tables) if caps else tables


BY_TIME = SplitConfig(protocol="time")
BY_LAST = SplitConfig(protocol="leave-last-out")
ALL_BY_LAST = SplitConfig(protocol="leave-last-out", minimum_item_events=1)
BY_HOLDOUT = SplitConfig(protocol="holdout")

STUDIES: Mapping[str, Study] = {
    "books-it": Study("books, Italian", partial(_shop, "book-crossing-it"), BY_HOLDOUT, False),
    "books-en-au": Study("books, English, au", partial(_shop, "book-crossing-en-au"), BY_HOLDOUT, False),
    "books-es": Study("books, Spanish", partial(_shop, "book-crossing-es"), BY_HOLDOUT, False),
    "books-fr": Study("books, French", partial(_shop, "book-crossing-fr"), BY_HOLDOUT, False),
    "books-en-uk": Study("books, English, uk", partial(_shop, "book-crossing-en-uk"), BY_HOLDOUT, False),
    "ml-100k-time": Study("ml-100k, by time", partial(_public, "ml-100k"), BY_TIME, True),
    "ml-100k-last": Study("ml-100k, last event", partial(_public, "ml-100k"), ALL_BY_LAST, True),
    "books-de": Study("books, German", partial(_shop, "book-crossing-de"), BY_HOLDOUT, False),
    "books-en-ca": Study("books, English, ca", partial(_shop, "book-crossing-en-ca"), BY_HOLDOUT, False),
    "office": Study("office", partial(_from_folder, "office-amazon", False), BY_LAST, True, True),
    "books-en-us": Study("books, English, us", partial(_shop, "book-crossing-en-us"), BY_HOLDOUT, False),
    "books-en": Study("books, English, all", _english, BY_HOLDOUT, False),
    "games": Study("games", partial(_from_folder, "games-amazon", True), BY_LAST, True, True),
    "ml-1m-time": Study("ml-1m, by time", partial(_public, "ml-1m"), BY_TIME, True),
    "ml-1m-last": Study("ml-1m, last event", partial(_public, "ml-1m"), ALL_BY_LAST, True),
    "music": Study("music", partial(_from_folder, "music-lastfm", False), BY_LAST, True, True),
    "anime": Study("anime", partial(_from_folder, "anime-mal", False), BY_HOLDOUT, False, True),
}
"""By name, cheapest first."""
