"""A small German book shop with something deployed: as a federation leaves it, without running one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from koinon.clients.serving import Shop
from koinon.data import PartnerConfig, SplitConfig, Tables, Vault, make_split
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA
from koinon.recommenders import store
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.space import open_space

FANTASY = [
    ("Der kleine Hobbit", "J. R. R. Tolkien"), ("Der Hobbit.", "J. R. R. Tolkien"),
    ("Das Silmarillion", "J. R. R. Tolkien"),
    ("Die unendliche Geschichte", "Michael Ende"), ("Momo", "Michael Ende"), ("Momo: ein Märchenroman", "Michael Ende"),
    ("Harry Potter und der Stein der Weisen", "Joanne K. Rowling"),
    ("Harry Potter und der Gefangene von Askaban", "Joanne K. Rowling"), ("Der Zauberer von Oz", "L. Frank Baum"),
    ("Der Drachenreiter", "Cornelia Funke"),
]  # fmt: skip
CRIME = [
    ("Mörder ohne Gesicht", "Henning Mankell"), ("Die fünfte Frau", "Henning Mankell"),
    ("Venezianisches Finale", "Donna Leon"),
    ("Der Name der Rose (Roman)", "Umberto Eco"), ("Das Foucaultsche Pendel", "Umberto Eco"),
    ("Mord im Orientexpress", "Agatha Christie"), ("Und dann gab's keines mehr", "Agatha Christie"),
    ("Der Richter und sein Henker", "Friedrich Dürrenmatt"),
    ("Das Parfum: Die Geschichte eines Mörders", "Patrick Süskind"),
    ("Das fremde Gesicht", "Mary Higgins Clark"),
]  # fmt: skip
BOOKS = FANTASY + CRIME
READERS = 80


def write_bookshop(folder: Path, *, encoder: str = "use-multilingual") -> Path:
    """Readers 0 to 39 read fantasy, the others crime; a tenth of the catalogue is withheld from training as cold."""
    rng = np.random.default_rng(5)
    items = pl.DataFrame(
        {
            "item_id": [f"isbn-{n}" for n in range(len(BOOKS))],
            "title": [title for title, _ in BOOKS],
            "creator": [creator for _, creator in BOOKS],
            "description": [None] * len(BOOKS),
            "language": ["de"] * len(BOOKS),
            "categories": [[]] * len(BOOKS),
            "price": [None] * len(BOOKS),
            "text": [f"{title.strip('.')}. {creator}" for title, creator in BOOKS],
        },
        schema=ITEM_SCHEMA,
    )
    rows = []
    for reader in range(READERS):
        shelf = np.arange(0, 10) if reader < READERS // 2 else np.arange(10, 20)
        rows += [
            (f"reader-{reader}", f"isbn-{book}", None, "rating", 1.0) for book in rng.choice(shelf, 5, replace=False)
        ]
    events = pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")
    people = pl.DataFrame({"user_id": [f"reader-{n}" for n in range(READERS)]}, schema={"user_id": pl.String()})
    config = PartnerConfig(name="buchladen", language="de", catalogue="public")
    vault = Vault.create(folder, config, Tables(items, events, people))
    policy = SplitConfig(minimum_item_events=1, cold_items=0.1)
    split = make_split(vault.name, vault.tables(), policy)
    space = None if encoder == "none" else open_space(encoder)
    model = SemanticEASE(SemanticEaseConfig(lambda_=10.0)).fit(split.train, open_space(), rng=rng)
    store.save(model, folder / "models" / "local_space", split.train, space)
    deployed = {"arm": "local_space", "encoder": encoder, "split": policy.model_dump(mode="json")}
    (folder / "models" / "deployed.json").write_text(json.dumps(deployed))
    return folder


@pytest.fixture(scope="session")
def bookshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's folder, within a folder that holds partners as a demonstration's output does."""
    return write_bookshop(tmp_path_factory.mktemp("demo") / "partners" / "buchladen")


@pytest.fixture(scope="session")
def shop(bookshop: Path) -> Shop:
    return Shop.open(bookshop)


@pytest.fixture
def other_shop(tmp_path: Path) -> Path:
    """A shop in English that knows reader-0 and ``anna``, whom the German shop does not know."""
    titles = [
        ("Faceless Killers", "Henning Mankell"),
        ("The Fifth Woman", "Henning Mankell"),
        ("Mord im Orientexpress", "Agatha Christie"),
    ]
    items = pl.DataFrame(
        {
            "item_id": [f"b{n}" for n in range(3)], "title": [t for t, _ in titles], "creator": [c for _, c in titles],
            "description": [None] * 3, "language": ["en"] * 3, "categories": [[]] * 3, "price": [None] * 3,
            "text": [f"{t}. {c}" for t, c in titles],
        },
        schema=ITEM_SCHEMA,
    )  # fmt: skip
    rows = [(user, f"b{n}", None, "rating", 1.0) for user in ("anna", "reader-0") for n in range(3)]
    people = pl.DataFrame({"user_id": ["anna", "reader-0"]}, schema={"user_id": pl.String()})
    config = PartnerConfig(name="bookshop", language="en", catalogue="public")
    Vault.create(
        tmp_path / "bookshop", config, Tables(items, pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row"), people)
    )
    return tmp_path / "bookshop"
