"""``koinon partner init``: a first ``partner.toml`` by looking at the files, saying what was guessed and why."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from koinon.data.ingest import columns as look
from koinon.data.ingest.raw import ROW
from koinon.data.ingest.sniff import sniff
from koinon.data.ingest.sources import read_source
from koinon.data.ingest.times import unit_of
from koinon.data.ingest.values import as_text
from koinon.data.languages import COMMON_LANGUAGES, canonical_language
from koinon.data.partner import EventSource, ItemSource, PartnerConfig, Source, Sources, UserPolicy, UserSource
from koinon.errors import ConfigError, DataError

__all__ = ["Guess", "guess_language", "guess_partner"]

_SAMPLE = {"items": 200_000, "events": 50_000, "users": 200_000}
_DATE_FORMATS = ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d", "%m %d, %Y", "%b %d, %Y", "%d %b %Y")
_CLOCKS = ("", " %H:%M:%S", " %H:%M")


@dataclass
class Guess:
    """A configuration and what was guessed.

    Attributes
    ----------
    config
        Ready to be written.
    said
        Dotted key of ``partner.toml`` to a remark on how its value came about.
    open
        What could not be told and stays with its default, or should be looked at.
    """

    config: PartnerConfig
    said: dict[str, str] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)


@dataclass
class _Looked:
    """One source, sampled."""

    table: str
    settings: dict[str, str | bool | None]
    typed: pl.DataFrame
    text: pl.DataFrame
    mapping: dict[str, str]
    said: dict[str, str]

    def free(self) -> list[str]:
        return [name for name in self.text.columns if name not in self.mapping.values()]


def guess_partner(
    root: Path,
    items: str,
    events: str,
    users: str | None = None,
    *,
    stated: Mapping[str, Mapping[str, str]] | None = None,
    sensitive: Sequence[str] = (),
    name: str | None = None,
    language: str | None = None,
    time_zone: str = "UTC",
) -> Guess:
    """Guess a partner's configuration.

    Parameters
    ----------
    root
        The partner's folder; its name becomes the partner's unless ``name`` is given.
    items, events, users
        Files, or databases as ``sqlite:///file.db#table``.
    stated
        ``{"events": {"user_id": "kunde"}}``: columns the user names; nothing is guessed about them.
    sensitive
        Attributes the user declares sensitive; never guessed.
    name, language, time_zone
        Stated rather than guessed.

    Raises
    ------
    DataError
        K200-K207 a source cannot be used, K227 a column that is needed cannot be told.
    ConfigError
        K103 a stated value is not usable.
    """
    given = stated or {}
    catalogue = _look(root, "items", items, given.get("items", {}))
    history = _look(root, "events", events, given.get("events", {}))
    people = _look(root, "users", users, given.get("users", {})) if users else None
    _link(catalogue, history, "item_id")
    if people is not None:
        _link(people, history, "user_id")
    _require(history, "user_id")
    remarks: list[str] = []
    fields = _item_fields(catalogue)
    event_settings = _event_times(history, remarks)
    texts = _sample_texts(catalogue, fields)
    if language is None and "language" not in catalogue.mapping:
        language, share = guess_language(texts)
        if share < 0.6:
            remarks.append(f"The texts do not tell their language clearly: `{language}` is a guess; check `language`.")
        catalogue.said["language"] = f"guessed from the texts ({share:.0%} of the samples agree)"
    if language is None:
        language = _declared_language(catalogue) or "en"
        catalogue.said["language"] = "the most frequent one of its column; for items without one"
    attributes = _attributes(people, remarks) if people is not None else {}
    missing = [attribute for attribute in sensitive if attribute not in attributes]
    if missing:
        raise ConfigError(
            "K103",
            f"--sensitive {missing[0]}: no such attribute; the users table gives {', '.join(attributes) or 'none'}.",
            "Name one of these.",
        )
    if attributes and not sensitive:
        remarks.append("No attribute is declared sensitive: audits need it; name them in `users.sensitive`.")
    values: dict[str, object] = {
        "name": name or _name_of(root),
        "language": language,
        "time_zone": time_zone,
        "text": ". ".join(f"{{{name}}}" for name in fields),
        "sources": Sources(
            items=ItemSource.from_dict({**catalogue.settings, "columns": catalogue.mapping}),
            events=EventSource.from_dict({**history.settings, **event_settings, "columns": history.mapping}),
            users=None
            if people is None
            else UserSource.from_dict({**people.settings, "columns": people.mapping | attributes}),
        ),
        "users": UserPolicy(sensitive=tuple(sensitive)),
    }
    said = {"text": "what the encoder reads; edit freely"} | {
        (key if key == "language" else f"sources.{looked.table}.{key}"): remark
        for looked in (catalogue, history, people)
        if looked is not None
        for key, remark in looked.said.items()
    }
    if "timestamp" in history.mapping and time_zone == "UTC" and event_settings.get("time_unit") == "text":
        remarks.append("Times without an offset are read in UTC: set `time_zone` if they are local.")
    return Guess(PartnerConfig.from_dict(values), said, remarks)


def guess_language(texts: Sequence[str]) -> tuple[str, float]:
    """ISO 639-1 of most of the texts and the share of samples that agree; titles are judged twenty at a time."""
    import py3langid

    groups = [" \n".join(texts[start : start + 20]) for start in range(0, min(len(texts), 600), 20)]
    if not groups:
        return "en", 0.0
    # The identifier knows many rare languages, and takes names and romanised words for them.
    votes = Counter(
        next(str(code) for code, _ in py3langid.rank(group) if code in COMMON_LANGUAGES) for group in groups
    )
    language, count = votes.most_common(1)[0]
    return language, count / len(groups)


def _name_of(root: Path) -> str:
    """The folder's name as a partner's name: lower-case words without accents, joined by hyphens."""
    plain = unicodedata.normalize("NFKD", root.resolve().name).encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:63].strip("-") or "partner"


def _declared_language(items: _Looked) -> str | None:
    codes = items.text.select(canonical_language(pl.col(items.mapping["language"])).drop_nulls().mode()).to_series()
    return str(codes.sort()[0]) if len(codes) else None


def _look(root: Path, table: str, place: str, stated: Mapping[str, str]) -> _Looked:
    said: dict[str, str] = {}
    settings: dict[str, str | bool | None]
    if "://" in place:
        url, _, name = place.partition("#")
        if not name:
            raise ConfigError("K103", f"{place} names no table.", f"Write it as {url}#TABLE.")
        settings = {"url": url, "table": name}
    else:
        path = Path(place).resolve()
        sniffed = sniff(path)
        inside = path.is_relative_to(root.resolve())
        settings = {"path": str(path.relative_to(root.resolve()) if inside else path)}
        if sniffed.format != _format_by_ending(path):
            settings["format"] = sniffed.format
            said["format"] = "by its content"
        if sniffed.encoding not in (None, "utf-8"):
            settings["encoding"] = sniffed.encoding
            said["encoding"] = "guessed: bytes that are not UTF-8"
        if sniffed.format in ("csv", "tsv") and sniffed.delimiter != {"csv": ",", "tsv": "\t"}[sniffed.format]:
            settings["delimiter"] = sniffed.delimiter
            said["delimiter"] = "guessed: it divides the lines most evenly"
        if sniffed.escape != '"':
            settings["escape"] = sniffed.escape
            said["escape"] = "guessed: backslashes stand before quotes"
        if not sniffed.header:
            settings["header"] = False
            said["header"] = "guessed: the first line looks like data"
    raw = read_source(root, Source.from_dict(dict(settings)), limit=_SAMPLE[table])
    typed = raw.frame.drop(ROW)
    text = pl.DataFrame([as_text(column) for column in typed])
    for canonical, column in stated.items():
        if column not in text.columns:
            raise DataError(
                "K205",
                f"{place} has no column `{column}` for {table}.{canonical}. It has: {', '.join(text.columns)}.",
                "Correct --column.",
            )
    mapping = dict(stated)
    for canonical, column in look.by_name(table, text.columns).items():
        if canonical not in mapping and column not in mapping.values():
            mapping[canonical] = column
            said[f"columns.{canonical}"] = "by its name"
    return _Looked(table, settings, typed, text, mapping, said)


def _format_by_ending(path: Path) -> str | None:
    from koinon.data.ingest.sources import format_of

    try:
        return format_of(Source(path=str(path)))
    except DataError:
        return None


def _link(owner: _Looked, events: _Looked, key: str) -> None:
    """Find the id that two tables share: as named if they overlap, else the columns that overlap most."""
    ours, theirs = owner.mapping.get(key), events.mapping.get(key)
    if ours and theirs and look.overlap(owner.text[ours], events.text[theirs]) > 0.05:
        return
    best, pair = 0.05, None
    for mine in [ours] if f"columns.{key}" not in owner.said and ours else owner.text.columns:
        if mine is None or not look.is_id_like(owner.text[mine]):
            continue
        for other in [theirs] if f"columns.{key}" not in events.said and theirs else events.text.columns:
            share = look.overlap(owner.text[mine], events.text[other]) if other else 0.0
            if share > best:
                best, pair = share, (mine, other)
    if pair is None:
        raise DataError(
            "K227",
            f"No column of {owner.table} ({', '.join(owner.text.columns)}) and of events "
            f"({', '.join(events.text.columns)}) hold the same ids.",
            f"Name them: --column {owner.table}.{key}=NAME --column events.{key}=NAME.",
        )
    for looked, column in zip((owner, events), pair, strict=True):
        for canonical in [name for name, taken in looked.mapping.items() if taken == column and name != key]:
            del looked.mapping[canonical]
            looked.said.pop(f"columns.{canonical}", None)
        looked.mapping[key] = column
        looked.said[f"columns.{key}"] = f"guessed: both tables share these ids ({best:.0%} of them)"


def _require(events: _Looked, key: str) -> None:
    """Without a name to go by, the users are the free column that repeats but has the most different values."""
    if key in events.mapping:
        return
    free = [
        (events.text[name].n_unique(), name)
        for name in events.free()
        if 1 < events.text[name].n_unique() < events.text.height
        and not look.looks_like_time(events.typed[name], events.text[name])
    ]
    if not free:
        raise DataError(
            "K227",
            f"Which column of events holds the users? It has: {', '.join(events.text.columns)}.",
            "Name it: --column events.user_id=NAME.",
        )
    events.mapping[key] = max(free)[1]
    events.said[f"columns.{key}"] = "guessed: the free column with the most different values; please check"


def _item_fields(items: _Looked) -> list[str]:
    """Fields of the text template; finds a title by content where no name tells."""
    if "title" not in items.mapping:
        scored = [(look.looks_like_text(items.text[name]), name) for name in items.free()]
        score, column = max(scored, default=(0.0, ""))
        if score > 0.2:
            items.mapping["title"] = column
            items.said["columns.title"] = "guessed: reads like titles"
    fields: list[str] = [name for name in ("title", "creator", "categories") if name in items.mapping]
    if not fields and "description" in items.mapping:
        fields = ["description"]
    if not fields:
        raise DataError(
            "K227",
            f"Which column of items holds the titles? It has: {', '.join(items.text.columns)}.",
            "Name it: --column items.title=NAME.",
        )
    return fields


def _sample_texts(items: _Looked, fields: Sequence[str]) -> list[str]:
    names = [items.mapping[name] for name in fields if name != "creator"] or [items.mapping[fields[0]]]
    joined = items.text.select(pl.concat_str(names, separator=" ", ignore_nulls=True)).to_series()
    joined = joined.filter(joined.str.len_chars() > 0)
    return joined.sample(min(600, len(joined)), seed=7).to_list()


def _event_times(events: _Looked, remarks: list[str]) -> dict[str, str]:
    """Settle the time column, its unit or format; a column named like a time that holds none is left out."""
    column = events.mapping.get("timestamp")
    candidates = [column] if column else events.free()
    for name in candidates:
        typed, text = events.typed[name], events.text[name]
        if look.looks_like_time(typed, text):
            return _settled(events, name, _unit(typed, text))
        for pattern in (day + clock for day in _DATE_FORMATS for clock in _CLOCKS):
            if look.looks_like_time(typed, text, pattern):
                if pattern[:5] in ("%d/%m", "%d-%m") and look.looks_like_time(
                    typed, text, f"%m{pattern[2]}%d{pattern[5:]}"
                ):
                    remarks.append(f"Times such as {text.drop_nulls()[0]!r} are read day first: check `time_format`.")
                return _settled(events, name, "text") | {"time_format": pattern}
    if column is not None and "columns.timestamp" in events.said:
        del events.mapping["timestamp"], events.said["columns.timestamp"]
        remarks.append(f"Column `{column}` of events is named like a time but holds none: left out.")
    if "timestamp" not in events.mapping:
        remarks.append("Events have no times: evaluation holds out events of each user instead of a period.")
    return {}


def _settled(events: _Looked, column: str, unit: str) -> dict[str, str]:
    if "timestamp" not in events.mapping:
        events.said["columns.timestamp"] = "guessed: reads like times"
    events.mapping["timestamp"] = column
    events.said["time_unit"] = "guessed from the values"
    return {"time_unit": unit}


def _unit(typed: pl.Series, text: pl.Series) -> str:
    number = text.cast(pl.Float64, strict=False)
    if typed.dtype.is_temporal() or number.null_count() > len(number) / 2:
        return "text"
    return str(number.to_frame("n").select(unit_of(pl.col("n").median())).item())


def _attributes(users: _Looked, remarks: list[str]) -> dict[str, str]:
    """Every further column is an attribute, but for what tells single people apart (names, addresses)."""
    found: dict[str, str] = {}
    for name in users.free():
        text = users.text[name]
        if text.dtype == pl.String and len(text) >= 20 and text.n_unique() > 0.5 * len(text):
            remarks.append(f"Column `{name}` of users is nearly unique to each person: left out.")
            continue
        found[look.slug(name)] = name
    return found
