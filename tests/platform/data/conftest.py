"""A small German bookshop as files, the stranger's data of most tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

ITEMS = """\
id,titel,autor,preis,sprache,genre
b1,Das fremde Gesicht,Mary Higgins Clark,9.90,de,Krimi|Thriller
b2,"Der ""kleine"" Prinz",Antoine de Saint-Exupéry,"8,50",deu,Kinder
b3,Momo,Michael Ende,,de,
b4,The Hobbit,J. R. R. Tolkien,12,en-GB,Fantasy
"""

EVENTS = """\
kunde,buch,zeit,note
k1,b1,2024-03-01 10:00:00,5
k1,b2,2024-03-02 10:00:00,4
k2,b1,2024-02-01 09:30:00,3
k2,b3,2024-02-02T09:30:00Z,5
k3,b2,2024-07-01 12:00:00,1
"""

USERS = """\
kunde,geschlecht,alter
k1,f,34
k2,m,51
k3,f,27
"""

PARTNER = """\
name = "buecher"
language = "de"
time_zone = "Europe/Berlin"

[sources.items]
path = "items.csv"

[sources.items.columns]
item_id = "id"
title = "titel"
creator = "autor"
price = "preis"
language = "sprache"
categories = "genre"

[sources.events]
path = "events.csv"

[sources.events.columns]
user_id = "kunde"
item_id = "buch"
timestamp = "zeit"
weight = "note"

[sources.users]
path = "users.csv"

[sources.users.columns]
user_id = "kunde"
gender = "geschlecht"
age = "alter"

[users]
sensitive = ["gender"]
"""


class Shop:
    """Makes a partner's folder; single files can be replaced or lengthened, ``partner.toml`` edited."""

    ITEMS, EVENTS, USERS, PARTNER = ITEMS, EVENTS, USERS, PARTNER

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    def __call__(
        self,
        *,
        items: str | bytes = ITEMS,
        events: str | bytes = EVENTS,
        users: str | bytes = USERS,
        more_items: str = "",
        more_events: str = "",
        more_users: str = "",
        edit: tuple[str, str] = ("", ""),
    ) -> Path:
        folder = self.parent / "shop"
        folder.mkdir(exist_ok=True)
        tables = {"items": (items, more_items), "events": (events, more_events), "users": (users, more_users)}
        for table, (content, more) in tables.items():
            whole = (content if isinstance(content, bytes) else content.encode()) + more.encode()
            (folder / f"{table}.csv").write_bytes(whole)
        assert edit[0] in PARTNER
        (folder / "partner.toml").write_text(PARTNER.replace(*edit) if edit[0] else PARTNER)
        return folder


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
