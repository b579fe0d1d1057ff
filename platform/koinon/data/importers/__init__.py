"""Readers for well-known public formats that people bring themselves: one ``read(path, …)`` per format.

Each takes the folder (or file) as its publisher packs it and returns canonical tables; a folder of another kind gives
one clear error. What had to be left out is told to ``note``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from koinon.data.importers import amazon, lastfm, mind, movielens, steam
from koinon.data.importers.common import Note
from koinon.data.tables import Tables
from koinon.errors import DataError

__all__ = ["IMPORTERS", "Importer", "Note", "read"]


@dataclass(frozen=True)
class Importer:
    """A format that can be imported.

    Attributes
    ----------
    name
        What the command line calls it.
    title
        For people.
    expects
        Which files must lie in the folder.
    options
        Keyword arguments its ``read`` takes beside ``note``.
    read
        ``read(path, *, note=None, **options) -> Tables``.
    """

    name: str
    title: str
    expects: str
    options: tuple[str, ...]
    read: Callable[..., Tables]


IMPORTERS: Mapping[str, Importer] = MappingProxyType(
    {
        importer.name: importer
        for importer in (
            Importer("amazon-2023", amazon.TITLE, amazon.EXPECTS, ("category",), amazon.read),
            Importer("movielens", movielens.TITLE, movielens.EXPECTS, (), movielens.read),
            Importer("lastfm", lastfm.TITLE, lastfm.EXPECTS, ("items",), lastfm.read),
            Importer("mind", mind.TITLE, mind.EXPECTS, ("translations", "language"), mind.read),
            Importer("steam", steam.TITLE, steam.EXPECTS, ("events",), steam.read),
        )
    }
)
"""Name to importer, in the order they are listed."""


def read(name: str, path: Path, *, note: Note | None = None, **options: str) -> Tables:
    """Import a folder or file of a named format.

    Raises
    ------
    DataError
        K240 the folder is not of that format; K241 a file of it cannot be read; K242 no event is left; K243 there is
        no such format or option.
    """
    if name not in IMPORTERS:
        raise DataError("K243", f"There is no import format `{name}`.", f"Choose one of: {', '.join(IMPORTERS)}.")
    importer = IMPORTERS[name]
    unknown = sorted(set(options) - set(importer.options))
    if unknown:
        known = ", ".join(importer.options) or "none"
        raise DataError("K243", f"`{name}` has no option `{unknown[0]}`.", f"Its options: {known}.")
    return importer.read(Path(path), note=note, **options)
