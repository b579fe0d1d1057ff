"""The whole way from ``partner.toml`` to a new vault."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import polars as pl

from koinon.data.erasure import Tombstones, drop_withdrawn
from koinon.data.faults import FAULTS
from koinon.data.ingest.prepare import (
    MappedTable,
    canonical_events,
    canonical_items,
    canonical_users,
    prepare_events,
    prepare_items,
    prepare_users,
)
from koinon.data.ingest.raw import RawTable
from koinon.data.ingest.sources import read_source
from koinon.data.partner import Source
from koinon.data.report import IngestReport, TableCount, count_faults
from koinon.data.tables import Tables
from koinon.data.validate import Verdict, judge_events, judge_items, judge_users
from koinon.data.vault import Progress, Vault
from koinon.errors import ConfigError, DataError

__all__ = ["ingest"]

_YES = ("true", "1", "1.0", "yes", "y", "t", "on", "given", "granted", "opt-in", "ja", "oui", "si", "sí")
"""Spellings of a given consent; everything else, an empty field too, counts as none."""


def ingest(vault: Vault, *, now: int | None, progress: Progress | None) -> IngestReport:
    """Read, validate and replace (see :meth:`koinon.data.vault.Vault.ingest`)."""
    started = time.monotonic()
    config, sources = vault.config, vault.config.sources
    if sources.items is None or sources.events is None:
        raise ConfigError(
            "K104",
            f"{vault.root / 'partner.toml'} names no sources to read.",
            "Add [sources.items] and [sources.events], or run `koinon partner init`.",
        )
    tell = progress or (lambda _what, _share: None)
    moment = int(time.time() * 1000) if now is None else now
    with vault.lock():
        state = vault.source_state()
        tell("reading users", 0.0)
        gate = _Gate(vault)
        tell("reading items", 0.1)
        items = judge_items(prepare_items(_mapped(vault, sources.items), config, sources.items))
        tell("reading events", 0.2)
        wanted = gate.admit(_mapped(vault, sources.events))
        tell("checking events", 0.6)
        prepared = prepare_events(wanted.table, config, sources.events)
        events = judge_events(prepared, items.kept["item_id"], gate.known, moment)
        verdicts = {"items": items, "events": events} | ({"users": gate.users} if gate.users else {})
        _refuse_empty(verdicts)
        tell("writing the vault", 0.9)
        quarantine = pl.concat([verdict.faults for verdict in verdicts.values()])
        noted = {(table, code): n for table, verdict in verdicts.items() for code, n in verdict.noted.items()}
        counts = {"items": _count(items), "events": _count(events, wanted)}
        if gate.users is not None:
            counts["users"] = _count(gate.users, gate.admitted)
        users = canonical_users(gate.users.kept) if gate.users else pl.DataFrame(schema={"user_id": pl.String()})
        report = IngestReport(config.name, counts, count_faults(quarantine, noted))
        tables = Tables(canonical_items(items.kept), canonical_events(events.kept), users)
        drop_withdrawn(vault, gate.withdrawn)
        vault.commit(tables, quarantine, report.to_dict(), state)
    tell("done", 1.0)
    return replace(report, fingerprint=vault.fingerprint(), seconds=round(time.monotonic() - started, 3))


def _mapped(vault: Vault, source: Source) -> MappedTable:
    raw: RawTable = read_source(vault.root, source, list(source.mapped.values()))
    return MappedTable.of(raw, source)


@dataclass(frozen=True)
class _Admitted:
    """Rows of people who may be kept, and how many were left out for which reason."""

    table: MappedTable
    withdrawn: int
    forgotten: int


class _Gate:
    """Whom the vault may hold: nobody who was forgotten and, where consent is declared, only who gave it.

    It stands before validation, so that no row of such a person reaches even the quarantine.
    """

    def __init__(self, vault: Vault) -> None:
        self._tombstones = Tombstones(vault.root)
        self._consenting: pl.Series | None = None
        self.users: Verdict | None = None
        self.known: pl.Series | None = None
        self.withdrawn = pl.Series("user_id", [], dtype=pl.String)
        source = vault.config.sources.users
        if source is None:
            return
        table = _mapped(vault, source)
        if vault.config.has_consent:
            given = table.column("consent").str.to_lowercase().is_in(list(_YES)).fill_null(False)
            people = table.column("user_id")
            # Whoever says no in one row and yes in another has not consented.
            refusing = people.filter(~given).drop_nulls()
            self._consenting = people.filter(given & ~people.is_in(refusing.implode()).fill_null(False)).unique()
        self.admitted = self.admit(table)
        self.users = judge_users(prepare_users(self.admitted.table))
        self.known = self.users.kept["user_id"]

    def admit(self, table: MappedTable) -> _Admitted:
        """Leave out the rows of people who may not be kept."""
        people = table.column("user_id")
        forgotten = people.is_in(self._tombstones.forgotten(people).implode()).fill_null(False)
        withdrawn = pl.repeat(False, len(people), dtype=pl.Boolean, eager=True)
        if self._consenting is not None:
            withdrawn = ~people.is_in(self._consenting.implode()).fill_null(False) & people.is_not_null() & ~forgotten
            self.withdrawn = self.withdrawn.append(people.filter(withdrawn).rename("user_id")).unique()
        return _Admitted(table.take(~(forgotten | withdrawn)), int(withdrawn.sum()), int(forgotten.sum()))


def _count(verdict: Verdict, admitted: _Admitted | None = None) -> TableCount:
    withdrawn, forgotten = (admitted.withdrawn, admitted.forgotten) if admitted else (0, 0)
    kept, quarantined = verdict.kept.height, verdict.read - verdict.kept.height
    return TableCount(kept + quarantined + withdrawn + forgotten, kept, quarantined, withdrawn, forgotten)


def _refuse_empty(verdicts: dict[str, Verdict]) -> None:
    """Raise K208 when no item or no event is good: the mapping is wrong, not the rows."""
    for table in ("items", "events"):
        verdict = verdicts[table]
        if verdict.kept.height:
            continue
        found = verdict.faults.filter(~pl.col("kept"))
        example = ""
        if found.height:
            code = found["code"].mode(maintain_order=True)[0]
            first = found.filter(pl.col("code") == code).row(0, named=True)
            place = f"{first['file']}, row {first['row']}"
            place += f", column `{first['column']}`" if first["column"] else ""
            quoted = f" (value: {first['value']!r})" if first["value"] else ""
            example = f" The first of {found.filter(pl.col('code') == code).height} like it: {place}{quoted}: "
            example += f"{code} {first['reason']}"
            remedy = FAULTS[code].remedy
        else:
            remedy = "Check the consent column and the source."
        raise DataError("K208", f"No usable row is left in {table}.{example}", remedy)
