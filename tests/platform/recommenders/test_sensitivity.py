"""Taking one person away, whatever that person did, changes no tensor by more than its declared bound."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from koinon.data import Domain, Interactions
from koinon.data.tables import ITEM_SCHEMA
from koinon.errors import PrivacyError
from koinon.privacy.budget import NoiseSource, PrivacyConfig
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.adapters._sums import item_scales, semantic_sums
from koinon.recommenders.federated.budgeting import exact, noise_of, prices, protected, with_noise
from koinon.recommenders.federated.gram_sums import pair_list
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Release

WORKS, USERS = 14, 9
CLIPS = st.floats(0.05, 20)
EVENTS = st.lists(st.sets(st.integers(0, WORKS - 1)), min_size=1, max_size=USERS)
COUNTS = st.lists(st.floats(-5, 50), min_size=WORKS - 2, max_size=WORKS - 2)
LAW = settings(deadline=None, max_examples=20)


def domain_of(name, baskets):
    """A shop that lists all works (two of them twice), and what its people took."""
    titles = [f"Novel number {work}" for work in range(WORKS - 2)] + ["Novel number 0", "Novel number 1"]
    items = pl.DataFrame(
        {
            "item_id": [f"{name}-{item}" for item in range(WORKS)],
            "title": titles,
            "creator": ["An Author"] * WORKS,
            "description": [None] * WORKS,
            "language": ["en"] * WORKS,
            "categories": [[]] * WORKS,
            "price": [None] * WORKS,
            "text": titles,
        },
        schema=ITEM_SCHEMA,
    )
    user = [row for row, basket in enumerate(baskets) for _ in basket]
    item = [taken for basket in baskets for taken in sorted(basket)]
    events = Interactions(np.array(user, dtype=np.int32), np.array(item, dtype=np.int32))
    return Domain(name, items, tuple(f"reader-{row}" for row in range(len(baskets))), events)


def changes(name, plan, settings_, release, round_, baskets, space=None):
    """For every tensor of a round: its spec, and by how much each person moves it (L2)."""
    task = exact(plan.task(release, round_))

    def contributed(kept):
        learner = registry.recommender(name, settings_)
        if space is not None:
            learner.attach(domain_of("alpha", kept), space)
        return learner.contribute(domain_of("alpha", kept), release, task).arrays

    whole = contributed(baskets)
    for person in range(len(baskets)):
        without = contributed([*baskets[:person], *baskets[person + 1 :]])
        for spec in task.specs:
            yield spec, float(np.linalg.norm(whole[spec.name] - without[spec.name]))


def first(name, settings_, space=None):
    plan = registry.plan(name, settings_)
    catalogues = [catalogue_of(shop, domain_of(shop, []).items) for shop in ("alpha", "beta")]
    return plan, plan.initial(catalogues, space, rng=np.random.default_rng(0))


@LAW
@given(baskets=EVENTS, clip=CLIPS)
def test_popularity(baskets, clip):
    plan, release = first("federated_popularity", {"clip": clip})
    for spec, change in changes("federated_popularity", plan, {"clip": clip}, release, 1, baskets):
        assert change <= spec.clip


@LAW
@given(baskets=EVENTS, clip=CLIPS, counts_clip=CLIPS, pairs=st.integers(1, 100), counts=COUNTS)
def test_gram(baskets, clip, counts_clip, pairs, counts):
    wanted = {"clip": clip, "counts_clip": counts_clip, "pairs": pairs}
    plan, release = first("federated_gram", wanted)
    for spec, change in changes("federated_gram", plan, wanted, release, 1, baskets):
        assert (spec.name, spec.clip) == ("counts", counts_clip)
        assert change <= spec.clip
    total = replace(add_up((), {}), arrays={"counts": np.array(counts)}, partners=("alpha", "beta"))
    release = plan.aggregate(release, total)
    for spec, change in changes("federated_gram", plan, wanted, release, 2, baskets):
        assert (spec.name, spec.clip) == ("pairs", clip)
        assert change <= spec.clip


@LAW
@given(
    baskets=EVENTS,
    clip=CLIPS,
    counts=COUNTS,
    stretch=st.sampled_from([1.0, 1000.0]),
    seed=st.integers(0, 5),
)
def test_adapters_whatever_basis_the_server_sends(word_space, baskets, clip, counts, stretch, seed):
    wanted = {"clip": clip, "scales": "released", "width": 4, "directions": 6}
    plan, release = first("federated_adapters", wanted, word_space)
    named = {spec.name: spec for spec in plan.task(release, 1).specs}
    for spec, change in changes("federated_adapters", plan, wanted, release, 1, baskets, word_space):
        assert change <= (spec.clip if spec.name == "counts" else 0.0)
    rng = np.random.default_rng(seed)
    moment = np.cov(rng.normal(size=(named["moment"].shape[0], 200)))
    total = replace(add_up((), {}), arrays={"counts": np.array(counts), "moment": moment}, partners=("alpha", "beta"))
    release = plan.aggregate(release, total)
    release = replace(release, arrays={**release.arrays, "basis": stretch * release.arrays["basis"]})
    seen = set()
    for spec, change in changes("federated_adapters", plan, wanted, release, 2, baskets, word_space):
        seen.add(spec.name)
        assert change <= (0.0 if spec.name == "spread" else spec.clip * (1 + 1e-6))
    assert seen == {"image", "semantic", "spread"}


@LAW
@given(baskets=EVENTS, clip=CLIPS)
def test_adapters_without_factors_ask_for_no_counts_and_bound_what_they_ask_for(word_space, baskets, clip):
    wanted = {"clip": clip, "scales": "even", "width": 0, "directions": 6}
    plan, release = first("federated_adapters", wanted, word_space)
    assert plan.shares() == ({}, {"semantic": 1})
    (moment,) = plan.task(release, 1).specs
    total = replace(add_up((), {}), arrays={"moment": np.eye(moment.shape[0])}, partners=("alpha", "beta"))
    release = plan.aggregate(release, total)
    seen = set()
    for spec, change in changes("federated_adapters", plan, wanted, release, 2, baskets, word_space):
        seen.add(spec.name)
        assert change <= (0.0 if spec.name == "spread" else spec.clip * (1 + 1e-6))
    assert seen == {"semantic", "spread"}


def test_scales_of_the_partners_own_counts_break_the_law():
    """Why they are refused under a budget: one person's events change what everybody else's come to."""
    pairs, readers, clip = 60, 40, 0.2
    vectors = np.eye(2 * pairs, dtype=np.float32)
    taken = np.zeros((1 + pairs * readers, 2 * pairs), dtype=np.float32)
    taken[0] = 1.0
    for pair in range(pairs):
        taken[1 + pair * readers : 1 + (pair + 1) * readers, 2 * pair : 2 * pair + 2] = 1.0
    fixed = item_scales(np.full(2 * pairs, 10))

    def moved(scales):
        whole, without = (semantic_sums(csr_matrix(kept), vectors, clip, scales) for kept in (taken, taken[1:]))
        return np.linalg.norm(whole - without)

    assert moved(None) > clip
    assert moved(fixed) <= clip * (1 + 1e-6)
    with pytest.raises(PrivacyError, match="K669"):
        registry.plan("federated_adapters", {}).shares()


@pytest.mark.parametrize("name", sorted(set(registry.LEARNERS) - {"federated_hstu", "federated_lora"}))
def test_every_tensor_of_events_has_a_finite_bound_and_a_share(word_space, name):
    settings_ = {"scales": "released"} if name == "federated_adapters" else {}
    plan, release = first(name, settings_, word_space)
    shares = plan.shares()
    assert len(shares) == plan.rounds
    told = sum(sum(of_round.values()) for of_round in shares)
    assert told == (0 if name == "federated_codebook" else pytest.approx(1.0))
    for round_, of_round in enumerate(shares, 1):
        specs = plan.task(release, round_).specs
        of_events = {spec.name for spec in specs if plan.measures[spec.name].unit == "person"}
        assert of_events == set(of_round)
        assert all(np.isfinite(spec.clip) for spec in specs if spec.name in of_events)
        arrays = {spec.name: np.eye(spec.shape[0]) if len(spec.shape) == 2 and spec.shape[0] == spec.shape[1]
                  else np.ones(spec.shape) for spec in specs}  # fmt: skip
        release = plan.aggregate(release, replace(add_up((), {}), arrays=arrays, partners=("alpha", "beta")))


@pytest.mark.parametrize("name", ["federated_hstu", "federated_lora"])
def test_a_network_is_refused_under_a_budget(name):
    """Its partners' updates are bounded, one person's part of them is not."""
    with pytest.raises(PrivacyError, match="K675"):
        registry.plan(name, {}).shares()
    with pytest.raises(PrivacyError, match="K675"):
        prices(privacy(), {name: {}}, "alpha")


@pytest.mark.parametrize("list_of", [([0, 2, 2], [1, 1]), ([0, 1, 1], [0]), ([0, 1, 1], [9]), ([1, 2, 2], [1, 1])])
def test_a_list_that_names_a_pair_twice_is_refused(list_of):
    start, other = list_of
    release = Release(1, "federated_gram", {"start": np.array(start), "other": np.array(other, dtype=np.int32)})
    with pytest.raises(PrivacyError, match="K668"):
        pair_list(release)


def privacy(**changes_):
    return PrivacyConfig(
        **{"epsilon": 1.0, "delta": 1e-6, "people": 100, "partners": 2, "sharing": (), "unsafe_seed": 3, **changes_}
    )


def test_protected_sums_have_the_noise_that_the_price_says():
    plan, release = first("federated_popularity", {})
    task = plan.task(release, 1)
    price = prices(privacy(), {"federated_popularity": {}}, "alpha")["federated_popularity", 1]
    noise = noise_of(plan, task.specs, price)
    assert noise["counts"] == pytest.approx(price.multiplier * 3.0, rel=1e-5)
    clear = registry.recommender("federated_popularity", {}).contribute(
        domain_of("alpha", [{1, 2}]), release, exact(task)
    )
    drawn = [
        protected(privacy(), clear, task.specs, noise, 2, NoiseSource(seed)).arrays["counts"] - clear.arrays["counts"]
        for seed in range(300)
    ]
    assert np.std(drawn) == pytest.approx(noise["counts"], rel=0.05)
    noised = protected(privacy(), clear, task.specs, noise, 2, NoiseSource(0))
    assert (noised.n_users, noised.metrics) == (100, {})
    with pytest.raises(PrivacyError, match="K673"):
        protected(privacy(people=1, delta=0.1), replace(clear, n_users=2), task.specs, noise, 2, NoiseSource(0))
    total = with_noise(privacy(), {"federated_popularity": {}}, "federated_popularity", task,
                       add_up(task.specs, {"alpha": noised, "beta": noised}), 2)  # fmt: skip
    assert total.noise["counts"] == pytest.approx(noise["counts"] * 2**0.5)


def test_a_learner_that_asks_for_no_events_costs_nothing_and_takes_no_part_of_the_budget():
    alone = prices(privacy(), {"federated_popularity": {}}, "alpha")
    beside = prices(privacy(), {"federated_popularity": {}, "federated_codebook": {}}, "alpha")
    assert beside["federated_popularity", 1] == alone["federated_popularity", 1]
    price = beside["federated_codebook", 3]
    assert (price.multiplier, price.events) == (0.0, ())


def test_a_tensor_without_a_share_is_refused():
    plan, release = first("federated_popularity", {})
    price = prices(privacy(), {"federated_gram": {}}, "alpha")["federated_gram", 2]
    with pytest.raises(PrivacyError, match="K668"):
        noise_of(plan, plan.task(release, 1).specs, price)


@pytest.mark.slow
def test_a_canary_cannot_be_told_apart_better_than_epsilon_allows():
    """An attack that knows everything but one person: the released sum projected on that person's part.

    At a threshold, rates of true and false alarms bound ε from below: ``ln((TPR - δ) / FPR)``, with Clopper-Pearson
    limits at 99 %. It must stay below the claim, and it must see the person if the noise is not there.
    """
    budget = privacy(epsilon=2.0)
    baskets = [{0, 1, 2}, {1, 5}, {2, 3, 9}]
    canary = set(range(WORKS))
    plan, release = first("federated_popularity", {})
    task = plan.task(release, 1)
    price = prices(budget, {"federated_popularity": {}}, "alpha")["federated_popularity", 1]
    noise = noise_of(plan, task.specs, price)
    learner = registry.recommender("federated_popularity", {})
    without, with_canary = (
        learner.contribute(domain_of("alpha", kept), release, exact(task)) for kept in (baskets, [*baskets, canary])
    )
    direction = with_canary.arrays["counts"] - without.arrays["counts"]
    direction = direction / np.linalg.norm(direction)

    def statistic(clear, seeds, scale):
        told = [protected(budget, clear, task.specs, {"counts": scale}, 2, NoiseSource(seed)) for seed in seeds]
        return np.array([told_.arrays["counts"] - without.arrays["counts"] for told_ in told]) @ direction

    def lower_bound(scale, tries=10_000):
        from scipy.stats import beta

        out, in_ = statistic(without, range(tries), scale), statistic(with_canary, range(tries, 2 * tries), scale)
        best = 0.0
        for threshold in np.quantile(out, [0.5, 0.75, 0.9, 0.97, 0.99]):
            true, false = int((in_ > threshold).sum()), int((out > threshold).sum())
            least_true = beta.ppf(0.005, true, tries - true + 1)
            most_false = beta.ppf(0.995, false + 1, tries - false)
            best = max(best, float(np.log(max(least_true - budget.delta, 1e-12) / most_false)))
        return best

    assert 0.3 < lower_bound(noise["counts"]) < budget.epsilon
    assert lower_bound(noise["counts"] / 8) > budget.epsilon
