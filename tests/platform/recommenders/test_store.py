"""Recommenders on disk: the same scores again, and one clear error for everything else."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import polars as pl
import pytest

from koinon.errors import RecommenderError
from koinon.evaluation import Chance
from koinon.recommenders import Request
from koinon.recommenders.conventional import EASE, ItemKNN, Popularity, SemanticEASE
from koinon.recommenders.store import REGISTRY, load, save

REQUESTS = [
    Request(history=np.array([1, 7], dtype=np.int32)),
    Request(),
    Request(liked=("topic3 subject3 new",), query="topic2"),
]


@pytest.fixture
def kept(shop, word_space, tmp_path):
    model = SemanticEASE().fit(shop.train, word_space, rng=np.random.default_rng(0))
    save(model, tmp_path / "model", shop.train, word_space)
    return tmp_path / "model"


@pytest.mark.parametrize("kind", [Popularity, ItemKNN, EASE, SemanticEASE])
def test_what_comes_back_scores_as_before(kind, shop, word_space, tmp_path):
    model = kind().fit(shop.train, word_space, rng=np.random.default_rng(0))
    save(model, tmp_path, shop.train, word_space)
    back = load(tmp_path, shop.train, word_space)
    assert type(back) is kind
    assert back.config == model.config
    np.testing.assert_array_equal(back.score(REQUESTS), model.score(REQUESTS))


def test_a_second_save_replaces_the_first_and_leaves_nothing_behind(kept, shop, word_space):
    save(Popularity().fit(shop.train, None, rng=np.random.default_rng(0)), kept, shop.train)
    assert isinstance(load(kept, shop.train), Popularity)
    assert len(list(kept.iterdir())) == 2


def test_no_user_is_in_the_files(kept, shop):
    content = b"".join(path.read_bytes() for path in kept.iterdir())
    assert not any(user.encode() in content for user in shop.train.user_ids)


def test_every_name_of_the_registry_is_its_class_own():
    for name, target in REGISTRY.items():
        module, _, kind = target.partition(":")
        assert getattr(import_module(module), kind).name == name


def test_arrays_that_were_changed_are_refused(kept, shop, word_space):
    arrays = next(kept.glob("*.safetensors"))
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(RecommenderError, match="K410"):
        load(kept, shop.train, word_space)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}'])
def test_a_broken_description_is_refused(kept, shop, word_space, content):
    (kept / "recommender.json").write_text(content)
    with pytest.raises(RecommenderError, match="K410"):
        load(kept, shop.train, word_space)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("format", 99, "K411"),
        ("name", "os.system", "K411"),
        ("arrays", "../../nowhere", "K410"),
        ("config", {"a": 1}, "K410"),
    ],
)
def test_a_foreign_description_is_refused(kept, shop, word_space, key, value, code):
    path = kept / "recommender.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(RecommenderError, match=code):
        load(kept, shop.train, word_space)


def test_an_empty_folder_is_refused(tmp_path, shop):
    with pytest.raises(RecommenderError, match="K410"):
        load(tmp_path, shop.train)


def test_another_catalogue_or_another_space_is_refused(kept, shop, word_space):
    items = shop.train.items.with_columns(pl.col("item_id").reverse())
    with pytest.raises(RecommenderError, match="K412"):
        load(kept, replace(shop.train, items=items), word_space)
    with pytest.raises(RecommenderError, match="K412"):
        load(kept, shop.train, None)


def test_what_has_no_arrays_of_its_own_is_not_kept(shop, tmp_path):
    with pytest.raises(RecommenderError, match="K413"):
        save(Chance(), tmp_path, shop.train)
