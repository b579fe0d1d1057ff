"""Every fusion recommender states its place."""

from dataclasses import FrozenInstanceError

import pytest

from koinon.recommenders.fusion import PLACES, Place


def test_a_place_says_where_and_how_in_words():
    assert str(Place("scoring/ranking", "frozen", True)) == (
        "scoring/ranking; language model frozen, with a conventional recommender"
    )


def test_a_place_cannot_be_changed_and_knows_its_stages():
    assert len(PLACES) == 6
    place = Place("data collection", "tuned", False)
    with pytest.raises(FrozenInstanceError):
        place.where = "feature encoder"
    with pytest.raises(ValueError, match="no stage"):
        Place("kitchen", "frozen", True)


def test_every_stage_has_a_recommender_that_says_so():
    from importlib import import_module

    from koinon.recommenders.store import REGISTRY

    places = {}
    for name, target in REGISTRY.items():
        module, _, kind = target.partition(":")
        if ".fusion." in module:
            places[name] = getattr(import_module(module), kind).place
    assert all(isinstance(place, Place) for place in places.values())
    assert {place.where for place in places.values()} == set(PLACES)


def test_koinon_train_opens_a_space_for_those_that_read_texts():
    from koinon.recommenders.training import config_type, reads_texts

    wanted = {"kar": {}, "asking": {"base": "ease"}, "pseudo": {"judge": "similarity"}}
    for name, settings in wanted.items():
        assert reads_texts(name, config_type(name).model_validate(settings).model_dump())
    assert not reads_texts("pseudo", config_type("pseudo")().model_dump())
