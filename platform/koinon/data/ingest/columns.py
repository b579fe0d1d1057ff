"""Which column is which: by its name in the usual languages, by what it holds, by what it shares with other tables."""

from __future__ import annotations

import re

import polars as pl

from koinon.data.ingest.times import parse_times
from koinon.data.validate import EARLIEST

__all__ = ["by_name", "is_id_like", "looks_like_text", "looks_like_time", "overlap", "slug"]

_NAMES: dict[str, dict[str, str]] = {
    "items": {
        "item_id": """itemid item id asin parentasin isbn sku productid product movieid bookid trackid artistid
            articleid newsid appid songid gameid animeid artikelnummer ean gtin""",
        "title": """title name titel titre titulo productname movietitle booktitle itemname producttitle headline
            bezeichnung nombre nom artistname trackname""",
        "creator": "creator author authors bookauthor autor auteur artist brand developer director manufacturer marke",
        "description": "description desc abstract summary plot overview beschreibung descripcion synopsis",
        "language": "language lang languagecode sprache langue idioma locale",
        "categories": "categories category genres genre tags class subjects kategorie kategorien categorie categoria",
        "price": "price preis prix precio listprice cost",
    },
    "events": {
        "user_id": """userid user customerid customer reviewerid reader readerid member memberid visitorid clientid
            accountid kunde kundennummer utilisateur usuario uid profileid""",
        "item_id": """itemid item asin parentasin isbn sku productid product movieid bookid trackid artistid articleid
            newsid appid songid gameid animeid artikelnummer""",
        "timestamp": """timestamp timestampms time date datetime ts createdat eventtime unixreviewtime reviewtime
            zeit datum zeitstempel fecha unixtime at""",
        "order": "position order sequence seq step eventindex",
        "weight": "rating weight score stars playcount count quantity bookrating bewertung note puntuacion ratings",
        "kind": "kind eventtype event type action interaction behavior",
    },
    "users": {
        "user_id": """userid user id customerid customer reviewerid reader readerid member memberid visitorid clientid
            accountid kunde kundennummer utilisateur usuario uid profileid""",
        "consent": "consent optin gdpr gdprconsent einwilligung consentement consentimiento hasconsent",
    },
}


def by_name(table: str, columns: list[str]) -> dict[str, str]:
    """Canonical column to source column, where the name tells; earlier spellings win."""
    folded: dict[str, str] = {}
    for column in columns:
        folded.setdefault(re.sub(r"[^a-z0-9]", "", column.partition(":")[0].casefold()), column)
    found: dict[str, str] = {}
    for canonical, spellings in _NAMES[table].items():
        for spelling in spellings.split():
            if spelling in folded and folded[spelling] not in found.values():
                found[canonical] = folded[spelling]
                break
    return found


def overlap(left: pl.Series, right: pl.Series) -> float:
    """Share of the right column's distinct values that occur in the left one."""
    values = right.drop_nulls().unique()
    return float(values.is_in(left.implode()).mean() or 0.0) if len(values) else 0.0  # type: ignore[arg-type]


def is_id_like(column: pl.Series) -> bool:
    """Nearly every row has its own value."""
    return len(column) > 0 and column.null_count() < 0.05 * len(column) and column.n_unique() >= 0.95 * len(column)


def looks_like_time(column: pl.Series, text: pl.Series, pattern: str | None = None) -> bool:
    """Nine of ten values read as moments between 1980 and 2100, and not all are the same."""
    if text.null_count() == len(text) or text.n_unique() < 2:
        return False
    stamps = parse_times(column, text, "auto", pattern, "UTC")["timestamp"]
    share = stamps.is_between(EARLIEST, 4_102_444_800_000).sum() / (len(text) - text.null_count())
    return bool(share >= 0.9)


def looks_like_text(text: pl.Series) -> float:
    """How much a column reads like titles: distinct, with letters; 0 when it does not."""
    values = text.drop_nulls()
    if values.is_empty():
        return 0.0
    lettered = float(values.str.contains(r"\p{L}{3}").mean() or 0.0)  # type: ignore[arg-type]
    worded = float(values.str.contains(r"\p{L}\s+\S").mean() or 0.0)  # type: ignore[arg-type]
    distinct = values.n_unique() / len(values)
    length = float(values.str.len_chars().mean() or 0.0)  # type: ignore[arg-type]
    # Names are shorter than titles, descriptions much longer.
    fitting = (min(length, 40.0) / 40.0) ** 0.5 if length <= 120 else 0.3
    return lettered * distinct * (0.5 + worded) * fitting if lettered > 0.6 else 0.0


def slug(name: str) -> str:
    """A column's name as an attribute's name: lower case, letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.partition(":")[0].casefold()).strip("_") or "attribute"
