"""UniSRec: its adaptor, its losses, weights that begin another domain, and what it is kept as."""

import numpy as np
import pytest
import torch

from koinon.data import Domain, Interactions
from koinon.data.building import item_table
from koinon.errors import RecommenderError
from koinon.recommenders import Request
from koinon.recommenders.fusion.feature_encoder import AdaptorItems, Initial, UniSRec, UniSRecConfig, pooled, pretrain
from koinon.recommenders.fusion.feature_encoder.networks import thinned
from koinon.recommenders.sequential.histories import Histories
from koinon.recommenders.store import load, save
from koinon.recommenders.training import train

RNG = np.random.default_rng
SMALL = {"width": 16, "length": 8, "blocks": 1, "experts": 3, "epochs": 2, "batch_users": 32, "dropout": 0.0}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def config(**changes):
    return UniSRecConfig(**{**SMALL, **changes})


def trails(name, first, *, users=120, items=40, topics=4, seed=0, timed=False):
    """People walk through topics in turn: what comes next is of the next topic, whatever the item."""
    rng = RNG(seed)
    topic = np.arange(items) % topics
    taken = [
        [int(rng.choice(np.flatnonzero(topic == (start + step) % topics))) for step in range(6)]
        for start in rng.integers(topics, size=users)
    ]
    names = [f"{name}{item}" for item in range(items)]
    texts = [f"topic{topic[item]} kind{topic[item]} {name}word{first + item}" for item in range(items)]
    events = Interactions(
        np.repeat(np.arange(users), 6).astype(np.int32),
        np.concatenate(taken).astype(np.int32),
        np.tile(np.arange(6), users) * 1_000_000 if timed else None,
    )
    return Domain(name, item_table(names, names, texts), tuple(f"{name}-{user}" for user in range(users)), events)


@pytest.fixture(scope="module")
def there():
    return trails("there", 0, seed=1)


@pytest.fixture(scope="module")
def here():
    return trails("here", 500, seed=2)


@pytest.fixture(scope="module")
def begun(there, word_space):
    return pretrain([there], word_space, config(epochs=12, learning_rate=5e-3), rng=RNG(0))


def next_topic(model, domain, topics=4):
    """Share of requests whose best item is of the topic that comes next."""
    asked = [Request(np.array([start, start + 1, start + 2], dtype=np.int32)) for start in range(0, 36, topics)]
    found = model.recommend(asked, 1)
    return np.mean(
        [row[0].item % topics == (int(one.history[-1]) + 1) % topics for row, one in zip(found, asked, strict=True)]
    )


def test_an_adaptor_of_equal_shares_is_the_mean_of_its_maps_on_shifted_texts():
    texts = torch.nn.functional.normalize(torch.randn(7, 12), dim=1)
    items = AdaptorItems(texts, 5, experts=3).eval()
    with torch.no_grad():
        items.shifts.normal_()
    expected = torch.stack([(texts - items.shifts[k]) @ items.maps[k] for k in range(3)]).mean(0)
    torch.testing.assert_close(items.table(), expected)
    torch.testing.assert_close(items(torch.tensor([3, 0])), expected[[3, 0]])


def test_the_gate_chooses_by_the_text_and_is_noisy_in_training_alone():
    texts = torch.nn.functional.normalize(torch.randn(6, 12), dim=1)
    items = AdaptorItems(texts, 5, experts=2, dropout=0.0)
    assert not torch.equal(items.table(), items.table())
    items.eval()
    with torch.no_grad():
        items.gate[:, 0] = 200 * texts[0]
        items.gate[:, 1] = 200 * texts[1]
    torch.testing.assert_close(items(torch.tensor([0])), texts[:1] @ items.maps[0])
    torch.testing.assert_close(items(torch.tensor([1])), texts[1:2] @ items.maps[1])


@pytest.mark.parametrize("backbone", ["sasrec", "hstu"])
@pytest.mark.parametrize("negatives_from", ["batch", "catalogue"])
def test_it_learns_what_follows_from_texts(here, word_space, backbone, negatives_from):
    asked = config(backbone=backbone, negatives_from=negatives_from, epochs=24, learning_rate=5e-3)
    model = UniSRec(asked).fit(here, word_space, rng=RNG(0))
    assert next_topic(model, here) > 0.8
    losses = [epoch.loss for epoch in model.training.curve]
    assert losses[-1] < losses[0]


def test_in_a_batch_the_next_item_is_told_from_the_batchs_items_alone(here, word_space):
    model = UniSRec(config(negatives_from="batch", epochs=1)).fit(here, word_space, rng=RNG(0))
    network = model.network.eval()
    batch = Histories(here, 8).batch(np.arange(5), torch.device("cpu"), own_clock=True)
    rows, table = network(batch), network.table()
    shown = sorted(set(batch.targets.tolist()))
    logits = rows @ table[shown].T / network.config.temperature
    own = torch.tensor([shown.index(target) for target in batch.targets.tolist()])
    torch.testing.assert_close(network.loss(batch), torch.nn.functional.cross_entropy(logits, own))


def test_the_sequence_loss_tells_a_sequence_from_the_batchs_others(here, word_space):
    batch = Histories(here, 8).batch(np.arange(20), torch.device("cpu"), own_clock=True)
    network = UniSRec(config(epochs=1, negatives_from="batch")).fit(here, word_space, rng=RNG(0)).network.eval()
    losses = {}
    with torch.no_grad():
        for weight in (0.0, 0.5):
            # nothing is left out: both readings are the same
            network.adapted = config(negatives_from="batch", sequence_weight=weight, event_drop=0.0)
            losses[weight] = network.loss(batch)
        states = network(batch)[batch.layout.last]
        expected = torch.nn.functional.cross_entropy(states @ states.T / 0.05, torch.arange(20))
    torch.testing.assert_close(losses[0.5] - losses[0.0], 0.5 * expected, rtol=1e-4, atol=1e-4)


def test_thinned_sequences_keep_their_last_event_their_order_and_their_gaps():
    domain = trails("timed", 0, users=9, timed=True)
    batch = Histories(domain, 8).batch(np.arange(9), torch.device("cpu"))
    torch.manual_seed(0)
    fewer = thinned(batch, 0.6, own_clock=False)
    assert len(fewer.items) < len(batch.items)
    start = 0
    for sequence, length in enumerate(fewer.layout.lengths.tolist()):
        whole = slice(int(batch.layout.starts[sequence]), int(batch.layout.starts[sequence + 1]))
        mine = slice(start, start + length)
        start += length
        times = fewer.times[mine].tolist()
        places = [batch.times[whole].tolist().index(time) for time in times]
        assert fewer.items[mine].tolist() == [batch.items[whole].tolist()[place] for place in places]
        assert places[-1] == whole.stop - whole.start - 1
        assert fewer.gaps[mine].tolist() == np.diff(times, prepend=times[:1]).tolist()


def test_weights_of_one_domain_serve_another_that_has_no_event_yet(begun, here, word_space):
    nobody = here.with_events(here.events.take(np.arange(12)))
    settings = config(epochs=1, learning_rate=1e-9)
    carried = UniSRec(settings, initial=begun).fit(nobody, word_space, rng=RNG(0))
    fresh = UniSRec(settings).fit(nobody, word_space, rng=RNG(0))
    assert next_topic(carried, here) == 1.0
    assert next_topic(fresh, here) < 0.8


def test_where_the_adaptor_alone_learns_the_sequence_network_stays(begun, here, word_space):
    model = UniSRec(config(tune="adaptor"), initial=begun).fit(here, word_space, rng=RNG(0))
    after = Initial.of(model.network, word_space, "sasrec")
    for name, before in begun.arrays.items():
        same = np.array_equal(after.arrays[name], before)
        assert same == name.startswith("sequence."), name
    learning = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    assert learning == sum(array.size for name, array in begun.arrays.items() if name.startswith("adaptor."))


def test_free_vectors_beside_texts_are_no_part_of_the_weights(begun, here, word_space):
    model = UniSRec(config(items="ids+texts", tune="adaptor"), initial=begun).fit(here, word_space, rng=RNG(0))
    taken = Initial.of(model.network, word_space, "sasrec")
    assert {name: array.shape for name, array in taken.arrays.items()} == {
        name: array.shape for name, array in begun.arrays.items()
    }
    assert next_topic(model, here) == 1.0


def test_weights_come_back_from_their_file(begun, tmp_path):
    begun.save(tmp_path / "begun.safetensors")
    back = Initial.load(tmp_path / "begun.safetensors")
    assert back.fingerprint == begun.fingerprint
    assert back.about == begun.about


def test_a_file_named_in_the_settings_is_read(begun, here, word_space, tmp_path):
    begun.save(tmp_path / "begun.safetensors")
    named = UniSRec(config(initial=str(tmp_path / "begun.safetensors"))).fit(here, word_space, rng=RNG(0))
    given = UniSRec(config(), initial=begun).fit(here, word_space, rng=RNG(0))
    asked = [Request(np.array([1, 2], dtype=np.int32))]
    np.testing.assert_array_equal(named.score(asked), given.score(asked))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 64])
def test_a_file_that_holds_no_weights_is_refused(content, tmp_path):
    (tmp_path / "begun").write_bytes(content)
    with pytest.raises(RecommenderError, match="K492"):
        Initial.load(tmp_path / "begun")


@pytest.mark.parametrize("changes", [{"width": 8}, {"experts": 2}, {"blocks": 2}, {"length": 4}, {"backbone": "hstu"}])
def test_weights_of_another_shape_are_refused(begun, here, word_space, changes):
    with pytest.raises(RecommenderError, match="K493"):
        UniSRec(config(**changes), initial=begun).fit(here, word_space, rng=RNG(0))


def test_weights_of_another_space_are_refused(begun, here, word_space):
    class Other(type(word_space)):
        fingerprint = "other"

    with pytest.raises(RecommenderError, match="K493"):
        UniSRec(config(), initial=begun).fit(here, Other(), rng=RNG(0))


def test_the_adaptor_alone_cannot_learn_before_nothing(here, word_space):
    with pytest.raises(RecommenderError, match="K492"):
        UniSRec(config(tune="adaptor")).fit(here, word_space, rng=RNG(0))


def test_without_a_space_there_are_no_texts(here):
    with pytest.raises(RecommenderError, match="K404"):
        UniSRec(config()).fit(here, None, rng=RNG(0))


@pytest.mark.parametrize("items", ["texts", "ids+texts"])
def test_what_was_kept_comes_back_without_the_weights_it_began_with(begun, here, word_space, items, tmp_path):
    model = UniSRec(config(items=items), initial=begun).fit(here, word_space, rng=RNG(0))
    save(model, tmp_path, here, word_space)
    back = load(tmp_path, here, word_space)
    asked = [Request(np.array([1, 2], dtype=np.int32)), Request()]
    np.testing.assert_array_equal(back.score(asked), model.score(asked))
    assert back.config == model.config


def test_a_training_goes_on_only_from_the_weights_it_began_with(begun, here, word_space, tmp_path):
    UniSRec(config()).fit(here, word_space, rng=RNG(0), checkpoint=tmp_path / "kept")
    with pytest.raises(RecommenderError, match="K471"):
        UniSRec(config(), initial=begun).fit(here, word_space, rng=RNG(0), checkpoint=tmp_path / "kept")


def test_it_is_trained_twice_like_other_networks_and_begins_with_the_same_weights(shop, word_space, tmp_path):
    pretrain([shop.train], word_space, config(), rng=RNG(0)).save(tmp_path / "begun")
    asked = config(initial=str(tmp_path / "begun"), tune="adaptor")
    trained = train("unisrec", asked, shop, word_space, folder=tmp_path / "trained")
    assert trained.report["config"]["initial"] == str(tmp_path / "begun")
    before, after = Initial.load(tmp_path / "begun"), Initial.of(trained.recommender.network, word_space, "sasrec")
    np.testing.assert_array_equal(after.arrays["sequence.norm.weight"], before.arrays["sequence.norm.weight"])
    assert not np.array_equal(after.arrays["adaptor.maps"], before.arrays["adaptor.maps"])


def test_pooled_domains_share_nobody_and_nothing(here, there):
    both = pooled([there, here])
    assert both.n_items == there.n_items + here.n_items
    assert len(set(both.items["item_id"])) == both.n_items
    assert both.user_ids[there.n_users] == f"here/{here.user_ids[0]}"
    np.testing.assert_array_equal(both.history(there.n_users + 3), here.history(3) + there.n_items)
    assert both.events.time is None
    with pytest.raises(ValueError, match="different names"):
        pooled([here, here])
