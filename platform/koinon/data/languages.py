"""Language codes: what is accepted, and how the usual spellings become ISO 639-1."""

from __future__ import annotations

import polars as pl

__all__ = ["COMMON_LANGUAGES", "canonical_language", "is_language"]

_CODES = frozenset(
    """aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
    eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka
    kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl
    nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw
    ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu""".split()  # noqa: SIM905
)

_ALIASES = {
    alias: code
    for code, aliases in {
        "ar": "ara arabic",
        "cs": "ces cze czech",
        "da": "dan danish",
        "de": "deu ger german deutsch",
        "el": "ell gre greek",
        "en": "eng english",
        "es": "spa spanish español castellano",
        "fi": "fin finnish",
        "fr": "fra fre french français",
        "he": "heb hebrew iw",
        "hi": "hin hindi",
        "hu": "hun hungarian",
        "it": "ita italian italiano",
        "ja": "jpn japanese jp",
        "ko": "kor korean",
        "nl": "nld dut dutch nederlands",
        "no": "nor norwegian",
        "pl": "pol polish polski",
        "pt": "por portuguese português",
        "ro": "ron rum romanian",
        "ru": "rus russian",
        "sv": "swe swedish",
        "th": "tha thai",
        "tr": "tur turkish",
        "uk": "ukr ukrainian",
        "vi": "vie vietnamese",
        "zh": "zho chi chinese cn",
    }.items()
    for alias in aliases.split()
}

COMMON_LANGUAGES = frozenset(_ALIASES.values())
"""Languages that texts are guessed to be in; any other has to be stated."""


def is_language(code: str) -> bool:
    """Whether a code is a two-letter ISO 639-1 code."""
    return code in _CODES


def canonical_language(column: pl.Expr) -> pl.Expr:
    """ISO 639-1 of a text column: ``en-US``, ``eng``, ``English`` become ``en``; null where it is none of them."""
    stem = column.str.strip_chars().str.to_lowercase().str.split("-").list.first().str.split("_").list.first()
    stem = stem.replace(_ALIASES)
    return pl.when(stem.is_in(list(_CODES))).then(stem)
