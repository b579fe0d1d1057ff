"""Other words for the same items."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from koinon.data import Domain, Interactions
from koinon.studies.paradigms import StudyConfig
from koinon.studies.paradigms.data import open_data, parse_spec
from koinon.studies.paradigms.words import LANGUAGES, dictionary, paraphrase, reworded, translate


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("The Matrix (1999)", "1999: matrix, the"),
        ("Matrix, The (1999)", "1999: the matrix"),
        ("War & Peace", "war and peace"),
        ("Star Wars", "star wars"),
        ("Der Steppenwolf", "steppenwolf, der"),
        ("", ""),
    ],
)
def test_a_paraphrase_follows_rules(title, said):
    assert paraphrase(title)[0] == said


def test_a_translation_goes_word_by_word_and_keeps_names_and_capitals():
    said, replaced, total = translate("The Lost World of Doctor Miller", "en", "de")
    assert said == "Der Verloren Welt von Arzt Miller"
    assert (replaced, total) == (5, 6)


def test_the_dictionary_goes_both_ways_and_knows_every_language():
    for source in LANGUAGES:
        assert len(dictionary(source, "en")) > 200
    assert dictionary("fr", "en")["maison"] == "house"
    assert dictionary("es", "en")["ciudad"] == "city"
    assert dictionary("de", "en")[dictionary("en", "de")["night"]] == "night"


def domain_of(row):
    columns = ("title", "creator", "description", "text", "language")
    frame = pl.DataFrame([dict(zip(columns, row, strict=True))], schema=dict.fromkeys(columns, pl.String))
    nothing = np.empty(0, dtype=np.int32)
    return Domain("d", frame, (), Interactions(nothing, nothing))


def test_titles_are_exchanged_within_the_text_and_names_stay():
    domain = domain_of(("Night Train", "Stephen King", None, "Night Train. Stephen King", "en"))
    other = reworded(domain, "translated").domain.items
    assert other["title"][0] == "Nacht Zug"
    assert other["text"][0] == "Nacht Zug. Stephen King"


def test_german_becomes_english():
    domain = domain_of(("Das Haus am Fluss", "Anna Weg", None, "Das Haus am Fluss. Anna Weg", "de"))
    assert reworded(domain, "translated").domain.items["text"][0] == "The House am River. Anna Weg"


def test_kinds_of_films_are_put_otherwise_too():
    domain = domain_of(("Alien (1979)", None, None, "Alien (1979) Horror|Sci-Fi", "en"))
    assert reworded(domain, "paraphrased").domain.items["text"][0] == "1979: alien scary|science fiction"


def test_how_much_was_changed_is_told(timed_shop):
    prepared = open_data(parse_spec(str(timed_shop)), StudyConfig(data=(str(timed_shop),)))
    found = reworded(prepared.known, "translated")
    assert found.changed == 1.0
    assert 0.3 < found.words <= 1.0
    assert found.domain.events is prepared.known.events
    assert all(text.strip() for text in found.domain.items["text"])
