"""Items read as code words: one vocabulary, unseen items included, kept with the recommender."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from koinon.data.building import item_table
from koinon.errors import RecommenderError
from koinon.recommenders import Request, store
from koinon.recommenders.sequential import HSTU, HSTUConfig, SASRec, SASRecConfig
from koinon.recommenders.sequential.items import CodeItems
from koinon.space.codebook import CodebookConfig, fit_codebook

SMALL = {"width": 16, "blocks": 1, "length": 10, "epochs": 2, "code_levels": 2, "code_words": 4, "negatives": 8}


def asked(*items):
    return Request(history=np.array(items, dtype=np.int32))


def test_an_item_is_the_sum_of_its_words_and_its_last_token():
    paths = torch.tensor([[0, 2, 0], [0, 2, 1], [1, 0, 0]])
    items = CodeItems(paths, 3, 5)
    with torch.no_grad():
        items.last.normal_()
    words = items.words.view(2, 3, 5)
    for row, (first, second, last) in enumerate(paths.tolist()):
        torch.testing.assert_close(items.table()[row], words[0, first] + words[1, second] + items.last[last])
    torch.testing.assert_close(items(torch.tensor([2, 0, 0])), items.table()[[2, 0, 0]])


def test_two_catalogues_share_their_words_and_only_these():
    one, other = CodeItems(torch.tensor([[0, 2, 0]]), 3, 5), CodeItems(torch.tensor([[1, 1, 0], [1, 1, 1]]), 3, 5)
    assert one.words.shape == other.words.shape
    assert one.last.shape != other.last.shape


@pytest.mark.parametrize(("kind", "config"), [(SASRec, SASRecConfig), (HSTU, HSTUConfig)])
@pytest.mark.parametrize("items", ["codes", "texts+codes", "ids+codes"])
def test_networks_learn_by_codes_and_are_kept(kind, config, items, chains, word_space, tmp_path):
    model = kind(config(items=items, **SMALL)).fit(chains.train, word_space, rng=np.random.default_rng(0))
    assert model.training.curve[-1].loss < model.training.curve[0].loss
    store.save(model, tmp_path, chains.train, word_space)
    again = store.load(tmp_path, chains.train, word_space)
    requests = [asked(3, 7), asked()]
    np.testing.assert_array_equal(again.score(requests), model.score(requests))


def test_items_of_the_same_words_are_told_apart_once_their_events_do(chains, word_space):
    """A catalogue in which every text stands for two items, one of which everybody takes."""
    names = [f"i{item:02d}" for item in range(chains.train.n_items)]
    twice = replace(chains.train, items=item_table(names, names, [f"place {item // 2}" for item in range(len(names))]))
    model = HSTU(HSTUConfig(items="codes", **{**SMALL, "epochs": 4})).fit(
        twice, word_space, rng=np.random.default_rng(0)
    )
    scores = model.score([asked(3, 7)])[0]
    assert len(np.unique(scores)) == len(scores)


def test_a_federations_codebook_is_used_as_it_is(chains, word_space):
    codebook = fit_codebook(word_space.encode(chains.train.texts), CodebookConfig(levels=3, codes=5), seed=9)
    model = HSTU(HSTUConfig(items="codes", **SMALL))
    model.codebook = codebook
    model.fit(chains.train, word_space, rng=np.random.default_rng(0))
    assert model.codebook is codebook
    assert model.network.items.words.shape == (15, 16)


def test_a_codebook_of_differences_is_given_its_catalogue_and_keeps_its_mean(chains, word_space, tmp_path):
    vectors = word_space.encode(chains.train.texts)
    fitted = fit_codebook(vectors - vectors.mean(0), CodebookConfig(levels=2, codes=4))
    model = HSTU(HSTUConfig(items="codes", **{**SMALL, "epochs": 1}))
    model.codebook = replace(fitted, relative=True)
    model.fit(chains.train, word_space, rng=np.random.default_rng(0))
    np.testing.assert_allclose(model.codebook.centre, vectors.mean(0), atol=1e-6)
    store.save(model, tmp_path, chains.train, word_space)
    again = store.load(tmp_path, chains.train, word_space)
    np.testing.assert_array_equal(again.codebook.encode(vectors[:5]), fitted.encode(vectors - vectors.mean(0))[:5])
    np.testing.assert_array_equal(again.score([asked(3, 7)]), model.score([asked(3, 7)]))


def test_codes_need_a_space(chains):
    with pytest.raises(RecommenderError, match="K404"):
        HSTU(HSTUConfig(items="codes")).fit(chains.train, None, rng=np.random.default_rng(0))
