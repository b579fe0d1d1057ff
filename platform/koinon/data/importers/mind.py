"""MIND (Microsoft News) and its translations xMIND.

Sources: Wu et al., "MIND: A Large-scale Dataset for News Recommendation", ACL 2020; Iana et al., "MIND Your Language:
A Multilingual Dataset for Cross-lingual News Recommendation", SIGIR 2024.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from koinon.data.building import item_table
from koinon.data.importers.common import (
    Note,
    as_text,
    canonical_tables,
    damaged,
    read_delimited,
    wrong_folder,
)
from koinon.data.tables import Tables
from koinon.errors import DataError

__all__ = ["EXPECTS", "LANGUAGES", "TITLE", "read"]

TITLE = "MIND"
EXPECTS = "behaviors.tsv and news.tsv, or one or more folders with both (MINDsmall_train, MINDsmall_dev)"

LANGUAGES = {
    "cmn": "zh", "fin": "fi", "grn": "gn", "hat": "ht", "ind": "id", "jpn": "ja", "kat": "ka", "ron": "ro",
    "som": "so", "swh": "sw", "tam": "ta", "tha": "th", "tur": "tr", "vie": "vi", "zho": "zh",
}  # fmt: skip
"""xMIND's language codes (ISO 639-3) and ours."""

_NEWS = ["news_id", "category", "subcategory", "title", "abstract"]
_BEHAVIOURS = ["impression", "user", "time", "history", "shown"]


def read(
    path: Path, *, translations: str | Path | None = None, language: str | None = None, note: Note | None = None
) -> Tables:
    """Import clicks and, from the histories, earlier clicks; user ids get the prefix ``mind-``.

    Clicks in an impression have its time. Clicks in a history have none; they are known to lie before every impression
    of the same file, so they are placed a millisecond apart right before the first, in their order.

    Parameters
    ----------
    path
        The folder.
    translations
        xMIND: a ``news.tsv`` (``nid, title, abstract``) or Parquet file of one language, or a folder of such. Titles
        and abstracts are taken from it; news without translation is left out.
    language
        Its language, ISO 639-1 or -3; by default the folder's name that is a code of xMIND (``…/ron/…``).
    note
        Told what was left out.

    Raises
    ------
    DataError
        K240 it is no MIND folder, K241 a file of it cannot be read, K242 nothing is left, K243 the language of the
        translations is not known.
    """
    folders = [folder for folder in (path, *_subfolders(path)) if _is_mind(folder)]
    if not folders:
        raise wrong_folder(path, TITLE, EXPECTS)
    news = pl.concat([read_delimited(folder / "news.tsv", _NEWS) for folder in folders])
    news = news.unique("news_id", keep="first", maintain_order=True)
    code = "en"
    if translations is not None:
        code = _language(Path(translations), language)
        translated = _translations(Path(translations))
        news = news.drop("title", "abstract").join(translated, on="news_id", maintain_order="left")
    events = pl.concat([_clicks(folder / "behaviors.tsv") for folder in folders])
    events = events.sort(pl.col("kind") == "history", maintain_order=True).unique(
        ["user_id", "item_id"], keep="first", maintain_order=True
    )
    return canonical_tables(path, _items(news, code), events.sort("timestamp"), note=note)


def _subfolders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []


def _is_mind(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("behaviors.tsv", "news.tsv"))


def _items(news: pl.DataFrame, language: str) -> pl.DataFrame:
    news = news.filter(pl.col("title").str.strip_chars() != "").fill_null("")
    titles, abstracts = news["title"].to_list(), news["abstract"].to_list()
    return item_table(
        news["news_id"].to_list(),
        titles,
        [as_text(title, abstract) for title, abstract in zip(titles, abstracts, strict=True)],
        descriptions=[abstract or None for abstract in abstracts],
        categories=[[name for name in row if name] for row in news.select("category", "subcategory").rows()],
        languages=language,
    )


def _clicks(path: Path) -> pl.DataFrame:
    """Clicks of one file as events; those of histories have kind ``history``."""
    frame = read_delimited(path, _BEHAVIOURS).with_columns(
        pl.col("time").str.to_datetime("%m/%d/%Y %I:%M:%S %p", strict=False, time_unit="ms", time_zone="UTC"),
        user_id=pl.lit("mind-") + pl.col("user"),
    )
    first = frame["time"].min()
    if first is None:
        raise damaged(path, "no row has a time such as `11/11/2019 9:05:58 AM`")
    shown = frame.select("user_id", "time", pl.col("shown").str.split(" ")).explode("shown")
    clicked = shown.filter(pl.col("shown").str.ends_with("-1")).select(
        "user_id", item_id=pl.col("shown").str.strip_suffix("-1"), timestamp="time", kind=pl.lit("click")
    )
    histories = (
        frame.filter(pl.col("history").str.strip_chars() != "")
        .sort(pl.col("history").str.len_bytes(), descending=True, maintain_order=True)
        .unique("user_id", keep="first", maintain_order=True)
        .select("user_id", pl.col("history").str.strip_chars().str.split(" "))
        .with_columns(before=pl.int_ranges(pl.col("history").list.len(), 0, -1))
        .explode("history", "before")
        .select(
            "user_id",
            item_id="history",
            timestamp=pl.lit(first) - pl.duration(milliseconds="before", time_unit="ms"),
            kind=pl.lit("history"),
        )
    )
    return pl.concat([clicked, histories], how="vertical_relaxed").with_columns(weight=pl.lit(1.0))


def _language(translations: Path, language: str | None) -> str:
    if language is not None:
        return LANGUAGES.get(language.lower(), language.lower())
    for part in reversed(translations.parts):
        code = part.lower().partition(".")[0]
        if code in LANGUAGES:
            return LANGUAGES[code]
    raise DataError(
        "K243", f"The language of {translations} is not known.", "Say it with the option `language`, e.g. `ro`."
    )


def _translations(path: Path) -> pl.DataFrame:
    files = [path] if path.is_file() else sorted([*path.rglob("news.tsv"), *path.rglob("*.parquet*")])
    if not files:
        raise wrong_folder(path, "xMIND", "news.tsv (nid, title, abstract) or Parquet files of one language")
    frames = []
    for file in files:
        if ".parquet" in file.name:
            try:
                frame = pl.read_parquet(file).select(pl.col("nid", "title", "abstract").cast(pl.String))
            except (pl.exceptions.PolarsError, OSError) as error:
                raise damaged(file, f"not Parquet with nid, title, abstract ({str(error)[:120]})") from error
        else:
            frame = read_delimited(file, ["nid", "title", "abstract"])
        frames.append(frame.rename({"nid": "news_id"}))
    return pl.concat(frames).unique("news_id", keep="first", maintain_order=True)
