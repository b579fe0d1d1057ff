"""Federated HSTU: rounds of one partner are local training, the private part stays, sums are all that is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from koinon.data import Domain, Interactions, SplitConfig, make_split
from koinon.data.building import item_table
from koinon.errors import PrivacyError, RecommenderError
from koinon.evaluation import evaluate
from koinon.privacy.secure_sum.agreed import layout
from koinon.recommenders import store
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.hstu import FederatedHSTU, FederatedHSTUConfig, HSTUPlan
from koinon.recommenders.federated.hstu.parts import is_shared, shared_part, template
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution, FederatedRecommender, Release, Request, Total
from koinon.recommenders.sequential.histories import Histories
from koinon.recommenders.sequential.trainer import fit_histories

NAME = "federated_hstu"
SMALL = {"width": 8, "length": 6, "batch_users": 64, "rounds": 3, "local_steps": 4, "epochs": 1, "negatives": 8}
CODED = {**SMALL, "code_levels": 2, "code_words": 4}
NOBODY = Domain("bowl", item_table([], [], []), (), Interactions(np.empty(0, np.int32), np.empty(0, np.int32)))
EXACT = {**SMALL, "dropout": 0.0, "loss": "full", "clip": 1e6}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def first(settings, space, seed=0):
    plan = HSTUPlan(FederatedHSTUConfig(**settings))
    return plan, plan.initial([], space, rng=np.random.default_rng(seed))


def ask(plan, release, domain, space, kept=None, round_=1):
    """One partner's answer, by a learner that is built anew as between messages, and what it keeps."""
    learner = FederatedHSTU(plan.config)
    learner.attach(domain, space)
    learner.restore(kept or {}, domain, space)
    given = learner.contribute(domain, release, plan.task(release, round_))
    return given, learner


def rounds(plan, release, domains, space):
    """All rounds over some partners; the last release and what each keeps."""
    kept = {name: {} for name in domains}
    for round_ in range(1, plan.rounds + 1):
        given = {}
        for name, domain in domains.items():
            given[name], learner = ask(plan, release, domain, space, kept[name], round_)
            kept[name] = learner.state()
        release = plan.aggregate(release, add_up(plan.task(release, round_).specs, given))
    return release, kept


def coded(plan, release, domains, space):
    """The release once the codebook's rounds are over, if the plan has such."""
    for round_ in range(1, plan.before + 1):
        given = {name: ask(plan, release, domain, space, round_=round_)[0] for name, domain in domains.items()}
        release = plan.aggregate(release, add_up(plan.task(release, round_).specs, given))
    return release


def few(domain, people):
    """The domain with the events of its first people alone."""
    events = domain.events
    return Domain(domain.name, domain.items, domain.user_ids, events.take(events.user < people))


class TestRounds:
    def test_those_of_a_single_partner_are_local_training(self, shop, word_space):
        """Full softmax and no dropout leave nothing to chance but the order of people, which is the trainer's."""
        plan, release = first({**EXACT, "local_steps": 100}, word_space)
        found, kept = rounds(plan, release, {"shop": shop.train}, word_space)
        alone = FederatedHSTU(plan.config)
        alone.receive(release)
        histories = alone._begin(shop.train, word_space, np.random.default_rng(0))
        seed, config = int(release.info["seed"]), plan.config.model_copy(update={"epochs": plan.rounds})
        fit_histories(alone.network, histories, config, seed=seed, device=torch.device("cpu"))
        for name, value in alone.network.named_parameters():
            reached = found.arrays[name] if is_shared(name) else kept["shop"][f"private/{name}"]
            np.testing.assert_allclose(reached, value.detach().numpy(), atol=2e-5)
        moved = np.abs(found.arrays["positions"] - release.arrays["positions"]).max()
        assert moved > 1e-3

    def test_one_asked_twice_is_answered_the_same(self, shop, word_space):
        plan, release = first(SMALL, word_space)
        one, two = (ask(plan, release, shop.train, word_space)[0] for _ in range(2))
        assert all(one.arrays[name].tobytes() == two.arrays[name].tobytes() for name in one.arrays)

    def test_the_mean_is_weighted_by_people_their_root_or_not_at_all(self, shop, word_space):
        half = few(shop.train, 60)
        people = len(Histories(half, 6).users)
        for weighting, weight in (("people", people), ("root", people**0.5), ("equal", 1.0)):
            plan, release = first({**SMALL, "weighting": weighting}, word_space)
            given, learner = ask(plan, release, half, word_space)
            assert given.arrays["weight"][0] == pytest.approx(weight)
            change = shared_part(learner.network)["positions"].detach().numpy() - release.arrays["positions"]
            np.testing.assert_allclose(given.arrays["positions"], weight * change, rtol=1e-4, atol=1e-6)

    def test_a_change_is_held_to_the_clip(self, shop, word_space):
        plan, release = first({**SMALL, "clip": 0.01, "weighting": "equal"}, word_space)
        given, _ = ask(plan, release, shop.train, word_space)
        norm = np.sqrt(sum((array**2).sum() for name, array in given.arrays.items() if name != "weight"))
        assert 0.0099 < norm <= 0.01

    def test_the_proximal_term_keeps_a_partner_near_the_release(self, shop, word_space):
        def moved(proximal):
            plan, release = first({**SMALL, "local_steps": 12, "local_passes": 3, "proximal": proximal}, word_space)
            given, _ = ask(plan, release, shop.train, word_space)
            return np.sqrt(sum((array**2).sum() for name, array in given.arrays.items() if name != "weight"))

        assert moved(10.0) < 0.8 * moved(0.0)

    def test_a_partner_with_fewer_people_than_a_batch_takes_its_passes(self, shop, word_space):
        plan, release = first({**SMALL, "batch_users": 128, "local_passes": 2}, word_space)
        given, learner = ask(plan, release, few(shop.train, 9), word_space)
        assert int(learner.state()["steps"][0]) == 2
        assert np.abs(given.arrays["positions"]).max() > 0

    def test_a_loss_that_is_not_finite_names_the_step_sends_nothing_and_leaves_what_was_kept(self, shop, word_space):
        plan, release = first({**SMALL, "batch_users": 8}, word_space)
        _, before = ask(plan, release, shop.train, word_space)
        kept = before.state()
        wild = HSTUPlan(plan.config.model_copy(update={"learning_rate": 1e30}))
        learner = FederatedHSTU(wild.config)
        learner.attach(shop.train, word_space)
        learner.restore(kept, shop.train, word_space)
        with pytest.raises(RecommenderError, match=r"K470.*step \d+"):
            learner.contribute(shop.train, release, wild.task(release, 2))
        assert learner.state().keys() == kept.keys()
        assert all(array is kept[name] for name, array in learner.state().items())

    def test_one_with_nobody_to_learn_from_sends_zeros_and_counts_nothing(self, shop, word_space):
        nobody = replace(shop.train, events=shop.train.events.take(np.zeros(len(shop.train.events), dtype=bool)))
        plan, release = first(SMALL, word_space)
        given, _ = ask(plan, release, nobody, word_space)
        assert not any(array.any() for array in given.arrays.values())
        both = {"shop": ask(plan, release, shop.train, word_space)[0]}
        specs = plan.task(release, 1).specs
        with_it = plan.aggregate(release, add_up(specs, {**both, "empty": given}))
        without = plan.aggregate(release, add_up(specs, both))
        for name in release.arrays:
            np.testing.assert_array_equal(with_it.arrays[name], without.arrays[name])
        still = plan.aggregate(release, add_up(specs, {"empty": given}))
        np.testing.assert_array_equal(still.arrays["positions"], release.arrays["positions"])


class TestPrivate:
    @pytest.mark.parametrize("items", ["ids", "texts", "ids+texts", "ids+codes"])
    def test_what_is_sent_is_the_declared_shared_part_whatever_the_events(self, shop, word_space, items):
        plan, release = first({**CODED, "items": items, "ranking_negatives": 4, "gaps": True}, word_space)
        release = coded(plan, release, {"shop": shop.train}, word_space)
        timed = Interactions(shop.train.events.user, shop.train.events.item, np.arange(len(shop.train.events)) * 60_000)
        for domain in (shop.train, few(shop.train, 30), replace(shop.train, events=timed)):
            given, learner = ask(plan, release, domain, word_space, round_=plan.before + 1)
            assert {n: (a.shape, a.dtype.name) for n, a in given.arrays.items()} == {
                spec.name: (spec.shape, spec.dtype) for spec in plan.task(release, plan.before + 1).specs
            }
            private = {name for name, _ in learner.network.named_parameters() if not is_shared(name)}
            assert not private & set(given.arrays)
            assert not any(
                word in name for name in given.arrays for word in ("vectors", "time", "gaps", "rank", "last")
            )
            kept = {name.removeprefix("private/") for name in learner.state() if name.startswith("private/")}
            assert kept == private
        assert any("vectors" in name for name in private) == ("ids" in items)

    def test_the_plans_template_has_the_shared_part_of_every_partners_network(self, shop, word_space):
        for items in ("ids", "texts", "ids+texts", "codes", "ids+codes"):
            plan, release = first({**CODED, "items": items}, word_space)
            release = coded(plan, release, {"shop": shop.train}, word_space)
            _, learner = ask(plan, release, shop.train, word_space, round_=plan.before + 1)
            described = shared_part(template(plan.config, word_space.dimension, "meta"))
            found = shared_part(learner.network)
            assert {n: v.shape for n, v in described.items()} == {n: v.shape for n, v in found.items()}

    def test_it_goes_on_from_round_to_round_and_survives_a_restart(self, shop, word_space):
        """A learner kept in memory and one built anew from its stored state give the same second round."""
        plan, release = first(SMALL, word_space)
        given, learner = ask(plan, release, shop.train, word_space)
        kept = {name: array.copy() for name, array in learner.state().items()}
        release = plan.aggregate(release, add_up(plan.task(release, 1).specs, {"shop": given}))
        task = plan.task(release, 2)
        warm = learner.contribute(shop.train, release, task)
        cold, again = ask(plan, release, shop.train, word_space, kept, 2)
        forgetful, _ = ask(plan, release, shop.train, word_space, None, 2)
        assert all(warm.arrays[name].tobytes() == cold.arrays[name].tobytes() for name in warm.arrays)
        assert int(again.state()["steps"][0]) == 2 * int(kept["steps"][0])
        assert not np.array_equal(cold.arrays["positions"], forgetful.arrays["positions"])


class Bowl(torch.nn.Module):
    """A partner's loss ``½ Σ slope (x - low)²`` over the one shared parameter."""

    own_clock = False

    def __init__(self, slope, low):
        super().__init__()
        self.slope, self.low = torch.tensor(slope), torch.tensor(low)
        self.positions = torch.nn.Parameter(torch.zeros(2))

    def loss(self, batch):
        return 0.5 * (self.slope * (self.positions - self.low) ** 2).sum()


class Bowls(FederatedHSTU):
    """The learner as it is, over a loss whose optimum is known."""

    def __init__(self, config, bowl, batches):
        super().__init__(config)
        self.bowl, self.users, self._device = bowl, np.arange(batches * config.batch_users), torch.device("cpu")

    def _open(self, domain, release):
        with torch.no_grad():
            self.bowl.positions.copy_(torch.tensor(release.arrays["positions"]))
        return self

    def batch(self, users, device, *, own_clock):
        return None

    def _hstu(self):
        return self.bowl

    def _settle(self):
        pass


class TestDrift:
    def test_control_variates_bring_unequal_partners_to_the_common_optimum_and_plain_averages_do_not(self):
        """Partners that differ in size, slope and lowest point, and in the steps they take in a round."""
        slopes, lows, sizes = ([1.0, 4.0], [6.0, 0.5]), ([1.0, -1.0], [-2.0, 3.0]), (1, 4)
        weights = [np.sqrt(64 * size) for size in sizes]
        pulls = [w * np.array(slope) for w, slope in zip(weights, slopes, strict=True)]
        lowest = sum(pull * low for pull, low in zip(pulls, np.array(lows), strict=True)) / sum(pulls)

        def away(control):
            settings = {**SMALL, "rounds": 150, "local_steps": 8, "local_passes": 4, "learning_rate": 0.02}
            plan = HSTUPlan(FederatedHSTUConfig(**settings, control=control))
            names = ("positions", "control/positions") if control else ("positions",)
            release = Release(0, NAME, {name: np.zeros(2, dtype=np.float32) for name in names}, {"seed": 0})
            learners = [
                Bowls(plan.config, Bowl(*shape), size) for *shape, size in zip(slopes, lows, sizes, strict=True)
            ]
            for round_ in range(1, plan.rounds + 1):
                task = plan.task(release, round_)
                given = {str(n): each.contribute(NOBODY, release, task) for n, each in enumerate(learners)}
                release = plan.aggregate(release, add_up(task.specs, given))
            return np.abs(release.arrays["positions"] - lowest).max()

        assert away(control=True) < 0.1
        assert away(control=False) > 1.0

    def test_control_variates_are_kept_and_sent_within_the_clip_and_add_up_secretly(self, shop, word_space):
        plan, release = first({**SMALL, "control": True, "clip": 0.05}, word_space)
        names = {name for name in release.arrays if name.startswith("control/")}
        assert {name.removeprefix("control/") for name in names} == set(release.arrays) - names
        specs = plan.task(release, 1).specs
        given = {}
        for name, domain in {"a": shop.train, "b": few(shop.train, 40)}.items():
            given[name], learner = ask(plan, release, domain, word_space)
            kept, weight = learner.state(), given[name].arrays["weight"][0]
            norm = np.sqrt(sum((kept[control] ** 2).sum() for control in names))
            assert 0 < norm <= 0.05
            for control in names:
                np.testing.assert_allclose(given[name].arrays[control], weight * kept[control], rtol=1e-5, atol=1e-9)
        words = layout(specs, 2)
        arrays, users = words.unpack(np.add.reduce([words.pack(each.arrays, each.n_users) for each in given.values()]))
        sums = Total({n: a.astype(np.float64) for n, a in arrays.items()}, users, ("a", "b"))
        opened, secure = plan.aggregate(release, add_up(specs, given)), plan.aggregate(release, sums)
        for name in release.arrays:
            np.testing.assert_allclose(secure.arrays[name], opened.arrays[name], atol=1e-5)
        assert set(plan.measures) == {spec.name for spec in specs}

    def test_a_single_partner_is_not_corrected(self, shop, word_space):
        found = [rounds(*first({**EXACT, "control": on}, word_space), {"shop": shop.train}, word_space)[0]
                 for on in (True, False)]  # fmt: skip
        np.testing.assert_allclose(found[0].arrays["positions"], found[1].arrays["positions"], atol=2e-5)

    def test_without_them_nothing_of_them_is_written_or_sent(self, word_space):
        plan, release = first(SMALL, word_space)
        assert "control" not in plan.config.model_dump_json()
        assert not any("control" in name for name in (*release.arrays, *plan.measures))


class TestServer:
    def test_secure_words_give_the_release_of_open_sums(self, shop, word_space):
        plan, release = first(SMALL, word_space)
        specs = plan.task(release, 1).specs
        domains = {"a": shop.train, "b": few(shop.train, 80), "c": few(shop.train, 9)}
        given = {name: ask(plan, release, domain, word_space)[0] for name, domain in domains.items()}
        words = layout(specs, len(given))
        packed = [words.pack(each.arrays, each.n_users) for each in given.values()]
        arrays, users = words.unpack(np.add.reduce(packed))
        sums = Total({n: a.astype(np.float64) for n, a in arrays.items()}, users, tuple(sorted(given)))
        opened, secure = plan.aggregate(release, add_up(specs, given)), plan.aggregate(release, sums)
        for name in release.arrays:
            np.testing.assert_allclose(secure.arrays[name], opened.arrays[name], atol=1e-5)

    def test_adam_goes_on_where_a_killed_server_stood(self, shop, word_space):
        settings = {**SMALL, "server": "adam", "server_rate": 0.01}
        plan, release = first(settings, word_space)
        given, _ = ask(plan, release, shop.train, word_space)
        total = add_up(plan.task(release, 1).specs, {"shop": given})
        once = plan.aggregate(release, total)
        other = registry.plan(NAME, settings)
        registry.restore(other, registry.state(plan))
        fresh = registry.plan(NAME, settings)
        wanted = plan.aggregate(once, total)
        np.testing.assert_array_equal(other.aggregate(once, total).arrays["positions"], wanted.arrays["positions"])
        assert not np.array_equal(fresh.aggregate(once, total).arrays["positions"], wanted.arrays["positions"])
        step = np.abs(once.arrays["positions"] - release.arrays["positions"]).max()
        assert 0 < step <= 0.01 * 0.1 / 0.1**0.5

    def test_it_needs_a_space_for_texts_and_promises_no_budget(self):
        with pytest.raises(RecommenderError, match="K460"):
            HSTUPlan().initial([], None, rng=np.random.default_rng(0))
        plan, release = first({**SMALL, "items": "ids"}, None)
        assert "positions" in release.arrays
        with pytest.raises(PrivacyError, match="K675"):
            plan.shares()

    def test_a_release_or_task_of_another_network_is_refused(self, shop, word_space):
        plan, release = first(SMALL, word_space)
        wider, larger = first({**SMALL, "width": 16}, word_space)
        for asked, said in ((larger, wider.task(larger, 1)), (release, wider.task(larger, 1))):
            learner = FederatedHSTU(plan.config)
            learner.attach(shop.train, word_space)
            with pytest.raises(RecommenderError, match="K462"):
                learner.contribute(shop.train, asked, said)
        broken = replace(release, arrays={**release.arrays, "positions": release.arrays["positions"] * np.nan})
        with pytest.raises(RecommenderError, match="K463"):
            ask(plan, broken, shop.train, word_space)


@pytest.fixture(scope="module")
def finished(shop, word_space):
    """A plan, its final release, and what the partner keeps."""
    plan, release = first({**SMALL, "batch_users": 16, "local_steps": 15, "learning_rate": 5e-3}, word_space)
    release, kept = rounds(plan, release, {"shop": shop.train}, word_space)
    return plan, release, kept["shop"]


class TestAtHome:
    @pytest.fixture
    def trained(self, finished, shop, word_space):
        plan, release, kept = finished
        learner = FederatedHSTU(plan.config)
        learner.restore(kept, shop.train, word_space)
        learner.receive(release)
        return learner

    def test_it_is_a_federated_recommender_that_can_be_kept(self, trained, shop, word_space, tmp_path):
        assert isinstance(registry.recommender(NAME, SMALL), FederatedRecommender)
        own = SemanticEaseConfig(lambda_=20.0)
        trained.config = trained.config.model_copy(update={"blend": 0.5, "own": own})
        trained.fit(shop.train, word_space, rng=np.random.default_rng(1))
        requests = [Request(history=np.array([3, 9], dtype=np.int32)), Request()]
        scores = trained.score(requests)
        store.save(trained, tmp_path, shop.train, word_space)
        back = store.load(tmp_path, shop.train, word_space)
        np.testing.assert_allclose(back.score(requests), scores, atol=1e-5)
        few_items = np.array([5, 2], dtype=np.int32)
        np.testing.assert_allclose(back.score(requests, few_items), scores[:, few_items], atol=1e-5)

    def test_where_the_network_helps_nobody_the_partners_own_model_is_what_is_left(self, shop, word_space):
        """Nobody is worse off than alone: an untrained network has no part in the scores."""
        learner = FederatedHSTU(FederatedHSTUConfig(**{**SMALL, "epochs": 0}))
        own = SemanticEaseConfig(lambda_=20.0)
        learner.tune(shop, word_space, rng=np.random.default_rng(0), start=own)
        assert learner.config.blend == 1.0
        alone = SemanticEASE(own).fit(shop.train, word_space, rng=np.random.default_rng(0))
        found = [evaluate(m, shop.train, shop.validation, slices=("all",)).mean() for m in (learner, alone)]
        assert found[0] >= found[1]

    def test_what_was_kept_of_another_catalogue_is_refused(self, finished, shop, word_space):
        plan, release, kept = finished
        learner = FederatedHSTU(plan.config)
        fewer = {n: array[:-1] if n.startswith("private/") and "vectors" in n else array for n, array in kept.items()}
        assert any(fewer[n].shape != kept[n].shape for n in kept)
        learner.restore(fewer, shop.train, word_space)
        learner.receive(release)
        with pytest.raises(RecommenderError, match="K471"):
            learner.fit(shop.train, word_space, rng=np.random.default_rng(0))

    def test_fine_tuning_is_taken_only_as_far_as_validation_gains(self, trained, shop, word_space):
        trials = trained.tune(shop, word_space, rng=np.random.default_rng(0))
        before, after = trials
        assert after.value >= before.value
        assert (trained.config.epochs == 0) == (after.value == before.value)
        assert trained.config.blend == 0.0

    def test_it_says_how_far_the_rounds_have_come(self, shop, word_space):
        plan, release = first(SMALL, word_space)
        _, learner = ask(plan, release, shop.train, word_space)
        assert learner.score([Request(history=np.array([1], dtype=np.int32))]).shape == (1, shop.train.n_items)


def test_partners_that_share_no_item_learn_from_each_other(shop_tables, word_space):
    """A shop too small to learn what follows what by itself ranks better with the rounds of one that can."""
    split = make_split("large", shop_tables, SplitConfig(protocol="holdout", cold_items=0.0, minimum_item_events=1))
    small = make_split(
        "small",
        replace(shop_tables, events=shop_tables.events.filter(shop_tables.events["user_id"] >= "u205")),
        SplitConfig(protocol="holdout", cold_items=0.0, minimum_item_events=1),
    )
    settings = {
        **SMALL, "items": "texts", "batch_users": 16, "local_steps": 15, "rounds": 8, "learning_rate": 5e-3,
        "weighting": "people",
    }  # fmt: skip
    figures = {}
    for name, domains in (
        ("alone", {"small": small.train}),
        ("together", {"small": small.train, "large": split.train}),
    ):
        plan, release = first(settings, word_space)
        release, kept = rounds(plan, release, domains, word_space)
        learner = FederatedHSTU(plan.config.model_copy(update={"epochs": 0}))
        learner.restore(kept["small"], small.train, word_space)
        learner.receive(release)
        learner.fit(small.train, word_space, rng=np.random.default_rng(0))
        figures[name] = evaluate(learner, small.train, small.validation, slices=("all",)).mean()
    assert figures["together"] > 1.2 * figures["alone"]


def test_partners_fit_one_codebook_first_and_then_share_what_its_words_stand_for(shop, word_space):
    plan, release = first({**CODED, "items": "ids+codes", "rounds": 1}, word_space)
    assert (plan.before, plan.rounds) == (12, 13)
    release, kept = rounds(plan, release, {"shop": shop.train}, word_space)
    assert release.recommender == NAME
    learner = FederatedHSTU(plan.config)
    learner.restore(kept["shop"], shop.train, word_space)
    learner.receive(release)
    learner.fit(shop.train, word_space, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(learner.codebook.centroids, release.arrays["codebook"])
    back = FederatedHSTU(learner.config).restore(learner.state(), shop.train, word_space)
    requests = [Request(history=np.array([3, 9], dtype=np.int32))]
    np.testing.assert_allclose(back.score(requests), learner.score(requests), atol=1e-5)


def test_contributions_are_what_the_protocol_says(shop, word_space):
    plan, release = first(SMALL, word_space)
    given, _ = ask(plan, release, shop.train, word_space)
    assert isinstance(given, Contribution)
    for spec in plan.task(release, 1).specs:
        assert np.linalg.norm(given.arrays[spec.name]) <= spec.clip * given.n_users
        assert plan.measures[spec.name].rows is None
