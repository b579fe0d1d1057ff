"""Ten partner folders from public data: what ten companies would have on their own machines."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from koinon.config import write_atomically
from koinon.data import SplitConfig, Tables, Vault
from koinon.data.partner import PartnerConfig, UserPolicy
from koinon.data.public import DEMO_ITEMS, DEMO_PARTNERS, DEMO_USERS, DemoPartner, demo_split_config, demo_tables

__all__ = ["Say", "caps", "prepare_partners"]

Say = Callable[[str], None]
"""Told, in one line, what happens."""


def caps(full: bool) -> dict[str, int | None]:
    """Return what the demonstration leaves out to stay pleasant; ``None``: nothing."""
    return {"items_per_partner": None if full else DEMO_ITEMS, "users_per_partner": None if full else DEMO_USERS}


def prepare_partners(
    root: Path, *, full: bool, seed: int, cache_dir: Path | None = None, say: Say = lambda _: None
) -> tuple[dict[str, Path], SplitConfig]:
    """Fetch the public data and write one folder per partner; a folder that already holds the same is kept.

    ``seed`` draws the hold-out of the events that have no time.

    Returns
    -------
    folders
        Name to folder, in the order of :data:`~koinon.data.public.DEMO_PARTNERS`.
    split
        The division all of them share.

    Raises
    ------
    DataError, ResourceError
        As :func:`koinon.data.public.demo_tables`.
    """
    split = demo_split_config(seed, cache_dir)
    folders = {}
    for name, partner in DEMO_PARTNERS.items():
        tables = demo_tables(name, full, cache_dir)
        folders[name] = _write(root / name, name, partner, tables)
        say(
            f"{name}: {tables.items.height:,} items, {tables.users.height:,} users, {tables.events.height:,} events"
            f" ({partner.dataset}, {partner.language}{', ' + partner.region if partner.region else ''})"
        )
    return folders, split


def _write(folder: Path, name: str, partner: DemoPartner, tables: Tables) -> Path:
    attributes = tuple(column for column in tables.users.columns if column != "user_id")
    config = PartnerConfig(
        name=name,
        language=partner.language,
        catalogue="public",
        text="{title} {categories}" if partner.kind == "movies" else "{title}. {creator}",
        users=UserPolicy(sensitive=partner.sensitive, attributes=attributes),
    )
    mark = folder / "made-from.json"
    wanted = json.dumps({"content": _content(tables), "config": config.model_dump(mode="json")}, sort_keys=True)
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return folder
    if folder.exists():
        shutil.rmtree(folder)
    Vault.create(folder, config, tables)
    write_atomically(mark, wanted)
    return folder


def _content(tables: Tables) -> str:
    digest = hashlib.sha256()
    for table in (tables.items, tables.events, tables.users):
        digest.update(str(table.schema).encode())
        digest.update(table.hash_rows(seed=0).to_numpy().tobytes())
    return digest.hexdigest()
