"""``partner.toml`` says what a partner is, and refuses what it cannot mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.data import PartnerConfig
from koinon.data.partner import EventSource, ItemSource, Source, Sources, UserPolicy, UserSource, template_fields
from koinon.errors import ConfigError

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(title=_names, user=_names, item=_names, word=_names)
@settings(max_examples=60, deadline=None)
def test_whatever_a_column_is_called_the_file_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, title: str, user: str, item: str, word: str
) -> None:
    folder = tmp_path_factory.mktemp("partner")
    config = PartnerConfig(
        name="shop-1",
        text="{title} " + word.replace("{", "").replace("}", ""),
        sources=Sources(
            items=ItemSource(path=title, delimiter=";", columns={"item_id": item, "title": title}),
            events=EventSource(url="sqlite:///a.db", query=word, columns={"user_id": user, "item_id": user + item}),
            users=UserSource(path="u", header=False, columns={"user_id": user, "age": user + "x"}),
        ),
        users=UserPolicy(sensitive=("age",)),
    )
    config.save(folder)
    assert PartnerConfig.load(folder) == config


def test_remarks_stand_beside_their_lines_and_do_not_change_what_is_read(tmp_path: Path) -> None:
    config = PartnerConfig(name="shop", language="de")
    config.save(tmp_path, {"language": "guessed from the texts"})
    assert 'language = "de"  # guessed from the texts' in (tmp_path / "partner.toml").read_text()
    assert PartnerConfig.load(tmp_path) == config


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('nmae = "x"', "nmae"),
        ('language = "german"', "ISO 639-1"),
        ('time_zone = "Berlin"', "IANA"),
        ('text = "no field"', "template"),
        ('text = "{title"', "template"),
        ('catalogue = "open"', "catalogue"),
        ('[users]\nsensitive = ["age"]', "not declared"),
        ('[sources.items]\npath = "i.csv"\ncolumns = {item_id = "id", title = "t"}', "both items and events"),
        ('[sources.events]\npath = "e.csv"\nurl = "sqlite:///x"', "either `path`"),
        ('[sources.events]\nurl = "sqlite:///x"', "`table` or `query`"),
        ('[sources.events]\npath = "e.csv"\nencoding = "utf-9"', "utf-9"),
        ('[sources.events]\npath = "e.csv"\ncolumns = {user_id = "u"}', "map item_id"),
        ('[sources.events]\npath = "e.csv"\ncontext = {"Used On" = "d"}', "Used On"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "partner.toml").write_text(f'name = "shop"\n{line}\n')
    with pytest.raises(ConfigError, match="K103") as caught:
        PartnerConfig.load(tmp_path)
    assert complaint in str(caught.value)


def test_a_misspelt_item_column_is_not_taken_for_a_template_field() -> None:
    items = ItemSource(path="i.csv", columns={"item_id": "id", "title": "t", "autor": "a"})
    events = EventSource(path="e.csv", columns={"user_id": "u", "item_id": "i"})
    with pytest.raises(ValueError, match="autor"):
        PartnerConfig(name="shop", sources=Sources(items=items, events=events))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="K101"):
        PartnerConfig.load(tmp_path / "nowhere")


def test_a_source_is_never_labelled_with_its_credentials() -> None:
    source = Source(url="postgresql://reader:hunter2@db/shop", table="orders")
    assert source.label == "postgresql://db/shop#orders"


def test_template_fields_come_in_order() -> None:
    assert template_fields("{title} by {creator}, {publisher}") == ("title", "creator", "publisher")
