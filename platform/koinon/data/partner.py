"""``partner.toml``: what a partner says about itself, its sources and its people."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Formatter
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from koinon.config import Config, write_atomically
from koinon.data.languages import is_language
from koinon.data.tables import CONTEXT

__all__ = [
    "CANONICAL_COLUMNS",
    "PARTNER_FILE",
    "EventSource",
    "ItemSource",
    "PartnerConfig",
    "Source",
    "Sources",
    "UserPolicy",
    "UserSource",
    "template_fields",
]

PARTNER_FILE = "partner.toml"

CANONICAL_COLUMNS: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title", "creator", "description", "language", "categories", "price"),
    "events": ("user_id", "item_id", "timestamp", "order", "kind", "weight"),
    "users": ("user_id", "consent"),
}
"""The columns a source may be mapped to. Items and users may add further ones (template fields, attributes)."""

_REQUIRED = {"items": ("item_id",), "events": ("user_id", "item_id"), "users": ("user_id",)}

Format = Literal["auto", "csv", "tsv", "parquet", "jsonl", "recbole", "database"]
TimeUnit = Literal["auto", "s", "ms", "us", "ns", "text"]


def template_fields(template: str) -> tuple[str, ...]:
    """Names of the fields of a text template, in order: ``"{title}. {creator}"`` gives ``("title", "creator")``."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name is not None)


class Source(Config):
    """Where one table comes from, and which of its columns is which.

    Either ``path`` (a file) or ``url`` with ``table`` or ``query`` (a database).
    """

    path: str | None = None
    """A file; a relative one is taken from the partner's folder. ``.gz`` is unpacked on the fly."""
    url: str | None = None
    """``sqlite:///file.db``, ``duckdb:///file.duckdb`` or ``postgresql://user@host/database``. Keep the password out
    of it: libpq reads ``~/.pgpass``."""
    table: str | None = None
    """Database: the table or view to read whole."""
    query: str | None = None
    """Database: a SELECT instead of a table."""
    format: Format = "auto"
    """``auto`` goes by the file's ending: csv, tsv, txt, parquet, jsonl, ndjson, inter, item, user (RecBole)."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=4)
    """Field separator of a text table; ``None``: comma for csv, tab for tsv and RecBole."""
    quote: str = Field(default='"', max_length=1)
    """Quote character of a text table; empty: none."""
    escape: str = Field(default='"', max_length=1)
    """What escapes a quote within quotes: the quote itself, or a backslash."""
    encoding: str = "utf-8"
    """Encoding of a text file, any name Python knows (``latin-1``, ``cp1252``, ``utf-16`` ...)."""
    header: bool = True
    """Whether the first row names the columns; without one they are called ``c1, c2, ...``."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Canonical column to the source's column."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("give either `path` (a file) or `url` (a database)")
        if self.url is not None and (self.table is None) == (self.query is None):
            raise ValueError("a database source needs either `table` or `query`")
        if len(set(self.columns.values())) < len(self.columns) and not isinstance(self, ItemSource):
            raise ValueError("one source column is mapped to two canonical columns")
        return self

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError as error:
            raise ValueError(f"no encoding is called {value!r}; try utf-8, latin-1, cp1252 or utf-16") from error
        return value

    @property
    def mapped(self) -> dict[str, str]:
        """Everything that is read: canonical column to the source's column."""
        return self.columns

    @property
    def label(self) -> str:
        """How faults name this source: the file's path, or the database's table without credentials."""
        if self.path is not None:
            return self.path
        url = re.sub(r"//[^@/]*@", "//", self.url or "")
        return f"{url}#{self.table or 'query'}"


class ItemSource(Source):
    """The catalogue's source. Further ``columns`` may be named for use in the text template."""

    list_separator: str | None = None
    """Separates the categories of one item; ``None``: ``|`` , ``;`` or ``,``, whichever occurs, in this order."""


class EventSource(Source):
    """The events' source."""

    time_unit: TimeUnit = "auto"
    """Unit of numeric times; ``auto`` goes by the size of the median."""
    time_format: str | None = None
    """strptime format of textual times; ``None``: ISO 8601 and a few common ones."""
    kind: str = "event"
    """Kind of every event where no column gives it."""
    context: dict[str, str] = Field(default_factory=dict)
    """Circumstances of an event (device, place, occasion), as text: a name of small letters, digits and underscores to
    the source's column. Sequence models may read them (``marks``)."""

    @field_validator("context")
    @classmethod
    def _plain_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r} is no name: take small letters, digits and underscores")
        return value

    @property
    def mapped(self) -> dict[str, str]:
        """As :attr:`Source.mapped`, circumstances by their canonical names."""
        return self.columns | {CONTEXT + name: column for name, column in self.context.items()}


class UserSource(Source):
    """The users' source. Every column beyond ``user_id`` and ``consent`` is a declared attribute."""


class Sources(Config):
    """The three tables' sources; all absent where the vault was written by a program (the demo)."""

    items: ItemSource | None = None
    events: EventSource | None = None
    users: UserSource | None = None


class UserPolicy(Config):
    """What is declared about people."""

    sensitive: tuple[str, ...] = ()
    """Declared attributes that are sensitive: used by audits only, never by a recommender, and never guessed."""
    attributes: tuple[str, ...] = ()
    """Declared attributes. With a users source it follows from the mapped columns and may be left out."""


class PartnerConfig(Config):
    """A partner: name, language, sources, people. The content of ``partner.toml``.

    Names are lower-case words joined by hyphens (they become folder names and ids in a federation).
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)
    language: str = "en"
    """ISO 639-1 code of item texts where no column gives it."""
    time_zone: str = "UTC"
    """IANA name; textual times without an offset are read in it."""
    catalogue: Literal["public", "secret"] = "secret"
    """Whether item texts may leave the partner."""
    text: str = "{title}. {creator}"
    """Template of what the encoder reads of an item. Empty fields drop out with the words before them."""
    sources: Sources = Sources()
    users: UserPolicy = UserPolicy()

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        if not is_language(value):
            raise ValueError("use a two-letter ISO 639-1 code such as en, de, fr, es")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("use an IANA name such as UTC or Europe/Athens") from error
        return value

    @field_validator("text")
    @classmethod
    def _usable_template(cls, value: str) -> str:
        try:
            fields = template_fields(value)
        except ValueError as error:
            raise ValueError(f"the template does not parse ({error}); write it as '{{title}}. {{creator}}'") from error
        if not fields or any(not name.isidentifier() for name in fields):
            raise ValueError("the template needs at least one named field, such as {title}")
        return value

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for table, required in _REQUIRED.items():
            source: Source | None = getattr(self.sources, table)
            if source is None:
                continue
            missing = [column for column in required if column not in source.columns]
            if missing:
                raise ValueError(f"sources.{table}.columns: map {', '.join(missing)}")
        if (self.sources.items is None) != (self.sources.events is None):
            raise ValueError("sources: give both items and events, or neither")
        if self.sources.users is not None and self.sources.items is None:
            raise ValueError("sources: users cannot stand alone")
        self._check_item_columns()
        self._check_events_columns()
        unknown = set(self.users.sensitive) - set(self.attributes)
        if unknown:
            raise ValueError(f"users.sensitive names attributes that are not declared: {', '.join(sorted(unknown))}")
        return self

    def _check_item_columns(self) -> None:
        source = self.sources.items
        if source is None:
            return
        fields = template_fields(self.text)
        if not set(fields) & set(source.columns):
            raise ValueError(f"no field of the text template ({', '.join(fields)}) is mapped in sources.items.columns")
        stray = set(source.columns) - set(CANONICAL_COLUMNS["items"]) - set(fields)
        if stray:
            raise ValueError(
                f"sources.items.columns: {', '.join(sorted(stray))} is neither canonical nor used in the template"
            )

    def _check_events_columns(self) -> None:
        if self.sources.events is not None:
            stray = set(self.sources.events.columns) - set(CANONICAL_COLUMNS["events"])
            if stray:
                raise ValueError(f"sources.events.columns: {', '.join(sorted(stray))} is not a canonical column")

    @property
    def attributes(self) -> tuple[str, ...]:
        """Declared user attributes, sensitive ones included."""
        if self.users.attributes:
            return self.users.attributes
        if self.sources.users is None:
            return ()
        return tuple(name for name in self.sources.users.columns if name not in CANONICAL_COLUMNS["users"])

    @property
    def sensitive(self) -> tuple[str, ...]:
        """Declared attributes that are sensitive."""
        return self.users.sensitive

    @property
    def has_consent(self) -> bool:
        """Whether a consent column is declared; then only people who said yes are kept."""
        return self.sources.users is not None and "consent" in self.sources.users.columns

    @classmethod
    def load(cls, root: Path) -> PartnerConfig:
        """Read ``partner.toml`` of a partner's folder (errors: see :meth:`koinon.config.Config.from_toml`)."""
        return cls.from_toml(root / PARTNER_FILE)

    def to_toml(self, comments: dict[str, str] | None = None) -> str:
        """Write as TOML; ``comments`` maps dotted keys (``sources.items.encoding``) to a remark beside the line."""
        always = ("name", "language", "time_zone", "catalogue", "text")
        values: dict[str, object] = {key: getattr(self, key) for key in always}
        values |= self.model_dump(mode="json", exclude_defaults=True)
        lines: list[str] = []
        _write_table(values, (), lines, comments or {})
        return "\n".join(lines).strip() + "\n"

    def save(self, root: Path, comments: dict[str, str] | None = None) -> Path:
        """Write ``partner.toml`` whole or not at all; returns its path."""
        target = root / PARTNER_FILE
        write_atomically(target, self.to_toml(comments))
        return target


def _write_table(values: dict[str, object], path: tuple[str, ...], lines: list[str], comments: dict[str, str]) -> None:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    if path and plain:
        lines += ["", f"[{'.'.join(_key(part) for part in path)}]"]
    for key, value in plain.items():
        comment = comments.get(".".join((*path, key)))
        lines.append(f"{_key(key)} = {_value(value)}" + (f"  # {comment}" if comment else ""))
    for key, value in values.items():
        if isinstance(value, dict):
            _write_table(value, (*path, key), lines, comments)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON strings are TOML basic strings, but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
