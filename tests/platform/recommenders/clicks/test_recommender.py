"""A click network behind the one protocol."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.data import SplitConfig, make_split
from koinon.errors import RecommenderError
from koinon.recommenders import Recommender, Request
from koinon.recommenders.clicks import AlignmentConfig
from koinon.recommenders.clicks.recommender import AutoIntRanker, DCNv2Ranker, DeepFMRanker
from koinon.recommenders.store import load, save
from koinon.recommenders.training import reads_texts

KINDS = (DeepFMRanker, DCNv2Ranker, AutoIntRanker)


@pytest.fixture(scope="module")
def domain(cinema):
    return make_split("cinema", cinema, SplitConfig(protocol="leave-last-out", minimum_item_events=1)).train


def fitted(kind, domain, **changes):
    config = kind.config_type(width=8, hidden=(16,), epochs=2, learning_rate=0.01, batch_rows=256, **changes)
    return kind(config).fit(domain, None, rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_it_scores_and_lists_what_is_unseen(kind, domain):
    model = fitted(kind, domain)
    assert isinstance(model, Recommender)
    requests = [Request(history=domain.history(0), user=0), Request()]
    whole = model.score(requests)
    assert whole.shape == (2, domain.n_items)
    some = np.array([5, 2], dtype=np.int32)
    np.testing.assert_allclose(model.score(requests, some), whole[:, some], atol=1e-5)
    listed = {one.item for one in model.recommend(requests, 10)[0]}
    assert not listed & set(domain.history(0).tolist())


def test_what_people_take_stands_above_what_they_leave(domain):
    scores = fitted(DCNv2Ranker, domain).score([Request()])[0]
    assert np.corrcoef(scores, domain.item_counts)[0, 1] > 0


def test_a_kept_one_comes_back(domain, tmp_path):
    model = fitted(DCNv2Ranker, domain)
    save(model, tmp_path, domain)
    requests = [Request(user=3), Request()]
    np.testing.assert_array_equal(load(tmp_path, domain).score(requests), model.score(requests))


def test_an_aligned_one_asks_for_a_space(domain, word_space):
    aligned = AlignmentConfig(batch_rows=128, width=16)
    assert reads_texts("dcnv2", DCNv2Ranker.config_type(alignment=aligned).model_dump())
    assert not reads_texts("dcnv2", DCNv2Ranker.config_type().model_dump())
    with pytest.raises(RecommenderError) as raised:
        fitted(DCNv2Ranker, domain, alignment=aligned)
    assert raised.value.code == "K404"
    config = DCNv2Ranker.config_type(width=8, hidden=(16,), epochs=1, alignment=aligned)
    model = DCNv2Ranker(config).fit(domain, word_space, rng=np.random.default_rng(0))
    assert np.isfinite(model.score([Request()])).all()


def test_an_unfitted_one_says_so(domain):
    with pytest.raises(RecommenderError) as raised:
        DeepFMRanker().score([Request()])
    assert raised.value.code == "K400"
