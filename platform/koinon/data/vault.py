"""The vault: a partner's canonical tables as Parquet, replaced whole or not at all.

``vault/vault.json`` names the current files, each called after its content's hash. A new state is written beside the
old one, then the manifest is replaced in one rename, then files that no manifest names are removed. Whoever is
interrupted leaves the old state whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from koinon.config import atomic_path, write_atomically
from koinon.data.partner import PARTNER_FILE, PartnerConfig
from koinon.data.tables import EVENT_SCHEMA, ITEM_SCHEMA, Tables, context_columns
from koinon.errors import ConfigError, DataError, ResourceError

if TYPE_CHECKING:
    from koinon.data.report import IngestReport

__all__ = ["Progress", "Vault"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0 to 1."""

_SCHEMA_VERSION = 1
_PATIENCE_S = 120.0


class Vault:
    """A partner's folder: ``partner.toml`` and ``vault/``.

    Parameters
    ----------
    root
        The partner's folder.

    Raises
    ------
    ConfigError
        K101-K103 when ``partner.toml`` is missing or wrong.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.config = PartnerConfig.load(self.root)

    @property
    def name(self) -> str:
        """The partner's name."""
        return self.config.name

    @property
    def folder(self) -> Path:
        """Where the Parquet files lie."""
        return self.root / "vault"

    @classmethod
    def create(cls, root: Path, config: PartnerConfig, tables: Tables) -> Vault:
        """Write a partner's folder from canonical tables already at hand.

        People whom the partner was asked to forget are left out again.

        Raises
        ------
        DataError
            K208 a table is not canonical (wrong columns, null or repeated ids, events of unknown items).
        ResourceError
            K801 the disk is full; the old vault stays as it was.
        """
        from koinon.data.erasure import Tombstones

        root = Path(root)
        _check_canonical(tables)
        tombstones = Tombstones(root)
        kept = Tables(tables.items, tombstones.without(tables.events), tombstones.without(tables.users))
        root.mkdir(parents=True, exist_ok=True)
        config.save(root)
        vault = cls(root)
        with vault.lock():
            vault.commit(kept)
        return vault

    @classmethod
    def ingest(cls, root: Path, *, now: int | None = None, progress: Progress | None = None) -> IngestReport:
        """Read the sources named in ``partner.toml``, validate them, and replace the vault.

        Parameters
        ----------
        root
            The partner's folder.
        now
            Milliseconds since 1970 UTC against which "in the future" is judged; ``None``: the clock.
        progress
            Told what is being done.

        Raises
        ------
        DataError
            K200-K208, a source that cannot be used as a whole; faults in single rows go to the quarantine.
        ResourceError
            K801 disk, K802 another process holds the vault.
        """
        from koinon.data.ingest.pipeline import ingest

        return ingest(cls(root), now=now, progress=progress)

    @classmethod
    def open(cls, root: Path, *, progress: Progress | None = None) -> Vault:
        """The partner's vault, read from its sources first where there is none yet or the sources have changed.

        While another process reads them it waits, at most two minutes (errors: as :meth:`ingest`).
        """
        vault = cls(root)
        deadline = time.monotonic() + _PATIENCE_S
        while vault.needs_ingest():
            try:
                cls.ingest(root, progress=progress)
                break
            except ResourceError as error:
                if error.code != "K802" or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        return vault

    @property
    def exists(self) -> bool:
        """Whether anything was ingested yet."""
        return (self.folder / "vault.json").is_file()

    def needs_ingest(self) -> bool:
        """Whether there is no vault yet, or ``partner.toml`` or a source file changed since it was written."""
        if self.config.sources.items is None:
            return False
        if not self.exists:
            return True
        return bool(self.manifest()["sources"] != self.source_state())

    def tables(self) -> Tables:
        """The canonical tables (see :mod:`koinon.data.tables`); events sorted by user and time.

        Raises
        ------
        DataError
            K209 there is no vault yet, or a file of it is damaged.
        """
        return Tables(self._read("items"), self._read("events"), self._read("users"))

    def quarantine(self) -> pl.DataFrame:
        """Every fault found at ingest (columns: :data:`koinon.data.faults.QUARANTINE_SCHEMA`).

        ``kept`` is false for rows that were taken out; true for rows that stay with a remark.
        """
        return self._read("quarantine")

    @property
    def quarantine_file(self) -> Path:
        """The Parquet file behind :meth:`quarantine`."""
        return self.folder / str(self.manifest()["files"]["quarantine"])

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever the tables do."""
        files: dict[str, str] = self.manifest()["files"]
        joined = "\n".join(f"{table} {files[table]}" for table in ("items", "events", "users"))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def manifest(self) -> dict[str, Any]:
        """The content of ``vault/vault.json``.

        Raises
        ------
        DataError
            K209 there is none, or it is damaged.
        """
        path = self.folder / "vault.json"
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                "K209", f"{self.root} has no vault yet.", f"Run `koinon partner check {self.root}`."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(
                "K209", f"{path} is damaged: {error}.", "Remove the vault folder and ingest again."
            ) from error
        return manifest

    def source_state(self) -> dict[str, list[int | str]]:
        """Size and time of change of every source file and a hash of ``partner.toml``: what the vault was made from."""
        state: dict[str, list[int | str]] = {}
        try:
            state[PARTNER_FILE] = [hashlib.sha256((self.root / PARTNER_FILE).read_bytes()).hexdigest()]
        except OSError as error:
            raise ConfigError("K101", f"Cannot read {self.root / PARTNER_FILE}: {error}.", "Check the path.") from error
        for table in ("items", "events", "users"):
            source = getattr(self.config.sources, table)
            if source is not None and source.path is not None:
                path = self.root / source.path
                state[table] = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else []
        return state

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the vault against other writers; freed when the process ends.

        Raises
        ------
        ResourceError
            K801 the folder cannot be written, K802 another process is writing this vault.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".lock").open("w")
        except OSError as error:
            raise ResourceError(
                "K801", f"Cannot write {self.folder}: {error.strerror or error}.", "Check rights and disk space."
            ) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ResourceError(
                    "K802", f"Another process is writing {self.folder}.", "Wait until it has finished."
                ) from error
            yield

    def commit(
        self,
        tables: Tables,
        quarantine: pl.DataFrame | None = None,
        report: Mapping[str, object] | None = None,
        sources: Mapping[str, object] | None = None,
    ) -> None:
        """Replace the vault by a new state, whole or not at all. Call within :meth:`lock`.

        ``sources`` is the :meth:`source_state` that the tables were made from; ``None``: the present one.
        """
        from koinon.data.faults import empty_quarantine

        frames = {
            "items": tables.items,
            "events": tables.events.sort("user_id", "timestamp", maintain_order=True),
            "users": tables.users,
            "quarantine": empty_quarantine() if quarantine is None else quarantine,
        }
        try:
            files = {table: self._write(table, frame) for table, frame in frames.items()}
            manifest = {
                "schema": _SCHEMA_VERSION,
                "files": files,
                "rows": {table: frame.height for table, frame in frames.items()},
                "sources": dict(sources) if sources is not None else self.source_state(),
                "report": dict(report or {}),
            }
            write_atomically(self.folder / "vault.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        finally:
            self._sweep()

    def _write(self, table: str, frame: pl.DataFrame) -> str:
        staged = self.folder / f".{table}.parquet"
        with atomic_path(staged) as temporary:
            try:
                frame.write_parquet(temporary, compression="zstd")
            except pl.exceptions.PolarsError as error:
                raise OSError(str(error)) from error
            digest = _sha256(temporary)
        name = f"{table}-{digest[:16]}.parquet"
        staged.replace(self.folder / name)
        return name

    def _sweep(self) -> None:
        """Remove Parquet files that the manifest does not name: earlier states, and what an interruption left."""
        named = set(self.manifest()["files"].values()) if self.exists else set()
        for path in self.folder.glob("*.parquet"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _read(self, table: str) -> pl.DataFrame:
        for attempt in (1, 2):
            name: str = self.manifest()["files"][table]
            path = self.folder / name
            try:
                if _sha256(path)[:16] != path.stem.rpartition("-")[2]:
                    break
                return pl.read_parquet(path)
            except FileNotFoundError:
                # A writer may have replaced the state between the manifest and the file: look once more.
                if attempt == 2:
                    break
            except (OSError, pl.exceptions.PolarsError):
                break
        raise DataError(
            "K209",
            f"{path} is missing or damaged.",
            f"Remove {self.folder} and run `koinon partner check {self.root}` to read the sources again.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_canonical(tables: Tables) -> None:
    """Refuse tables that are not canonical (K208); a program wrote them, so nothing is quarantined."""
    told = EVENT_SCHEMA | {name: pl.String() for name in context_columns(tables.events)}
    for name, frame, schema in (("items", tables.items, ITEM_SCHEMA), ("events", tables.events, told)):
        if dict(frame.schema) != schema:
            _refuse(f"{name}: columns are {dict(frame.schema)}, expected {schema}")
    if tables.users.schema.get("user_id") != pl.String():
        _refuse("users: there is no text column `user_id`")
    for name, frame, key in (("items", tables.items, "item_id"), ("users", tables.users, "user_id")):
        if frame[key].null_count() or frame[key].n_unique() < frame.height:
            _refuse(f"{name}: `{key}` is empty or repeated in some row")
    for key in ("title", "language", "categories", "text"):
        if tables.items[key].null_count():
            _refuse(f"items: `{key}` is empty in some row")
    if tables.events.select(pl.any_horizontal(pl.col("user_id", "item_id", "kind", "weight").is_null()).any()).item():
        _refuse("events: user_id, item_id, kind or weight is empty in some row")
    strangers = tables.events.join(tables.items, on="item_id", how="anti")
    if strangers.height:
        _refuse(f"events: {strangers.height} of them are of items that are not in the catalogue")


def _refuse(what: str) -> None:
    raise DataError("K208", f"The tables are not canonical: {what}.", "See docs/data-contract.md.")
