"""Federated adapters: sums that equal the joined data's, factors without one's own echo, a floor by validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from koinon.data import Interactions
from koinon.errors import RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders import FederatedRecommender, Release, Request, Task, TensorSpec, store
from koinon.recommenders._search import Validator
from koinon.recommenders.conventional import SemanticEaseConfig, gram_matrix
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.adapters import AdaptersConfig, AdaptersPlan, FederatedAdapters
from koinon.recommenders.federated.adapters._partner import FactorOthers, editions
from koinon.recommenders.federated.adapters._sums import (
    denoised_semantic,
    factors,
    orthonormal,
    projection,
    unit,
    whitening,
)
from koinon.recommenders.federated.adapters._tuning import _Trials
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.federated.totals import add_up

SMALL = AdaptersConfig(rounds=4, width=40, directions=16)


def rows(asked, keep):
    """The rows of an evaluation set whose users are kept."""
    chosen = np.flatnonzero(keep[asked.user])
    lists = {}
    for kind, of in (("history", asked.history), ("target", asked.targets)):
        parts = [of(row) for row in chosen.tolist()]
        lists[f"{kind}_indptr"] = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        lists[f"{kind}_items"] = np.concatenate(parts).astype(np.int32)
    marks = {name: getattr(asked, name)[chosen] for name in ("user", "cold_user", "main")}
    return replace(asked, time=None, **lists, **marks)


@pytest.fixture(scope="module")
def partners(shop):
    """One shop's readers divided between a small shop (one in six) and a large one; the catalogue is the same."""
    number = np.array([int(user[1:]) for user in shop.train.user_ids])
    found = {}
    for name, keep in (("large", number % 6 != 0), ("small", number % 6 == 0)):
        events = shop.train.events.take(keep[shop.train.events.user])
        train = replace(shop.train, name=name, events=events)
        found[name] = replace(shop, train=train, validation=rows(shop.validation, keep), test=rows(shop.test, keep))
    return found


def contributions(domains, release, task, space, config=SMALL):
    answers = {}
    for name, domain in domains.items():
        learner = FederatedAdapters(config)
        learner.attach(domain, space)
        answers[name] = learner.contribute(domain, release, task)
    return answers


def federate(domains, space, config=SMALL, seed=3):
    plan = AdaptersPlan(config)
    catalogues = [catalogue_of(name, domain.items) for name, domain in domains.items()]
    release = plan.initial(catalogues, space, rng=np.random.default_rng(seed))
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        release = plan.aggregate(release, add_up(task.specs, contributions(domains, release, task, space, config)))
    return release


@pytest.fixture(scope="module")
def domains(partners):
    return {name: split.train for name, split in partners.items()}


@pytest.fixture(scope="module")
def release(domains, word_space):
    return federate(domains, word_space)


def fitted(domain, space, release=None, **settings):
    learner = FederatedAdapters(SMALL.model_copy(update=settings))
    if release is not None:
        learner.receive(release)
    return learner.fit(domain, space, rng=np.random.default_rng(0))


def ask(*items):
    return Request(history=np.array(items, dtype=np.int32))


def test_the_registry_builds_both_halves():
    assert isinstance(registry.plan("federated_adapters", {"width": 8}), AdaptersPlan)
    made = registry.recommender("federated_adapters", {"width": 8}, match_key=None)
    assert isinstance(made, FederatedRecommender)


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_a_contribution_is_exactly_what_the_task_names_within_its_bound(domains, release, word_space, round_):
    task = AdaptersPlan(SMALL).task(release, round_)
    for name, answer in contributions(domains, release, task, word_space).items():
        assert set(answer.arrays) == {spec.name for spec in task.specs}
        for spec in task.specs:
            tensor = answer.arrays[spec.name]
            assert (tensor.shape, tensor.dtype.name) == (spec.shape, spec.dtype)
            assert np.linalg.norm(tensor) <= spec.clip * domains[name].n_users * (1 + 1e-6)


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_other_events_change_values_alone(domains, release, word_space, round_):
    one = domains["small"]
    nothing = one.with_events(Interactions(np.empty(0, np.int32), np.empty(0, np.int32)))
    task = AdaptersPlan(SMALL).task(release, round_)
    answers = contributions({"a": one, "b": nothing}, release, task, word_space)
    shapes = [{k: (v.shape, v.dtype) for k, v in answers[name].arrays.items()} for name in "ab"]
    assert shapes[0] == shapes[1]


def test_what_a_round_asks_for_follows_from_settings_and_release_alone(release):
    assert AdaptersPlan(SMALL).task(release, 3) == AdaptersPlan(SMALL).task(release, 3)


def test_the_sum_over_partners_is_the_joined_shops_sum(shop, domains, release, word_space):
    task = Task(3, (TensorSpec("image", release.arrays["basis"].shape, "float32", "sum", SMALL.clip),))
    parts = contributions(domains, release, task, word_space)
    total = contributions({"joined": shop.train}, release, task, word_space)["joined"].arrays["image"]
    np.testing.assert_allclose(sum(answer.arrays["image"] for answer in parts.values()), total, atol=1e-4)


def test_one_person_moves_a_sum_by_the_clip_at_most(domains, release, word_space):
    domain = domains["large"]
    for round_ in (1, 2):
        config = SMALL.model_copy(update={"clip": 0.05})
        task = AdaptersPlan(config).task(release, round_)
        one = {
            "one": domain,
            "less": domain.with_events(domain.events.take(domain.events.user != domain.events.user[0])),
        }
        answers = contributions(one, release, task, word_space, config)
        for spec in task.specs:
            if spec.name in ("counts", "image"):  # the semantic sums' scales are the shop's own counts
                moved = answers["one"].arrays[spec.name] - answers["less"].arrays[spec.name]
                assert np.linalg.norm(moved) <= 0.05 * (1 + 1e-3)


def test_full_factors_give_exactly_the_others_co_occurrence(domains, word_space):
    config = SMALL.model_copy(update={"width": 500, "clip": 1e9, "rounds": 2})
    others = FactorOthers(domains["small"], federate(domains, word_space, config))
    assert len(others.item) == domains["small"].n_items
    expected = gram_matrix(domains["large"].matrix)
    np.testing.assert_allclose(others.gram, expected, atol=2e-2)


def test_a_partner_that_was_not_there_takes_nothing_out(domains, word_space):
    config = SMALL.model_copy(update={"width": 500, "clip": 1e9, "rounds": 2})
    plan = AdaptersPlan(config)
    catalogues = [catalogue_of(name, domain.items) for name, domain in domains.items()]
    release = plan.initial(catalogues, word_space, rng=np.random.default_rng(0))
    there = {"large": domains["large"]}
    for round_ in (1, 2):
        task = plan.task(release, round_)
        release = plan.aggregate(release, add_up(task.specs, contributions(there, release, task, word_space, config)))
    others = FactorOthers(domains["small"], release)
    assert len(others.item) == domains["small"].n_items
    expected = gram_matrix(domains["large"].matrix)
    np.testing.assert_allclose(others.gram, expected, atol=2e-2)


def test_the_same_seed_gives_the_same_release(domains, word_space, release):
    again = federate(domains, word_space)
    assert again.info == release.info
    for name, array in release.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_iteration_finds_the_leading_factors():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    target = axes @ np.diag(0.7 ** np.arange(60)) @ axes.T
    basis = orthonormal(rng.normal(size=(60, 10)))
    for _ in range(6):
        image = target @ basis
        found = factors(basis, image)
        basis = orthonormal(image)
    assert np.linalg.norm(target - found @ found.T) < 1.2 * np.linalg.norm(0.7 ** np.arange(10, 60))
    assert np.linalg.eigvalsh(target - found @ found.T).min() > -1e-6


def test_the_projection_learns_which_words_go_together():
    """Texts are two words, one of which decides who reads them: under the projection that word alone counts."""
    rng = np.random.default_rng(1)
    matters, other = rng.integers(4, size=200), rng.integers(4, size=200)
    vectors = np.hstack([np.eye(4)[matters], np.eye(4)[other]]).astype(np.float32)
    extended = np.hstack([np.ones((200, 1)), vectors])
    mean, white = whitening(extended.T @ extended, 8)
    z = (vectors - mean) @ white
    together = (matters[:, None] == matters[None, :]).astype(float)
    adapter = projection(z.T @ together @ z, z.T @ z, 0.1, 0.5)
    similar = (z @ adapter) @ (z @ adapter).T
    assert similar[together == 1].mean() > 0
    agree = np.corrcoef(similar.ravel(), together.ravel())[0, 1]
    assert agree > 0.9


def test_an_item_that_nobody_took_here_is_placed_by_what_the_others_know(domains, release, word_space):
    small, large = domains["small"], domains["large"]
    model = fitted(small, word_space, release, beta=0.0, cold_weight=0.0)
    alone = fitted(small, word_space, beta=0.0, cold_weight=0.0)
    unknown = np.flatnonzero((small.item_counts == 0) & (large.item_counts >= 5))
    assert len(unknown) > 3
    topic = np.array([int(text.split()[0].removeprefix("topic")) for text in small.texts])
    requests = [Request(history=np.flatnonzero(topic == t)[:4].astype(np.int32)) for t in range(6)]
    scores = model.score(requests)[:, unknown]
    own = topic[unknown] == np.arange(6)[:, None]
    assert scores[own].mean() > 2 * scores[~own].mean()
    assert not alone.score(requests)[:, unknown].any()


def test_between_rounds_it_ranks_by_what_is_shared_so_far(partners, domains, word_space):
    plan = AdaptersPlan(SMALL)
    catalogues = [catalogue_of(name, domain.items) for name, domain in domains.items()]
    release = plan.initial(catalogues, word_space, rng=np.random.default_rng(3))
    curve = []
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        learner = FederatedAdapters(SMALL)
        learner.attach(domains["large"], word_space)
        learner.contribute(domains["large"], release, task)
        curve.append(evaluate(learner, domains["large"], partners["large"].validation).mean())
        release = plan.aggregate(release, add_up(task.specs, contributions(domains, release, task, word_space)))
    assert learner.scores_between_rounds
    assert curve[-1] > 2 * curve[0]


def test_tuning_never_ends_below_where_it_started(partners, release, word_space):
    split = partners["small"]
    start = SemanticEaseConfig(lambda_=30.0, beta=0.3)
    learner = FederatedAdapters(SMALL)
    learner.receive(release)
    trials = learner.tune(split, word_space, rng=np.random.default_rng(0), start=start)
    by_config = {trial.config: trial.value for trial in trials}
    assert by_config[learner.config] >= trials[0].value
    assert trials[0].config.cap == trials[0].config.learned == 0.0


def test_harmful_others_are_left_out(partners, release, word_space):
    """Where everybody else's sums are about other works than they say, validation keeps the partner to its own."""
    split = partners["large"]
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(release.arrays["counts"]))
    arrays = dict(release.arrays)
    arrays |= {name: arrays[name][wrong] for name in ("counts", "image", "start")}
    noise = rng.normal(size=arrays["adapter"].shape).astype(np.float32)
    misled = Release(
        release.number, release.recommender, {**arrays, "adapter": noise}, {**release.info, "image_from": ""}
    )
    learner = FederatedAdapters(SMALL)
    learner.receive(misled)
    learner.tune(split, word_space, rng=np.random.default_rng(0), start=SemanticEaseConfig(lambda_=30.0), caution=1.0)
    kept = evaluate(learner.fit(split.train, word_space, rng=rng), split.train, split.validation).mean()
    own = fitted(split.train, word_space, cap=0.0, learned=0.0, creator=0.0, lambda_=30.0)
    assert kept >= evaluate(own, split.train, split.validation).mean() - 1e-9


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cap": 0.0, "learned": 0.0},
        {"item_power": 0.25, "output_power": 0.5, "cold_blend": 2.0, "cold_weight": 0.1},
        {"learned": 1.0, "creator": 0.0, "popularity_weight": 0.05, "cap": None},
    ],
)
def test_a_trial_scores_as_the_fitted_recommender_would(partners, release, word_space, settings):
    split = partners["small"]
    model = fitted(split.train, word_space, release, **settings)
    validator = Validator(split.train, split.validation, "ndcg@10", np.random.default_rng(0))
    trial = _Trials(model, validator, word_space)._scores(model.config)
    np.testing.assert_allclose(trial, model.score(validator.requests), rtol=2e-3, atol=2e-4)


def test_sums_that_drown_in_noise_leave_the_whitened_space_and_what_stands_out_is_kept():
    rng = np.random.default_rng(0)
    size, noise = 40, 3.0
    spike = rng.standard_normal(size)
    spike /= np.linalg.norm(spike)
    clear = 2.0 * np.eye(size) + 300.0 * np.outer(spike, spike)

    def noisy(noise):
        return denoised_semantic(clear + noise * rng.standard_normal((size, size)), noise)

    np.testing.assert_array_equal(denoised_semantic(clear, 0.0), clear)
    values, axes = np.linalg.eigh(noisy(noise))
    assert values[:-1] == pytest.approx(np.full(size - 1, values[0]))
    assert values[0] > 0
    assert values[-1] == pytest.approx(300.0, rel=0.1)
    assert abs(axes[:, -1] @ spike) > 0.98
    drowned = projection(noisy(1000.0), np.eye(size), 0.1, 0.25)
    vectors = unit(rng.standard_normal((50, size)))
    np.testing.assert_allclose(unit(vectors @ drowned) @ unit(vectors @ drowned).T, vectors @ vectors.T, atol=1e-5)


def test_a_federation_without_factors_learns_the_projection_alone(domains, word_space):
    config = SMALL.model_copy(update={"width": 0, "scales": "even"})
    learned, plan = federate(domains, word_space, config), AdaptersPlan(config)
    assert plan.rounds == learned.number == 2
    assert {"adapter", "mean", "whitening"} < set(learned.arrays)
    assert not {"basis", "image", "start"} & set(learned.arrays)
    learner = FederatedAdapters(config)
    learner.receive(learned)
    assert not learner.others(domains["small"])
    learner.fit(domains["small"], word_space, rng=np.random.default_rng(0))
    assert np.isfinite(learner.score([ask(0, 6)])).all()


def test_candidates_are_columns_of_the_whole(domains, release, word_space):
    model = fitted(domains["small"], word_space, release)
    requests = [ask(0, 6), ask(), ask(5)]
    scores = model.score(requests)
    candidates = np.array([7, 3, 60], dtype=np.int32)
    np.testing.assert_allclose(model.score(requests, candidates), scores[:, candidates], rtol=1e-5, atol=1e-7)


def test_other_editions_of_what_one_has_go_to_the_end(domains, word_space):
    items = domains["large"].items.with_columns(
        title=pl.when(pl.int_range(pl.len()) == 12).then(pl.lit("The Title 6 (Large Print)")).otherwise("title"),
        creator=pl.lit("Some One"),
    )
    domain = type(domains["large"])("l", items, domains["large"].user_ids, domains["large"].events)
    assert set(zip(*editions(domain).nonzero(), strict=True)) == {(6, 12), (12, 6)}
    model = fitted(domain, word_space)
    scores = model.score([ask(6)])[0]
    assert scores.argmin() == 12
    assert 12 not in [line.item for line in model.recommend([ask(6)], 20)[0]]
    kept = model.score([ask(0)])[0]
    assert kept.argmin() != 12


def test_it_comes_back_from_disk_as_it_was(tmp_path, domains, release, word_space):
    model = fitted(domains["small"], word_space, release)
    store.save(model, tmp_path, domains["small"], word_space)
    again = store.load(tmp_path, domains["small"], word_space)
    np.testing.assert_array_equal(again.score([ask(3, 4)]), model.score([ask(3, 4)]))


def test_before_it_is_fitted_there_is_nothing_to_keep(domains, word_space):
    learner = FederatedAdapters(SMALL)
    assert learner.state() == {}
    assert learner.restore({}, domains["small"], word_space) is learner


def test_a_damaged_release_is_refused(release):
    image = np.full_like(release.arrays["image"], np.inf)
    with pytest.raises(RecommenderError, match="K463"):
        FederatedAdapters(SMALL).receive(Release(4, release.recommender, {**release.arrays, "image": image}))


def test_it_needs_a_space(domains, release):
    with pytest.raises(RecommenderError, match="K460"):
        AdaptersPlan(SMALL).initial([], None, rng=np.random.default_rng(0))
    with pytest.raises(RecommenderError, match="K404"):
        FederatedAdapters(SMALL).contribute(domains["small"], release, AdaptersPlan(SMALL).task(release, 1))
    task = Task(2, (TensorSpec("events", (3,), "float32", "sum"),))
    with pytest.raises(RecommenderError, match="K462"):
        FederatedAdapters(SMALL).contribute(domains["small"], release, task)


def test_partners_without_a_common_work_still_share_the_projection(domains, word_space):
    far = domains["small"].items.with_columns(
        title=pl.lit("Elsewhere ") + pl.col("item_id"), text=pl.col("text") + " far"
    )
    one = domains["large"]
    two = type(one)("far", far, domains["small"].user_ids, domains["small"].events)
    config = SMALL.model_copy(update={"edition": 1.0, "translation": 1.0})
    release = federate({"one": one, "two": two}, word_space, config)
    assert release.arrays["counts"].shape == (0,)
    model = fitted(two, word_space, release)
    assert np.isfinite(model.score([ask(0), ask()])).all()
