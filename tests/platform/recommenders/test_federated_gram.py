"""Federated Gram: the sum is the centralised sum, no person weighs more than agreed, and no partner loses itself."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from koinon.data import Domain, Interactions, SplitConfig, make_split
from koinon.data.public.store import cache_folder, get
from koinon.recommenders import FederatedRecommender, Request
from koinon.recommenders.conventional import EASE, EaseConfig, SemanticEASE, SemanticEaseConfig
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.gram import FederatedGram, GramConfig, GramPlan
from koinon.recommenders.federated.gram_sums import believable, denoised, own_counts, own_pairs, pair_list
from koinon.recommenders.federated.gram_tuning import reheld
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.federated.pairs import choose_pairs
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution

EXACT = GramConfig(clip=float("inf"), share=1.0, cap=None, pairs=10_000_000, lambda_=50.0)


def cut_by_users(domain, parts):
    """Divide one domain's people among ``parts`` partners that list the same catalogue."""
    pieces = []
    for part in range(parts):
        users = np.flatnonzero(np.arange(domain.n_users) % parts == part)
        keep = np.isin(domain.events.user, users)
        row = np.searchsorted(users, domain.events.user[keep]).astype(np.int32)
        ids = tuple(domain.user_ids[user] for user in users)
        pieces.append(Domain(f"part-{part}", domain.items, ids, Interactions(row, domain.events.item[keep])))
    return pieces


def federate(domains, config, space=None, *, absent=(), match_key=None):
    """Run the two rounds as a server would; ``absent``: ``(round, partner)`` that do not answer."""
    plan = GramPlan(config)
    catalogues = [catalogue_of(domain.name, domain.items, match_key=match_key) for domain in domains]
    release = plan.initial(catalogues, space, rng=np.random.default_rng(0))
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        answers = {
            domain.name: FederatedGram(config, match_key=match_key).contribute(domain, release, task)
            for domain in domains
            if (round_, domain.name) not in absent
        }
        release = plan.aggregate(release, add_up(task.specs, answers))
    return release


def fitted(domain, release, config, space=None):
    learner = FederatedGram(config)
    learner.receive(release)
    return learner.fit(domain, space, rng=np.random.default_rng(0))


def test_it_is_a_federated_recommender_that_the_registry_knows():
    assert isinstance(registry.recommender("federated_gram", {"clip": 10.0}), FederatedRecommender)
    assert registry.plan("federated_gram", {"clip": 10.0}).rounds == 2


def test_with_a_shared_catalogue_and_no_bounds_it_is_centralised_ease(shop):
    domains = cut_by_users(shop.train, 4)
    release = federate(domains, EXACT)
    central = EASE(EaseConfig(lambda_=50.0)).fit(shop.train, None, rng=np.random.default_rng(0))
    for domain in domains:
        assert np.abs(fitted(domain, release, EXACT).weights - central.weights).max() < 1e-6


@pytest.mark.skipif(
    not list(cache_folder().glob("v*/ml-100k")), reason="ml-100k not in the cache: koinon data get ml-100k"
)
def test_on_ml_100k_cut_by_users_it_is_centralised_ease():
    config = SplitConfig(protocol="leave-last-out", cold_items=0.0, minimum_item_events=1)
    domain = make_split("ml-100k", get("ml-100k"), config).train
    # keys must tell all films apart, or two films of one title would count as one work
    unique = domain.items.with_columns(pl.format("{} {}", "title", "item_id").alias("title"))
    domain = Domain(domain.name, unique, domain.user_ids, Interactions(domain.events.user, domain.events.item))
    domains = cut_by_users(domain, 4)
    release = federate(domains, EXACT)
    central = EASE(EaseConfig(lambda_=50.0)).fit(domain, None, rng=np.random.default_rng(0))
    for part in domains:
        assert np.abs(fitted(part, release, EXACT).weights - central.weights).max() < 1e-6


def test_what_is_sent_has_a_shape_that_events_do_not_change(shop):
    domains = cut_by_users(shop.train, 2)
    changed = [domain.with_events(domain.events.take(np.arange(len(domain.events)) % 3 == 0)) for domain in domains]
    plan = GramPlan(EXACT)
    release = plan.initial([catalogue_of(d.name, d.items) for d in domains], None, rng=np.random.default_rng(0))
    for round_ in (1, 2):
        task = plan.task(release, round_)
        before, after = ([FederatedGram().contribute(d, release, task) for d in ds] for ds in (domains, changed))
        for one, other in zip(before, after, strict=True):
            assert {n: (a.shape, a.dtype) for n, a in one.arrays.items()} == {
                n: (a.shape, a.dtype) for n, a in other.arrays.items()
            }
            assert [(s.shape, s.dtype) for s in task.specs] == [(a.shape, str(a.dtype)) for a in one.arrays.values()]
            assert any(not np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
        answers = {d.name: answer for d, answer in zip(domains, before, strict=True)}
        release = plan.aggregate(release, add_up(task.specs, answers))


@pytest.mark.parametrize("clip", [0.5, 2.0, 10.0])
def test_no_person_adds_more_than_the_clip(shop, clip):
    taken = shop.train.matrix
    upper = np.triu_indices(taken.shape[1], 1)
    for person in range(0, taken.shape[0], 20):
        alone = taken[[person]]
        assert np.linalg.norm(own_counts(alone, clip)) <= clip + 1e-9
        assert np.linalg.norm(own_pairs(alone, clip)[upper]) <= clip + 1e-9


def test_people_within_the_bound_are_summed_as_they_are(shop):
    taken = shop.train.matrix
    gram = (taken.T @ taken).toarray()
    upper = np.triu_indices(len(gram), 1)
    assert np.array_equal(own_counts(taken, 1e9), gram.diagonal())
    assert np.array_equal(own_pairs(taken, 1e9)[upper], gram[upper])


def test_share_0_is_the_local_recommender(shop, word_space):
    domains = cut_by_users(shop.train, 3)
    release = federate(domains, GramConfig(), word_space)
    alone = fitted(domains[0], release, GramConfig(share=0.0), word_space)
    local = SemanticEASE(SemanticEaseConfig()).fit(domains[0], word_space, rng=np.random.default_rng(0))
    assert np.allclose(alone.weights, local.weights)


def test_the_others_add_at_most_cap_times_an_items_own_events(shop):
    domains = cut_by_users(shop.train, 3)
    learner = FederatedGram(GramConfig())
    learner.receive(federate(domains, GramConfig()))
    others = learner.others(domains[0])
    assert np.all(others.events(1.0, 0.5) <= 0.5 * (others.own_counts + 1))
    assert np.array_equal(others.events(1.0, None), others.gram.diagonal())
    gram = np.zeros((domains[0].n_items,) * 2)
    others.add_to(gram, 1.0, 2.0)
    assert np.allclose(np.diag(gram)[others.item], others.events(1.0, 2.0), rtol=1e-5)
    assert np.linalg.eigvalsh(gram).min() > -1e-4


def test_a_partner_left_out_of_a_round_does_not_take_out_what_is_not_in(shop):
    domains = cut_by_users(shop.train, 3)
    release = federate(domains, EXACT, absent={(1, "part-0"), (2, "part-0")})
    others = FederatedGram(EXACT)
    others.receive(release)
    rest = sum((domain.matrix.T @ domain.matrix).toarray() for domain in domains[1:])
    found = others.others(domains[0])
    assert np.allclose(found.gram, rest[np.ix_(found.item, found.item)])


def test_editions_of_one_work_stay_apart_and_share_its_readers():
    two = pl.DataFrame({"title": ["Dune", "Dune (Paperback)", "Emma"], "creator": ["F. Herbert"] * 2 + ["J. Austen"]})
    one = two[[0, 2]]

    def domain(name, table, events):
        full = table.with_columns(text=pl.col("title"), language=pl.lit("en"))
        user, item = (np.array(column, dtype=np.int32) for column in zip(*events, strict=True))
        return Domain(name, full, tuple(f"{name}{n}" for n in range(user.max() + 1)), Interactions(user, item))

    here = domain("here", two, [(0, 0), (1, 0), (1, 2), (2, 1)])
    there = domain("there", one, [(n, item) for n in range(8) for item in (0, 1)])
    learner = FederatedGram(EXACT)
    learner.receive(federate([here, there], EXACT))
    gram = learner.others(here).gram
    assert gram[0, 1] == 0.0, "nobody is said to have both editions"
    assert gram[0, 0] + gram[1, 1] == pytest.approx(8.0)
    assert gram[0, 2] + gram[1, 2] == pytest.approx(8.0)
    assert gram[0, 0] > gram[1, 1], "the edition taken more here gets more of them"


def test_secret_catalogues_federate_by_keyed_hashes(shop):
    domains = cut_by_users(shop.train, 2)
    release = federate(domains, EXACT, match_key=b"s" * 32)
    learner = FederatedGram(EXACT, match_key=b"s" * 32)
    learner.receive(release)
    assert learner.others(domains[0])
    stranger = FederatedGram(EXACT, match_key=b"t" * 32)
    stranger.receive(release)
    assert not stranger.others(domains[0])


def test_pairs_are_agreed_from_catalogues_and_counts():
    listings = [np.array([0, 1, 2, 3]), np.array([1, 2, 3]), np.array([0, 4])]
    counts = np.array([9.0, 5.0, 7.0, 1.0, 8.0])
    every = choose_pairs(listings, counts, 100)
    firsts = np.repeat(np.arange(5), np.diff(every.start))
    assert sorted(zip(firsts.tolist(), every.other.tolist(), strict=True)) == [(1, 2), (1, 3), (2, 3)]
    best = choose_pairs(listings, counts, 1)
    assert (np.repeat(np.arange(5), np.diff(best.start)).tolist(), best.other.tolist()) == ([1], [2])


def test_a_limited_list_leaves_every_partner_a_solvable_matrix(shop):
    config = GramConfig(pairs=300, share=1.0, cap=None, lambda_=1.0)
    domains = cut_by_users(shop.train, 3)
    release = federate(domains, config)
    assert 0 < len(pair_list(release)) <= 300
    for domain in domains:
        assert np.isfinite(fitted(domain, release, config).weights).all()


def test_rare_sums_are_held_back_on_request(shop):
    release = federate(cut_by_users(shop.train, 2), GramConfig(support=3.0))
    pairs = release.arrays["pairs"]
    assert np.all((pairs == 0) | (pairs >= 3))


def test_the_plan_goes_on_after_a_restart(shop):
    domains = cut_by_users(shop.train, 2)
    plan = GramPlan(GramConfig())
    release = plan.initial([catalogue_of(d.name, d.items) for d in domains], None, rng=np.random.default_rng(0))
    task = plan.task(release, 1)
    answers = {d.name: FederatedGram().contribute(d, release, task) for d in domains}
    restarted = GramPlan(GramConfig())
    registry.restore(restarted, registry.state(plan))
    one, other = (p.aggregate(release, add_up(task.specs, answers)) for p in (plan, restarted))
    assert np.array_equal(one.arrays["other"], other.arrays["other"])
    assert GramPlan(GramConfig()).task(one, 2) == plan.task(one, 2)


def test_tuning_begins_without_the_others_and_keeps_what_wins_on_validation(shop, word_space):
    domains = cut_by_users(shop.train, 3)
    release = federate(domains, GramConfig(), word_space)
    learner = FederatedGram(GramConfig())
    learner.receive(release)
    start = SemanticEaseConfig(lambda_=20.0)
    trials = learner.tune(shop, word_space, rng=np.random.default_rng(1), start=start)
    assert len(trials) > 5
    learner.fit(shop.train, word_space, rng=np.random.default_rng(1))
    assert learner.score([Request(history=np.array([1], dtype=np.int32))]).shape == (1, shop.train.n_items)


def test_another_hold_out_never_touches_test_events(shop):
    train, held = reheld(shop, np.random.default_rng(3))
    validation, test = shop.validation, shop.test
    allowed = {*zip(shop.train.events.user.tolist(), shop.train.events.item.tolist(), strict=True)}
    for row in range(len(validation)):
        allowed |= {(int(validation.user[row]), int(item)) for item in validation.targets(row)}
    seen = {*zip(train.events.user.tolist(), train.events.item.tolist(), strict=True)}
    asked = {*zip(held.user.tolist(), held.target_items.tolist(), strict=True)}
    assert seen | asked <= allowed
    assert not seen & asked
    assert set(held.user.tolist()) == set(validation.user[validation.main].tolist())
    tested = {(int(test.user[row]), int(item)) for row in range(len(test)) for item in test.targets(row)}
    assert not (seen | asked) & tested


def test_it_is_kept_and_brought_back(shop, word_space):
    domains = cut_by_users(shop.train, 2)
    learner = fitted(domains[0], federate(domains, GramConfig(), word_space), GramConfig(), word_space)
    again = FederatedGram(GramConfig()).restore(learner.state(), domains[0], word_space)
    request = [Request(history=np.array([3, 5], dtype=np.int32))]
    assert np.array_equal(learner.score(request), again.score(request))
    assert FederatedGram().state() == {}


def test_of_noisy_pairs_what_stands_out_is_kept_and_positive_semi_definite():
    rng = np.random.default_rng(3)
    works, noise = 60, 4.0
    groups = np.repeat(np.eye(3), 20, axis=0)
    counts = rng.uniform(40, 80, works)
    exact = 15 * groups @ groups.T + 0.002 * np.outer(counts, counts)
    np.fill_diagonal(exact, 0.0)
    disturbance = np.triu(rng.normal(0, noise, (works, works)), 1)
    asked = ~np.eye(works, dtype=bool)
    noisy = np.where(asked, exact + disturbance + disturbance.T, 0.0)
    found = denoised(noisy, counts, noise, asked)
    assert np.linalg.eigvalsh(found.astype(np.float64)).min() > -1e-3
    assert np.all(found.diagonal() >= counts.astype(np.float32))
    assert np.linalg.norm((found - exact)[asked]) < 0.5 * np.linalg.norm((noisy - exact)[asked])
    nothing = denoised(np.where(asked, disturbance + disturbance.T, 0.0), counts, 3 * noise, asked)
    assert np.abs(nothing[asked]).max() < 1.0


def test_a_partner_takes_out_what_it_sent_noise_and_all(shop):
    domains = cut_by_users(shop.train, 2)
    own = FederatedGram(EXACT)
    plan = GramPlan(EXACT)
    catalogues = [catalogue_of(domain.name, domain.items) for domain in domains]
    release = plan.initial(catalogues, None, rng=np.random.default_rng(0))
    noise = np.random.default_rng(1)
    for round_ in (1, 2):
        task = plan.task(release, round_)
        given = {domain.name: FederatedGram(EXACT).contribute(domain, release, task) for domain in domains}
        sent = given["part-0"].arrays
        sent = {name: array + noise.normal(0, 5, array.shape).astype(np.float32) for name, array in sent.items()}
        own.sent = {**own.sent, **sent}
        given["part-0"] = Contribution(sent, given["part-0"].n_users)
        release = plan.aggregate(release, add_up(task.specs, given))
    own.receive(release)
    found = own.others(domains[0])
    rest = (domains[1].matrix.T @ domains[1].matrix).toarray()
    assert np.allclose(found.gram, rest[np.ix_(found.item, found.item)], atol=1e-3)


def test_false_sums_are_cut_to_what_can_be_solved(shop, word_space):
    """Pairs without the counts that would carry them: no people sent them, and nobody's fit may fail of it."""
    first, second = cut_by_users(shop.train, 2)
    config = GramConfig(clip=float("inf"), share=1.0, cap=None, lambda_=1.0)
    release = federate([first, second], config)
    pairs = release.arrays["pairs"].copy()
    pairs[::7] += 500.0
    false = replace(release, arrays={**release.arrays, "pairs": pairs})
    others = fitted(first, false, config).others(first)
    assert np.linalg.eigvalsh(others.gram.astype(np.float64)).min() > -0.5
    scores = fitted(first, false, config, word_space).score([Request(history=np.array([0]))])
    assert np.isfinite(scores).all()


def test_true_sums_stay_as_they_are(shop):
    _, second = cut_by_users(shop.train, 2)
    sums = (second.matrix.T @ second.matrix).toarray().astype(np.float32)
    np.testing.assert_array_equal(believable(sums), sums)
