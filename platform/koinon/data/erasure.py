"""Forgetting a person: out of the vault, out of everything derived from it, and kept out.

The source files are the partner's own and are not touched; a keyed hash of the forgotten id (the key lies beside it
and never leaves the partner) keeps the person out when they are read again. Everything derived from events
(:data:`DERIVED`) is removed whole, since nobody can take one person out of a fitted model: a refit is needed. Sums and
updates that left the partner earlier cannot be called back; the next ones are computed from the new vault.

A withdrawn consent does the same at the next ingest, without a tombstone: it may be given again.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from koinon.config import write_atomically
from koinon.data.tables import Tables
from koinon.errors import DataError, ResourceError

if TYPE_CHECKING:
    from koinon.data.vault import Vault

__all__ = ["DERIVED", "Receipt", "Tombstones", "drop_withdrawn", "forget"]

DERIVED = ("models", "cache", "written", "federation/runs", "federation/errors.log")
"""Within a partner's folder: what is computed from events or may quote them, and goes when a person is forgotten.
``written`` is where language models' texts and judgements are kept."""


@dataclass(frozen=True)
class Receipt:
    """What an erasure did; names the person by keyed hash only.

    Attributes
    ----------
    partner
        The partner's name.
    reason
        ``forgotten`` on request, or ``consent withdrawn``.
    people
        BLAKE2b of each id under the partner's own key, 32 hexadecimal digits.
    at
        When, ISO 8601 UTC.
    rows
        Rows removed from the vault's ``events``, ``users`` and ``quarantine``.
    removed
        Derived files and folders that were removed.
    vault_before, vault_after
        Fingerprints; equal when the tables held nothing of the person, the second empty when an ingest follows.
    refit_needed
        Whether fitted models were removed.
    sources
        Sources that may still hold the person; they are the partner's own to clean.
    """

    partner: str
    reason: str
    people: list[str]
    at: str
    rows: dict[str, int]
    removed: list[str]
    vault_before: str
    vault_after: str
    refit_needed: bool
    sources: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def forget(root: Path, user_id: str, *, absent_ok: bool = False, now: datetime | None = None) -> Receipt:
    """Remove a person from a partner and keep the person out.

    Interrupted, it can be run again: the tombstone is written first, and a person with a tombstone counts as known.

    Parameters
    ----------
    root
        The partner's folder.
    user_id
        The person's id as in the sources.
    absent_ok
        Whether a person of whom the vault holds nothing may be put on the list all the same.
    now
        The receipt's time; ``None``: the clock.

    Returns
    -------
    The receipt, also written to ``erasure/receipt-<time>-<hash>.json``.

    Raises
    ------
    DataError
        K209 there is no vault, K225 it holds nothing of such a person, K226 the list of the forgotten is damaged.
    ResourceError
        K801 disk, K802 another process holds the vault.
    """
    from koinon.data.vault import Vault

    vault = Vault(root)
    user_id = user_id.strip()
    with vault.lock():
        tombstones = Tombstones(vault.root)
        tables, quarantine = vault.tables(), vault.quarantine()
        parts = {"events": tables.events, "users": tables.users, "quarantine": quarantine}
        others = {name: frame.filter(pl.col("user_id").ne_missing(user_id)) for name, frame in parts.items()}
        rows = {name: frame.height - others[name].height for name, frame in parts.items()}
        if not any(rows.values()) and not absent_ok and user_id not in tombstones:
            raise DataError(
                "K225",
                f"The vault of {vault.name} holds nothing of a user {user_id!r}.",
                "Check the spelling; --absent-ok keeps the id out of later ingests all the same.",
            )
        person = tombstones.add(user_id)
        before = vault.fingerprint()
        if any(rows.values()):
            kept = Tables(tables.items, others["events"], others["users"])
            manifest = vault.manifest()
            vault.commit(kept, others["quarantine"], manifest["report"], sources=manifest["sources"])
        receipt = _receipt(vault, "forgotten", [person], rows, before, vault.fingerprint(), now)
    return receipt


def drop_withdrawn(vault: Vault, people: pl.Series, *, now: datetime | None = None) -> Receipt | None:
    """Remove what was derived from people whose consent is gone, before an ingest leaves them out of the vault.

    Call within the vault's lock. Returns the receipt, also written to ``erasure/``; nothing if the vault never held
    any of them.
    """
    if people.is_empty() or not vault.exists:
        return None
    tables = vault.tables()
    parts = {"events": tables.events, "users": tables.users, "quarantine": vault.quarantine()}
    held = {name: frame["user_id"].filter(frame["user_id"].is_in(people.implode())) for name, frame in parts.items()}
    found = pl.concat(list(held.values())).unique().sort()
    if found.is_empty():
        return None
    tombstones = Tombstones(vault.root)
    before = vault.fingerprint()
    rows = {name: len(ids) for name, ids in held.items()}
    return _receipt(vault, "consent withdrawn", [tombstones.hash(user) for user in found], rows, before, "", now)


def _receipt(
    vault: Vault, reason: str, people: list[str], rows: dict[str, int], before: str, after: str, now: datetime | None
) -> Receipt:
    removed = _remove_derived(vault.root)
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    receipt = Receipt(
        partner=vault.name,
        reason=reason,
        people=people,
        at=moment.isoformat(timespec="seconds"),
        rows=rows,
        removed=removed,
        vault_before=before,
        vault_after=after,
        refit_needed="models" in removed,
        sources=_source_labels(vault),
    )
    name = f"receipt-{moment:%Y%m%dT%H%M%S%fZ}-{people[0][:8]}.json"
    write_atomically(vault.root / "erasure" / name, json.dumps(receipt.to_dict(), indent=2) + "\n")
    return receipt


def _remove_derived(root: Path) -> list[str]:
    removed = []
    for name in DERIVED:
        path = root / name
        if not path.exists():
            continue
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise ResourceError(
                "K801", f"Cannot remove {path}: {error.strerror or error}.", "Check its rights and run the same again."
            ) from error
        removed.append(name)
    return removed


def _source_labels(vault: Vault) -> list[str]:
    sources = vault.config.sources
    return [source.label for source in (sources.events, sources.users) if source is not None]


class Tombstones:
    """Keyed hashes of the people a partner was asked to forget, in ``erasure/`` of its folder.

    The hash is BLAKE2b with a random 256-bit key made at the first erasure and readable by the owner alone.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "erasure"
        self._key: bytes | None = None
        self._hashes: frozenset[str] = frozenset()
        listed = self._folder / "tombstones.json"
        if listed.is_file():
            try:
                self._key = self._read_key()
                self._hashes = frozenset(json.loads(listed.read_text(encoding="utf-8"))["tombstones"])
            except (OSError, ValueError, KeyError) as error:
                raise DataError(
                    "K226",
                    f"The list of forgotten people in {self._folder} cannot be read: {error}.",
                    "Restore the folder `erasure` from a backup; without it forgotten people would come back.",
                ) from error

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, user_id: str) -> bool:
        return bool(self._hashes) and self.hash(user_id) in self._hashes

    def hash(self, user_id: str) -> str:
        """Keyed hash of an id, 32 hexadecimal digits; makes the key at the first use."""
        if self._key is None:
            path = self._folder / "key"
            if not path.exists():
                write_atomically(path, secrets.token_hex(32), private=True)
            self._key = self._read_key()
        return hashlib.blake2b(user_id.encode(), key=self._key, digest_size=16).hexdigest()

    def _read_key(self) -> bytes:
        return bytes.fromhex((self._folder / "key").read_text(encoding="ascii"))

    def forgotten(self, user_ids: pl.Series) -> pl.Series:
        """Those of the given ids that are to be kept out, each once."""
        if not self._hashes:
            return user_ids.clear()
        distinct = user_ids.drop_nulls().unique()
        return pl.Series(distinct.name, [user for user in distinct if user in self], dtype=pl.String)

    def without(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Drop the rows of forgotten people from a table with a ``user_id``."""
        gone = self.forgotten(frame["user_id"])
        return frame if gone.is_empty() else frame.filter(~pl.col("user_id").is_in(gone.implode()))

    def add(self, user_id: str) -> str:
        """Put an id on the list; returns its hash."""
        digest = self.hash(user_id)
        self._hashes |= {digest}
        content = {"hash": "blake2b-128, keyed", "tombstones": sorted(self._hashes)}
        write_atomically(self._folder / "tombstones.json", json.dumps(content, indent=2) + "\n")
        return digest
