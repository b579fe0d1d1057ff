"""The training core: the loss, its slopes, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koinon.errors import RecommenderError, SpaceError
from koinon.recommenders.serial.notellm import (
    LearnerConfig,
    MapConfig,
    PairLearner,
    Pairs,
    co_occurrences,
    contrastive_loss,
)
from koinon.recommenders.serial.notellm.mapping import learn_map
from koinon.recommenders.serial.notellm.pairs import no_negatives
from koinon.space import open_encoder
from koinon.space.lora import LoraSettings
from koinon.space.tuned import CompressionConfig, StateMap, TextNetwork

SMALL = CompressionConfig(text_tokens=16, dimension=8, hidden=6, members=2, lora=LoraSettings(rank=2))


def network_of(folder, **changes):
    return TextNetwork(open_encoder(f"hf:{folder}"), SMALL.model_copy(update=changes))


def learner_of(network, shop, **changes):
    config = LearnerConfig(**{"batch_pairs": 16, "learning_rate": 0.01, "temperature": 0.05, **changes})
    return PairLearner(
        network,
        shop.texts,
        config,
        together=co_occurrences(shop).together,
        categories=shop.items["categories"].to_list(),
    )


def test_the_contrastive_loss_equals_its_formula():
    rng = np.random.default_rng(0)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(5, 3))), dim=1)
    ignored = torch.zeros((5, 5), dtype=torch.bool)
    ignored[0, 3] = ignored[3, 0] = ignored[0, 1] = ignored[1, 0] = True
    left, right = torch.tensor([0, 2]), torch.tensor([1, 4])
    scale = 7.0
    terms = []
    for a, p in ((0, 1), (1, 0), (2, 4), (4, 2)):
        others = [j for j in range(5) if j != a and (j == p or not ignored[a, j])]
        likes = {j: np.exp(scale * float(vectors[a] @ vectors[j])) for j in others}
        terms.append(-np.log(likes[p] / sum(likes.values())))
    found = contrastive_loss(vectors, left, right, torch.tensor(scale), ignored)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-6)


@pytest.mark.parametrize("kind", ["decoder", "bert"])
def test_cached_gradients_are_the_gradients(kind, shop, request):
    folder = request.getfixturevalue(kind)
    left, right = np.arange(0, 8), np.arange(8, 16)
    slopes = []
    for changes in ({"cached_gradients": False, "tokens_at_once": 10_000}, {"tokens_at_once": 60}):
        learner = learner_of(network_of(folder), shop, **changes)
        learner.network.load_shared(
            {
                name: np.sin(1 + np.arange(a.size)).reshape(a.shape) * 0.1
                for name, a in learner.network.shared_state().items()
            }
        )
        learner.eval()  # without dropout, which draws for each part
        learner.loss(left, right, questions=np.random.default_rng(3)).backward()
        slopes.append({name: value.grad for name, value in learner.named_parameters()})
    assert slopes[0].keys() == slopes[1].keys()
    for name, slope in slopes[0].items():
        assert slope.norm() > 0
        assert (slope - slopes[1][name]).norm() < 1e-3 * slope.norm()


def test_a_decoder_learns_the_answers_and_the_word_an_encoder_has_none(decoder, bert, shop):
    learner = learner_of(network_of(decoder), shop)
    left, right = np.arange(0, 8), np.arange(8, 16)
    with torch.no_grad():
        alone = learner.loss(left, right)
        asked = learner.loss(left, right, questions=np.random.default_rng(0))
    assert float(asked) != pytest.approx(float(alone))
    learner.loss(left, right, questions=np.random.default_rng(0)).backward()
    assert learner.network.word.grad.abs().sum() > 0
    plain = learner_of(network_of(bert), shop)
    with torch.no_grad():
        pair = plain.loss(left, right), plain.loss(left, right, questions=np.random.default_rng(0))
    assert float(pair[0]) == float(pair[1])


def test_the_generative_part_is_weighed_as_stated(decoder, shop):
    left, right = np.arange(0, 8), np.arange(8, 16)
    found = {}
    with torch.no_grad():
        for alpha in (1.0, 3.0):
            learner = learner_of(network_of(decoder), shop, alpha=alpha)
            found[alpha] = float(learner.loss(left, right, questions=np.random.default_rng(0)))
        contrast = float(learner.loss(left, right))
    generated = 2 * found[1.0] - contrast
    assert found[3.0] == pytest.approx((contrast + 3 * generated) / 4, rel=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "bert"])
def test_it_learns_what_goes_together(kind, shop, request):
    learner = learner_of(network_of(request.getfixturevalue(kind)), shop, learning_rate=0.02, temperature=0.2)
    pairs = co_occurrences(shop)
    before = learner.network.encode(shop.texts)
    losses = learner.steps(pairs.left, pairs.right, 30)
    after = learner.network.encode(shop.texts)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert apart(after) > apart(before) + 0.1


def apart(vectors):
    """By how much things of one colour are more alike than others."""
    colour = np.repeat(np.arange(4), 10)
    same = colour[:, None] == colour
    np.fill_diagonal(same, False)
    alike = vectors @ vectors.T
    return alike[same].mean() - alike[colour[:, None] != colour].mean()


@pytest.mark.parametrize("kind", ["decoder", "bert"])
def test_the_map_alone_learns_what_goes_together_and_nothing_else_changes(kind, shop, request):
    learner = learner_of(network_of(request.getfixturevalue(kind)), shop, temperature=0.2)
    network, pairs = learner.network, co_occurrences(shop)
    states = network.states(learner.rows)
    network.start_principal(states)
    before, state = network.encode(shop.texts), network.shared_state()
    ignored = no_negatives(shop.texts, pairs.together)
    learn_map(
        network.projection, states, pairs, ignored, learner.scale, MapConfig(steps=50, learning_rate=0.02), seed=0
    )
    assert apart(network.encode(shop.texts)) > apart(before) + 0.1
    changed = {name for name, array in network.shared_state().items() if not np.array_equal(array, state[name])}
    parts = ("bias", "weight", "inner.bias", "inner.weight", "outer.weight")
    members = {f"projection.members.{member}.{part}" for member in (0, 1) for part in parts}
    assert changed == members | {"projection.axes.weight"}
    assert learner.scale.item() != pytest.approx(np.log(5))


def test_only_what_is_named_shared_changes_and_a_twin_can_adopt_it(bert, shop):
    network = network_of(bert)
    frozen = {name: value.clone() for name, value in network.named_parameters() if not value.requires_grad}
    learner = learner_of(network, shop)
    assert [name for name, _ in learner.named_tuned()]
    assert {name for name, _ in learner.named_tuned()} == set(network.shared_names())
    pairs = co_occurrences(shop)
    learner.steps(pairs.left, pairs.right, 2)
    for name, value in network.named_parameters():
        assert value.requires_grad or torch.equal(value, frozen[name])
    twin = network_of(bert)
    twin.load_shared(network.shared_state())
    np.testing.assert_array_equal(twin.encode(shop.texts), network.encode(shop.texts))


def test_a_layer_below_the_first_tuned_one_has_no_lora(bert):
    names = network_of(bert, lora=LoraSettings(rank=2, first_layer=1)).shared_names()
    assert any(".layer.1." in name for name in names)
    assert not any(".layer.0." in name for name in names)
    with pytest.raises(SpaceError, match="K331"):
        network_of(bert, lora=LoraSettings(first_layer=2))


@pytest.mark.parametrize("kind", ["decoder", "bert"])
def test_kept_lower_layers_change_nothing(kind, shop, request):
    found = []
    for keep in (False, True):
        network = network_of(request.getfixturevalue(kind), lora=LoraSettings(rank=2, first_layer=1))
        learner = learner_of(network, shop, keep_lower=keep, alpha=0.0)
        losses = [learner.step(np.arange(0, 8), np.arange(8, 16)) for _ in range(3)]
        items = np.arange(5, 20)
        vectors = learner.encode(items)
        np.testing.assert_allclose(vectors, network.encode([shop.texts[item] for item in items]), atol=1e-5)
        found.append((losses, vectors))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_step(bert, shop):
    learner = learner_of(network_of(bert), shop)
    with torch.no_grad():
        learner.scale.fill_(float("nan"))
    before = learner.network.shared_state()
    with pytest.raises(RecommenderError, match="K464"):
        learner.step(np.arange(0, 8), np.arange(8, 16))
    for name, value in learner.network.shared_state().items():
        np.testing.assert_array_equal(value, before[name])


def test_no_pairs_no_learning(bert, shop):
    with pytest.raises(RecommenderError, match="K461"):
        learner_of(network_of(bert), shop).steps(np.empty(0, np.int32), np.empty(0, np.int32), 1)


def test_an_encoder_without_layers_cannot_be_tuned_inside():
    with pytest.raises(SpaceError, match="K318"):
        TextNetwork(open_encoder("use-multilingual"))


def test_a_perceptron_learns_what_no_linear_map_can():
    """Things go together whose two marks are both there or both absent: a linear map sees each mark alone."""
    rng = np.random.default_rng(0)
    marks = np.tile([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], (50, 1))
    states = np.concatenate((marks, rng.normal(0, 0.1, (200, 6))), axis=1).astype(np.float32)
    kind = marks[:, 0] * marks[:, 1] > 0
    left, right = rng.integers(0, 200, (2, 4000))
    keep = (kind[left] == kind[right]) & (left != right)
    pairs = Pairs(left[keep].astype(np.int32), right[keep].astype(np.int32), np.ones(keep.sum(), np.float32), None)
    ignored = lambda items: kind[items][:, None] == kind[items]  # noqa: E731
    apart_by = {}
    for hidden in (0, 32):
        map_ = StateMap(8, 4, hidden)
        config = MapConfig(steps=150, batch_pairs=32, learning_rate=0.01, dropout=0.0)
        learn_map(map_, states, pairs, ignored, torch.zeros(()), config, seed=0)
        with torch.inference_mode():
            vectors = torch.nn.functional.normalize(map_(torch.from_numpy(states)), dim=1).numpy()
        alike = vectors @ vectors.T
        apart_by[hidden] = alike[kind[:, None] == kind].mean() - alike[kind[:, None] != kind].mean()
    assert apart_by[32] > 1.0 > 0.2 > abs(apart_by[0])
