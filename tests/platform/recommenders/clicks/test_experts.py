"""What a language model said, as fields of a click network."""

import numpy as np
import pytest
import torch

from koinon.errors import RecommenderError
from koinon.recommenders.clicks import DCNv2, DCNv2Config, with_told
from koinon.recommenders.clicks._config import ExpertsConfig
from koinon.recommenders.clicks.experts import HybridExperts
from koinon.recommenders.clicks.recommender import DeepFMRanker

SMALL = {"width": 4, "hidden": (8,), "epochs": 2, "batch_rows": 256}


def told_of(people, items, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(people, 5)).astype(np.float32), rng.normal(size=(items, 5)).astype(np.float32)


def test_nothing_said_is_a_field_of_zeros_and_a_stranger_has_none():
    people, items = told_of(4, 3)
    people[1] = 0
    experts = HybridExperts(ExpertsConfig(), people, items, 6).eval()
    assert experts.fields == 2
    person, item = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])
    found = experts(person, item, torch.tensor([False, False, True]))
    assert found.shape == (3, 2, 6)
    assert [bool(row.any()) for row in found[:, 0]] == [True, False, False]
    assert all(bool(row.any()) for row in found[:, 1])
    assert HybridExperts(ExpertsConfig(), None, items, 6).fields == 1
    with pytest.raises(ValueError, match="one length"):
        HybridExperts(ExpertsConfig(), people, items[:, :3], 6)


def test_a_network_learns_from_what_is_said_alone(clicks):
    """Vectors that hold each person's and item's own rate of likes, in data whose ids are hidden."""
    rng = np.random.default_rng(0)
    people, items = told_of(len(clicks.people.ids), len(clicks.items.ids))
    for told, places in ((people, clicks.train.person), (items, clicks.train.item)):
        counts = np.maximum(np.bincount(places, minlength=len(told)), 1)
        told[:, 0] = 3 * np.bincount(places, clicks.train.label, len(told)) / counts
    config = DCNv2Config(**{**SMALL, "unknown": 0.95, "epochs": 6})
    scores = {}
    for name, data in (("told", with_told(clicks, people, items)), ("not", clicks),
                       ("noise", with_told(clicks, *told_of(len(people), len(items), 9)))):  # fmt: skip
        model = DCNv2(config).fit(data, seed=int(rng.integers(9)))
        scores[name] = model.stages["clicks"].best
        assert model.predict(data.test).shape == data.test.label.shape
    assert scores["told"] > max(scores["not"], scores["noise"])


def test_what_is_said_belongs_to_the_data(clicks):
    people, items = told_of(len(clicks.people.ids), len(clicks.items.ids))
    assert with_told(clicks, people, items).fingerprint != clicks.fingerprint
    assert with_told(clicks, None, None).fingerprint == clicks.fingerprint
    with pytest.raises(RecommenderError, match="K402"):
        with_told(clicks, people[1:], items)


def test_a_ranker_with_what_is_said_comes_back(shop):
    people, items = told_of(shop.train.n_users, shop.train.n_items)
    config = DeepFMRanker.config_type(**SMALL)
    first, again = DeepFMRanker(config), DeepFMRanker(config)
    first.told = again.told = (people, items)
    first.fit(shop.train, None, rng=np.random.default_rng(0))
    from koinon.recommenders import Request

    asked = [Request(user=3), Request()]
    np.testing.assert_array_equal(again.restore(first.state(), shop.train, None).score(asked), first.score(asked))
