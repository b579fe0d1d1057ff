"""Federated LoRA: the mean of what is sent is the mean of what was learned, the private part stays, sums suffice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from koinon.data import Domain, Interactions
from koinon.data.building import item_table
from koinon.errors import PrivacyError, RecommenderError
from koinon.evaluation import evaluate
from koinon.privacy.secure_sum.agreed import layout
from koinon.recommenders import Request, store
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.lora import AdaptedSpace, FederatedLora, FederatedLoraConfig, LoraPlan
from koinon.recommenders.federated.lora._network import PRIVATE, UP, open_two_loras
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import FederatedRecommender, Total
from koinon.space import open_space

NAME = "federated_lora"
SMALL = {
    "rank": 2, "private_rank": 2, "rounds": 2, "local_steps": 3, "batch_pairs": 16, "learning_rate": 5e-3,
    "finish": 2, "lambda_": 20.0,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def space(byte_encoder, tmp_path_factory):
    return open_space(byte_encoder, cache_dir=tmp_path_factory.mktemp("vectors"))


def first(settings, space, seed=0):
    plan = LoraPlan(FederatedLoraConfig(**settings))
    return plan, plan.initial([], space, rng=np.random.default_rng(seed))


def ask(plan, release, domain, space, kept=None, round_=1):
    """One partner's answer, by a learner that is built anew as between messages."""
    learner = FederatedLora(plan.config)
    learner.attach(domain, space)
    learner.restore(kept or {}, domain, space)
    return learner.contribute(domain, release, plan.task(release, round_)), learner


def few(domain, people):
    """The domain with the events of its first people alone."""
    events = domain.events
    return Domain(domain.name, domain.items, domain.user_ids, events.take(events.user < people))


def rounds(plan, release, domains, space):
    kept = {name: {} for name in domains}
    for round_ in range(1, plan.rounds + 1):
        given = {}
        for name, domain in domains.items():
            given[name], learner = ask(plan, release, domain, space, kept[name], round_)
            kept[name] = learner.state()
        release = plan.aggregate(release, add_up(plan.task(release, round_).specs, given))
    return release, kept


def products(space, plan, release, up):
    """Every layer's change by the shared part, ``float[out, in]``."""
    loras = open_two_loras(space, plan.config, int(release.info["seed"]))
    loras.load_up(up.astype(np.float32))
    return loras.products()


@pytest.fixture(scope="module")
def three(shop, space):
    """A plan past its first round, and three unequal partners' answers to the second."""
    plan, release = first({**SMALL, "weighting": "root"}, space)
    domains = {"a": shop.train, "b": few(shop.train, 70), "c": few(shop.train, 20)}
    given = {name: ask(plan, release, domain, space)[0] for name, domain in domains.items()}
    release = plan.aggregate(release, add_up(plan.task(release, 1).specs, given))
    return plan, release, {name: ask(plan, release, d, space, round_=2)[0] for name, d in domains.items()}


@pytest.fixture(scope="module")
def finished(shop, space):
    plan, release = first(SMALL, space)
    release, kept = rounds(plan, release, {"shop": shop.train}, space)
    return plan, release, kept["shop"]


class TestAverage:
    def test_the_aggregates_product_is_the_weighted_mean_of_the_partners_products(self, three, space):
        plan, release, given = three
        after = plan.aggregate(release, add_up(plan.task(release, 2).specs, given))
        weights = {name: float(each.arrays["weight"][0]) for name, each in given.items()}
        assert len(set(weights.values())) == 3
        own = {
            name: products(space, plan, release, release.arrays[UP] + each.arrays[UP] / weights[name])
            for name, each in given.items()
        }
        found = products(space, plan, release, after.arrays[UP])
        total = sum(weights.values())
        for layer, product in found.items():
            mean = sum(weights[name] / total * own[name][layer] for name in own)
            np.testing.assert_allclose(product, mean, atol=1e-6)
            assert np.abs(product).max() > 1e-4

    def test_all_partners_draw_the_same_frozen_rows_and_they_are_orthonormal(self, space):
        plan, release = first(SMALL, space)
        one, other = (open_two_loras(space, plan.config, int(release.info["seed"])) for _ in range(2))
        another = open_two_loras(space, plan.config, int(release.info["seed"]) + 1)
        downs = [
            {n: p.detach().numpy() for n, p in each.network.named_parameters() if ".lora_A.default." in n}
            for each in (one, other, another)
        ]
        assert len(downs[0]) > 4
        for name, rows in downs[0].items():
            np.testing.assert_array_equal(rows, downs[1][name])
            np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-6)
            assert not np.allclose(rows, downs[2][name])

    def test_training_leaves_the_frozen_rows_and_the_encoder_as_they_are(self, shop, space):
        plan, release = first(SMALL, space)
        _, learner = ask(plan, release, shop.train, space)
        loras = learner._open(release)
        before = {n: p.detach().clone() for n, p in loras.network.named_parameters()}
        learner._learn(shop.train, loras, release, 1, 3)
        moved = {n for n, p in loras.network.named_parameters() if not torch.equal(p, before[n])}
        assert moved
        assert all(".lora_B.default." in name or ".private." in name for name in moved)
        assert any(".lora_B.default." in name for name in moved)
        assert any(".lora_A.private." in name or ".lora_B.private." in name for name in moved)

    def test_secure_words_give_the_release_of_open_sums(self, three):
        plan, release, given = three
        specs = plan.task(release, 2).specs
        words = layout(specs, len(given))
        arrays, users = words.unpack(np.add.reduce([words.pack(each.arrays, each.n_users) for each in given.values()]))
        sums = Total({n: a.astype(np.float64) for n, a in arrays.items()}, users, tuple(sorted(given)))
        opened, secure = plan.aggregate(release, add_up(specs, given)), plan.aggregate(release, sums)
        np.testing.assert_allclose(secure.arrays[UP], opened.arrays[UP], atol=1e-5)

    def test_a_change_is_held_to_the_clip(self, shop, space):
        plan, release = first({**SMALL, "clip": 1e-3, "weighting": "equal"}, space)
        given, _ = ask(plan, release, shop.train, space)
        norm = np.linalg.norm(given.arrays[UP].astype(np.float64))
        assert 0.9e-3 < norm <= 1e-3

    def test_one_with_nobody_to_learn_from_sends_zeros_and_counts_nothing(self, shop, space):
        plan, release = first(SMALL, space)
        given, _ = ask(plan, release, few(shop.train, 0), space)
        assert not any(array.any() for array in given.arrays.values())
        still = plan.aggregate(release, add_up(plan.task(release, 1).specs, {"empty": given}))
        np.testing.assert_array_equal(still.arrays[UP], release.arrays[UP])

    def test_adam_goes_on_where_a_killed_server_stood(self, three):
        _, release, given = three
        settings = {**SMALL, "server": "adam", "server_rate": 0.001}
        plan, other, fresh = (registry.plan(NAME, settings) for _ in range(3))
        total = add_up(plan.task(release, 1).specs, given)
        once = plan.aggregate(release, total)
        registry.restore(other, registry.state(plan))
        wanted = plan.aggregate(once, total)
        np.testing.assert_array_equal(other.aggregate(once, total).arrays[UP], wanted.arrays[UP])
        assert not np.array_equal(fresh.aggregate(once, total).arrays[UP], wanted.arrays[UP])


class TestPrivate:
    def test_what_is_sent_is_the_declared_tensors_whatever_the_events(self, shop, space):
        plan, release = first(SMALL, space)
        wanted = {spec.name: (spec.shape, spec.dtype) for spec in plan.task(release, 1).specs}
        assert set(wanted) == {"weight", UP} == set(plan.measures)
        for domain in (shop.train, few(shop.train, 30), few(shop.train, 0)):
            given, learner = ask(plan, release, domain, space)
            assert {n: (a.shape, a.dtype.name) for n, a in given.arrays.items()} == wanted
            assert all(name.startswith(PRIVATE) for name in learner.state())
        assert set(release.arrays) == {UP}

    def test_the_private_part_moves_nothing_that_is_sent_but_by_its_steps(self, shop, space):
        """The shared tensor holds no entry of the private part: its length is that of ``B`` alone."""
        plan, release = first(SMALL, space)
        with_private = open_two_loras(space, plan.config, 0)
        without = open_two_loras(space, plan.config.model_copy(update={"private_rank": 0}), 0)
        assert with_private.size == without.size == len(release.arrays[UP])
        assert with_private.private()
        assert not without.private()

    def test_it_goes_on_from_round_to_round_and_survives_a_restart(self, shop, space):
        plan, release = first(SMALL, space)
        given, learner = ask(plan, release, shop.train, space)
        kept = {name: array.copy() for name, array in learner.state().items()}
        release = plan.aggregate(release, add_up(plan.task(release, 1).specs, {"shop": given}))
        warm = learner.contribute(shop.train, release, plan.task(release, 2))
        cold, _ = ask(plan, release, shop.train, space, kept, 2)
        again, _ = ask(plan, release, shop.train, space, kept, 2)
        forgetful, _ = ask(plan, release, shop.train, space, None, 2)
        assert all(warm.arrays[n].tobytes() == cold.arrays[n].tobytes() == again.arrays[n].tobytes() for n in (UP,))
        assert not np.array_equal(cold.arrays[UP], forgetful.arrays[UP])

    def test_reading_without_the_private_part_is_reading_by_the_release_alone(self, shop, space):
        plan, release = first(SMALL, space)
        release, kept = rounds(plan, release, {"shop": shop.train}, space)
        learner = FederatedLora(plan.config)
        learner.attach(shop.train, space)
        learner.restore(kept["shop"], shop.train, space)
        loras = learner._open(release)
        texts = list(shop.train.texts[:5])
        both = loras.network.encode(texts)
        loras.read_with(private=False)
        alone = loras.network.encode(texts)
        plain = open_two_loras(space, plan.config.model_copy(update={"private_rank": 0}), int(release.info["seed"]))
        plain.load_up(release.arrays[UP])
        np.testing.assert_allclose(alone, plain.network.encode(texts), atol=1e-5)
        assert np.abs(both - alone).max() > 1e-3
        loras.read_with(private=True)
        np.testing.assert_allclose(loras.network.encode(texts), both, atol=1e-6)


class TestRefusals:
    def test_a_release_or_task_of_another_network_is_refused(self, shop, space):
        plan, release = first(SMALL, space)
        wider, larger = first({**SMALL, "rank": 3}, space)
        for asked, said in ((larger, wider.task(larger, 1)), (release, wider.task(larger, 1))):
            learner = FederatedLora(plan.config)
            learner.attach(shop.train, space)
            with pytest.raises(RecommenderError, match="K462"):
                learner.contribute(shop.train, asked, said)
        broken = replace(release, arrays={UP: release.arrays[UP] * np.nan})
        with pytest.raises(RecommenderError, match="K463"):
            ask(plan, broken, shop.train, space)

    def test_it_needs_an_encoder_that_can_be_tuned_and_promises_no_budget(self, shop, word_space):
        for no_encoder in (None, word_space):
            with pytest.raises(RecommenderError, match="K487"):
                LoraPlan().initial([], no_encoder, rng=np.random.default_rng(0))
        with pytest.raises(PrivacyError, match="K675"):
            LoraPlan().shares()
        with pytest.raises(RecommenderError, match="K404"):
            FederatedLora().fit(shop.train, None, rng=np.random.default_rng(0))


class TestAtHome:
    @pytest.fixture
    def trained(self, finished, shop, space):
        plan, release, kept = finished
        learner = FederatedLora(plan.config)
        learner.restore(kept, shop.train, space)
        learner.receive(release)
        return learner

    @pytest.mark.parametrize("own", [{"mix": 0.0}, {"mix": 1.0, "private": False}, {"mix": 0.5, "private": True}])
    def test_it_can_be_kept(self, trained, shop, space, tmp_path, own):
        assert isinstance(registry.recommender(NAME, SMALL), FederatedRecommender)
        trained.config = trained.config.model_copy(update=own)
        trained.fit(shop.train, space, rng=np.random.default_rng(1))
        asked = [Request(np.array([3, 9], dtype=np.int32)), Request(), Request(liked=("topic2 new",), query="topic1")]
        scores = trained.score(asked)
        store.save(trained, tmp_path, shop.train, space)
        back = store.load(tmp_path, shop.train, space)
        np.testing.assert_allclose(back.score(asked), scores, atol=1e-4)
        some = np.array([5, 2], dtype=np.int32)
        np.testing.assert_allclose(back.score(asked, some), scores[:, some], atol=1e-4)

    def test_with_nothing_of_the_tuned_encoder_it_is_the_partners_own_model(self, trained, shop, space):
        trained.config = trained.config.model_copy(update={"mix": 0.0})
        trained.fit(shop.train, space, rng=np.random.default_rng(0))
        own = SemanticEASE(SemanticEaseConfig(lambda_=20.0)).fit(shop.train, space, rng=np.random.default_rng(0))
        asked = [Request(np.array([3, 9], dtype=np.int32)), Request(query="topic1")]
        np.testing.assert_allclose(trained.score(asked), own.score(asked), atol=1e-5)

    def test_a_reading_that_does_not_clearly_win_on_validation_is_not_taken(self, trained, shop, space):
        own = SemanticEaseConfig(lambda_=20.0)
        trials = trained.tune(shop, space, rng=np.random.default_rng(0), start=own, caution=1e9)
        assert trained.config.mix == 0.0
        assert len(trials) == 5
        alone = SemanticEASE(own).fit(shop.train, space, rng=np.random.default_rng(0))
        assert trials[0].value == pytest.approx(
            evaluate(alone, shop.train, shop.validation, slices=("all",)).mean(), abs=1e-9
        )

    def test_a_cosine_is_the_mixture_of_both_encoders_cosines(self, trained, shop, space):
        trained.config = trained.config.model_copy(update={"mix": 0.25, "private": False})
        trained.fit(shop.train, space, rng=np.random.default_rng(0))
        assert isinstance(trained.space, AdaptedSpace)
        texts = list(shop.train.texts[:6])
        frozen, mixed = space.encode(texts), trained.space.encode(texts)
        tuned = trained.space.loras.network.encode(texts)
        np.testing.assert_allclose(mixed @ mixed.T, 0.75 * frozen @ frozen.T + 0.25 * tuned @ tuned.T, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1.0, atol=1e-5)
        assert trained.space.dimension == mixed.shape[1]

    def test_what_people_type_is_kept_nowhere(self, trained, shop, space):
        trained.config = trained.config.model_copy(update={"mix": 0.5})
        trained.fit(shop.train, space, rng=np.random.default_rng(0))
        known, cached = set(trained.space.known), len(space.cache)
        trained.score([Request(query="a secret wish"), Request(liked=("another secret",))])
        assert set(trained.space.known) == known
        assert len(space.cache) == cached


def coloured(name, colours, people=40, seed=0):
    """A shop whose people keep to one colour; nobody else has its colours."""
    things = ("pen", "book", "lamp", "chair", "cup", "box")
    texts = [f"{colour} {thing}" for colour in colours for thing in things]
    rng = np.random.default_rng(seed)
    taken = [
        rng.choice(len(things), 3, replace=False) + len(things) * rng.integers(len(colours)) for _ in range(people)
    ]
    events = Interactions(np.repeat(np.arange(people), 3).astype(np.int32), np.concatenate(taken).astype(np.int32))
    return Domain(name, item_table(texts, texts, texts), tuple(f"{name}-{n}" for n in range(people)), events)


def test_partners_that_share_no_item_learn_from_each_other(space):
    """One release brings the colours of both shops apart, though neither has seen the other's."""
    settings = {**SMALL, "rounds": 3, "local_steps": 5, "private_rank": 0, "learning_rate": 1e-2, "batch_pairs": 12}
    plan, release = first(settings, space)
    shops = {"one": coloured("one", ("red", "blue")), "two": coloured("two", ("green", "white"))}

    def apart(shop, up):
        loras = open_two_loras(space, plan.config, int(release.info["seed"]))
        loras.load_up(up)
        cosines = (lambda vectors: vectors @ vectors.T)(loras.network.encode(shop.texts))
        same = np.equal.outer(*[np.arange(12) // 6] * 2)
        return cosines[same].mean() - cosines[~same].mean()

    found, _ = rounds(plan, release, shops, space)
    for shop in shops.values():
        assert apart(shop, found.arrays[UP]) > apart(shop, release.arrays[UP]) + 0.05
