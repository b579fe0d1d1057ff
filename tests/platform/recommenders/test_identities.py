"""Which items of different partners are one work."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.data.tables import ITEM_SCHEMA
from koinon.errors import RecommenderError
from koinon.recommenders.federated.identities import catalogue_of, identity_key, key_hashes, match_identities


def items(*works, language="en"):
    """Item table of ``(title, creator)`` pairs."""
    titles, creators = [title for title, _ in works], [creator for _, creator in works]
    return pl.DataFrame(
        {
            "item_id": [str(number) for number in range(len(works))],
            "title": titles,
            "creator": creators,
            "description": [None] * len(works),
            "language": [language] * len(works),
            "categories": [[]] * len(works),
            "price": [None] * len(works),
            "text": [f"{title}. {creator}" for title, creator in works],
        },
        schema=ITEM_SCHEMA,
    )


class PlacedSpace:
    """Texts stand where the test puts them."""

    dimension = 3
    fingerprint = "placed"

    def __init__(self, places):
        self.places = places

    def encode(self, texts):
        found = np.array([self.places.get(text, (0.0, 0.0, 1.0)) for text in texts], dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("The Da Vinci Code", "Dan Brown"), ("da vinci code", "BROWN, Dan")),
        (("Wild Animus", "Rich Shapero"), ("Wild Animus (Hardcover (Large Print))", "Rich Shapero")),
        (("Der Schwarm", "Frank Schätzing"), ("SCHWARM", "Frank Schatzing")),
        (("L'Étranger", "Albert Camus"), ("Etranger", "Camus, Albert")),
    ],
)
def test_editions_of_one_work_have_one_key(one, other):
    assert identity_key(*one) == identity_key(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Otherland (Volume 1)", "Tad Williams"), ("Otherland (Volume 2)", "Tad Williams")),
        (("Psycho (1960)", None), ("Psycho (1998)", None)),
        (("Emma", "Jane Austen"), ("Emma", "Flora Klickmann")),
        (("???", None), ("!!!", None)),
    ],
)
def test_volumes_years_and_authors_tell_works_apart(one, other):
    assert identity_key(*one) != identity_key(*other)


def test_equal_keys_are_one_work_and_what_one_partner_alone_lists_is_none():
    left = catalogue_of("left", items(("Dune", "Frank Herbert"), ("It", "Stephen King")))
    right = catalogue_of("right", items(("Emma", "Jane Austen"), ("DUNE", "Herbert, Frank")))
    found = match_identities([left, right], None)
    assert found.n == 1
    assert found.of(left.keys).tolist() == [0, -1]
    assert found.of(right.keys).tolist() == [-1, 0]
    assert [listing.tolist() for listing in found.listings] == [[0], [0]]


def test_two_editions_of_one_partner_share_an_identity():
    left = catalogue_of("left", items(("Dune", "Frank Herbert"), ("Dune (Paperback)", "Frank Herbert")))
    right = catalogue_of("right", items(("Dune", "Frank Herbert")))
    assert match_identities([left, right], None).of(left.keys).tolist() == [0, 0]


def test_a_translation_is_found_by_nearness_and_its_author():
    left = catalogue_of("left", items(("The Reader", "Bernhard Schlink"), ("It", "Stephen King")))
    right = catalogue_of("right", items(("Der Vorleser", "Bernhard Schlink"), ("Es", "Stefan Konig"), language="de"))
    space = PlacedSpace(
        {
            "The Reader. Bernhard Schlink": (1, 0, 0),
            "Der Vorleser. Bernhard Schlink": (1, 0.1, 0),
            "It. Stephen King": (0, 1, 0),
            "Es. Stefan Konig": (0, 1, 0.1),
        }
    )
    found = match_identities([left, right], space)
    assert found.of(right.keys).tolist() == [0, -1], "near, but no word of the author in common: not the same work"


def test_near_texts_in_one_language_need_agreeing_words():
    left = catalogue_of("left", items(("Murder at the FBI", "Margaret Truman"), ("Larry's Party", "Carol Shields")))
    right = catalogue_of("right", items(("Murder in the CIA", "Margaret Truman"), ("Larrys Party", "Carol Shields")))
    space = PlacedSpace(
        {
            "Murder at the FBI. Margaret Truman": (1, 0, 0),
            "Murder in the CIA. Margaret Truman": (1, 0.1, 0),
            "Larry's Party. Carol Shields": (0, 1, 0),
            "Larrys Party. Carol Shields": (0, 1, 0.1),
        }
    )
    assert match_identities([left, right], space).of(left.keys).tolist() == [-1, 0]


def test_merging_makes_no_chains():
    """a is near b and b is near c, but a is far from c: c is not pulled to a."""
    texts = {"Alpha. Same Author": (1, 0, 0), "Beta. Same Author": (0.8, 0.6, 0), "Gamma. Same Author": (0.28, 0.96, 0)}
    a, b, c = (
        catalogue_of(language, items((title, "Same Author"), language=language))
        for title, language in (("Alpha", "en"), ("Beta", "de"), ("Gamma", "fr"))
    )
    found = match_identities([a, b, c], PlacedSpace(texts), translation=0.75)
    joined = [found.of(catalogue.keys)[0] for catalogue in (a, b, c)]
    assert found.n == 1
    assert joined[0] != joined[2]


def test_secret_catalogues_match_by_keyed_hashes_that_hide_the_title():
    secret = catalogue_of("left", items(("Dune", "Frank Herbert")), public=False, match_key=b"k" * 32)
    public = catalogue_of("right", items(("Dune", "Frank Herbert")), match_key=b"k" * 32)
    stranger = catalogue_of("third", items(("Dune", "Frank Herbert")), match_key=b"x" * 32)
    assert secret.texts is None
    assert secret.languages is None
    assert "dune" not in secret.keys[0]
    found = match_identities([secret, public, stranger], None)
    assert found.of(secret.keys).tolist() == [0]
    assert found.of(stranger.keys).tolist() == [-1]


def test_a_secret_catalogue_without_a_key_is_refused():
    with pytest.raises(RecommenderError) as failure:
        catalogue_of("left", items(("Dune", "Frank Herbert")), public=False)
    assert failure.value.code == "K430"


@given(st.text(max_size=40), st.one_of(st.none(), st.text(max_size=20)))
def test_any_title_has_a_key_that_does_not_change_by_being_normalised_again(title, creator):
    key = identity_key(title, creator)
    assert "|" in key
    assert len(key_hashes([key])) == 1
