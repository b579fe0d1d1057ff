"""What is said of a learner before anybody joins is what its plan then asks for, round by round."""

from __future__ import annotations

import re

import numpy as np
import pytest

from koinon.errors import RecommenderError
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.outline import WORKS, outline
from koinon.recommenders.protocol import Catalogue, Total
from koinon.space import open_encoder

SETTINGS = {
    "federated_popularity": {"rounds": 3, "clip": 4.0},
    "federated_gram": {"pairs": 7, "clip": 5.0},
    "federated_adapters": {"rounds": 4, "width": 3, "directions": 2, "clip": 6.0},
    "federated_hstu": {"rounds": 2, "width": 8, "length": 5, "clip": 3.0, "control": True},
    "federated_lora": {"rounds": 2, "rank": 2, "clip": 3.0},
    "federated_codebook": {"levels": 2, "codes": 3, "refine": 1},
}


def asked(name, space):
    """Every round's specs of a small federation of two shops, and how many works it has matched."""
    rng = np.random.default_rng(0)
    titles = ["red sea", "blue river", "old house", "new ship"]
    shops = [
        Catalogue(shop, tuple(f"{title}|a" for title in titles), tuple(titles), ("en",) * 4) for shop in ("one", "two")
    ]
    plan = registry.plan(name, SETTINGS[name])
    release = plan.initial(shops, space, rng=rng)
    works = len(release.arrays.get("counts", ()))
    for round_ in range(1, plan.rounds + 1):
        specs = plan.task(release, round_).specs
        yield round_, specs, works
        sums = {}
        for spec in specs:
            drawn = rng.random(spec.shape)
            sums[spec.name] = drawn.T @ drawn if spec.name in ("moment", "semantic", "spread") else drawn
        release = plan.aggregate(release, Total(sums, 9, ("one", "two")))


@pytest.mark.parametrize("name", registry.LEARNERS)
def test_rounds_names_and_bounds_are_the_plans(name, word_space, request):
    said = outline(name, SETTINGS[name])
    space = open_encoder(request.getfixturevalue("byte_encoder")) if name == "federated_lora" else word_space
    for round_, specs, works in asked(name, space):
        due = {}
        for tensor in said:
            first, _, last = tensor.rounds.partition(" to ")
            if int(first) <= round_ <= int(last or first):
                due[tensor.name] = tensor
        assert {spec.name for spec in specs} == set(due)
        for spec in specs:
            tensor = due[spec.name]
            assert (spec.dtype, spec.aggregation, spec.clip) == (tensor.dtype, tensor.aggregation, tensor.person)
            assert len(spec.shape) == len(tensor.shape)
            for size, words in zip(spec.shape, tensor.shape, strict=True):
                if words == WORKS:
                    assert size == works
                elif most := re.fullmatch(r"at most ([\d,]+)", words):
                    assert size <= int(most[1].replace(",", ""))
                elif re.fullmatch(r"[\d,]+", words):
                    assert size == int(words.replace(",", ""))
                else:
                    sizes = {
                        "the encoder's dimension": word_space.dimension,
                        "1 + twice the encoder's dimension": 1 + 2 * word_space.dimension,
                        "2 + the encoder's dimension": 2 + word_space.dimension,
                        # two blocks of four maps to 16, one to 32 and one back
                        "2 times the outputs of the encoder's tuned layers": 2 * 2 * (4 * 16 + 32 + 16),
                    }
                    assert size == sizes[words]


def test_an_unknown_learner_or_setting_is_refused():
    with pytest.raises(RecommenderError, match="K440"):
        outline("federated_gossip", {})
    with pytest.raises(RecommenderError, match="K441"):
        outline("federated_gram", {"everything": True})
