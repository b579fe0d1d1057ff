"""What is audited, opened: each source's events divided, its recommender fitted or fetched, its people's attributes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from koinon.data import Domain, Split, Tables, Vault, global_clock, make_split
from koinon.errors import EvaluationError
from koinon.fairness.plan import AuditPlan
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.store import DESCRIPTION, load
from koinon.recommenders.training import build, config_type, known_before_test
from koinon.space import Space, open_space

__all__ = [
    "DATASET",
    "Source",
    "attribute_table",
    "fingerprint",
    "folder_of",
    "open_sources",
    "open_tables",
    "release_of",
    "source_name",
]

DATASET = "dataset:"


@dataclass(frozen=True)
class Source:
    """One partner, or one public data set that stands for one.

    Attributes
    ----------
    name
        As the report says it.
    tables
        Canonical tables.
    split
        The division of its events.
    known
        The domain with what was known before the test.
    recommender
        Fitted on it.
    space
        What it reads texts with.
    """

    name: str
    tables: Tables
    split: Split
    known: Domain
    recommender: Recommender
    space: Space | None = None


def folder_of(source: str, root: Path) -> Path:
    """Where a source's folder lies; ``root`` need not be there yet."""
    return Path(os.path.normpath(root.resolve() / source))


def source_name(source: str) -> str:
    """The name of a source of a plan: the data set's, or the folder's."""
    return source.removeprefix(DATASET) if source.startswith(DATASET) else Path(source).resolve().name


def open_tables(source: str, root: Path, attributes: tuple[str, ...], basis: str) -> Tables:
    """Read one source's tables.

    Parameters
    ----------
    source, root
        ``dataset:NAME`` or a partner's folder, relative to ``root``.
    attributes
        Attributes that the audit uses.
    basis
        The plan's ground for using sensitive ones.

    Raises
    ------
    EvaluationError
        K512 an attribute is not declared there, K525 one is sensitive and nobody has said that it may be used.
    DataError
        The data set or the vault cannot be read.
    """
    sensitive: tuple[str, ...] = ()
    consent = False
    if source.startswith(DATASET):
        from koinon.data.public import get

        tables = get(source.removeprefix(DATASET))
        declared = tuple(column for column in tables.users.columns if column != "user_id")
    else:
        vault = Vault.open(folder_of(source, root))
        tables, declared = vault.tables(), vault.config.attributes
        sensitive, consent = vault.config.sensitive, vault.config.has_consent
    for name in attributes:
        if name not in declared or name not in tables.users.columns:
            raise EvaluationError(
                "K512",
                f"{source_name(source)} declares no attribute {name!r}.",
                f"Declared: {', '.join(declared) or 'none'}.",
            )
        if name in sensitive and not consent and not basis.strip():
            raise EvaluationError(
                "K525",
                f"{source_name(source)} declares {name!r} sensitive, and nobody has consented to its use.",
                "Add a consent column to the users' source, or state `data.basis` in the plan.",
            )
    return tables


def release_of(folder: Path) -> str:
    """SHA-256 (hex) of a kept recommender's description, which names its arrays' hash.

    Raises
    ------
    EvaluationError
        K526 there is none.
    """
    try:
        return hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()
    except OSError as error:
        raise EvaluationError(
            "K526", f"No recommender is kept in {folder}.", "Name the folder it is kept in."
        ) from error


def open_sources(plan: AuditPlan, root: Path) -> list[Source]:
    """Open every source of a plan; folders are relative to ``root``.

    Raises
    ------
    EvaluationError
        K512, K525 as :func:`open_tables`; K526 the kept recommender is not the one that the plan names.
    RecommenderError
        K404, K412 it reads texts, and ``system.encoder`` names no space or another one.
    """
    attributes = tuple(dict.fromkeys(g.column or g.name for g in plan.groups if g.by == "attribute"))
    every = {source: open_tables(source, root, attributes, plan.data.basis) for source in plan.data.sources}
    clock: dict[str, int] = {}
    if plan.data.protocol == "time":
        moments = global_clock([tables.events for tables in every.values()])
        clock = dict(zip(("validation_from", "test_from"), moments, strict=True))
    config = plan.data.split_config(clock)
    space = None if plan.system.encoder is None else open_space(plan.system.encoder)
    found = []
    for source, tables in every.items():
        name = source_name(source)
        split = make_split(name, tables, config)
        known = known_before_test(split)
        found.append(Source(name, tables, split, known, _recommender(plan, root, source, known, space), space))
    return found


def _recommender(plan: AuditPlan, root: Path, source: str, known: Domain, space: Space | None) -> Recommender:
    system = plan.system
    if system.kept is None:
        assert system.recommender is not None
        settings = config_type(system.recommender).from_dict(dict(system.settings), source="system.settings")
        return build(system.recommender, settings).fit(known, space, rng=np.random.default_rng(plan.seed))
    folder = folder_of(source, root) / system.kept
    name, release = source_name(source), release_of(folder)
    if system.release.get(name) != release:
        raise EvaluationError(
            "K526",
            f"{name}: what is kept in {system.kept} is not the release that the plan names.",
            "Restore that release, or plan a new audit for this one.",
        )
    return load(folder, known, space)


def attribute_table(source: Source, attributes: Mapping[str, str]) -> pl.DataFrame:
    """``user_id`` and the attributes asked for, under the plan's names."""
    users = source.tables.users
    return users.select(
        "user_id", *(pl.col(column).cast(pl.String).alias(name) for name, column in attributes.items())
    ).unique("user_id", keep="first", maintain_order=True)


def fingerprint(source: Source, attributes: Mapping[str, str]) -> str:
    """SHA-256 (hex) of what an audit reads of a source: catalogue, people, events and the attributes used."""
    split = source.split
    digest = hashlib.sha256()
    for ids in (split.train.items["item_id"].to_list(), split.train.user_ids):
        digest.update("\n".join(ids).encode())
        digest.update(b"\0")
    for column in (split.events.user, split.events.item, split.events.time, split.test.target_items):
        digest.update(b"\0" if column is None else np.ascontiguousarray(column).tobytes())
    digest.update(attribute_table(source, attributes).sort("user_id").write_csv().encode())
    return digest.hexdigest()
