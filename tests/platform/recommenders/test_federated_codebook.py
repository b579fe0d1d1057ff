"""The federated codebook: what three partners' sums come to is what their joined catalogue comes to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from koinon.data import Interactions
from koinon.errors import RecommenderError
from koinon.recommenders import FederatedRecommender, Request, Task, TensorSpec, store
from koinon.recommenders.federated import registry
from koinon.recommenders.federated.codebook import CodebookPlan, FederatedCodebook, codebook_of
from koinon.recommenders.federated.totals import add_up
from koinon.space.codebook import CodebookConfig, fit_codebook

SMALL = CodebookConfig(levels=2, codes=8, refine=3)
SETTINGS = {"levels": 2, "codes": 8, "refine": 3}
CENTRED = {**SETTINGS, "centred": True}


@pytest.fixture(scope="module")
def partners(shop):
    """Three shops of unequal size that share no item."""
    whole = shop.train
    parts = {}
    for name, first, stop in (("large", 0, 60), ("middle", 60, 84), ("small", 84, whole.n_items)):
        listed = (whole.events.item >= first) & (whole.events.item < stop)
        events = whole.events.take(listed)
        events = Interactions(events.user, (events.item - first).astype(np.int32), events.time)
        parts[name] = replace(whole, name=name, items=whole.items[first:stop], events=events)
    return parts


def contributed(partners, release, task, space):
    given = {}
    for name, domain in partners.items():
        learner = registry.recommender("federated_codebook", SETTINGS)
        learner.attach(domain, space)
        given[name] = learner.contribute(domain, release, task)
    return given


def rounds(partners, space, settings):
    """The release after all rounds."""
    plan = registry.plan("federated_codebook", settings)
    release = plan.initial([], space, rng=np.random.default_rng(4))
    for round_ in range(1, plan.rounds + 1):
        task = plan.task(release, round_)
        release = plan.aggregate(release, add_up(task.specs, contributed(partners, release, task, space)))
    return release


@pytest.fixture(scope="module")
def release(partners, word_space):
    return rounds(partners, word_space, SETTINGS)


def fitted(domain, space, release):
    learner = FederatedCodebook(SMALL)
    learner.receive(release)
    return learner.fit(domain, space, rng=np.random.default_rng(0))


def test_both_halves_keep_the_protocol(partners):
    assert isinstance(registry.plan("federated_codebook", SETTINGS), CodebookPlan)
    assert isinstance(registry.recommender("federated_codebook", SETTINGS), FederatedRecommender)


def test_three_catalogues_come_to_the_codebook_of_their_union(shop, release, word_space):
    vectors = word_space.encode(shop.train.texts)
    whole = fit_codebook(vectors, SMALL, seed=int(release.info["codebook_seed"]))
    found = codebook_of(release)
    assert (found.levels, found.codes) == (2, 8)
    np.testing.assert_allclose(found.centroids, whole.centroids, atol=1e-5)
    np.testing.assert_array_equal(found.encode(vectors), whole.encode(vectors))


def test_centred_it_is_that_of_the_joined_differences_from_every_partners_mean(partners, word_space):
    release = rounds(partners, word_space, CENTRED)
    vectors = [word_space.encode(domain.texts) for domain in partners.values()]
    whole = fit_codebook(
        np.concatenate([part - part.mean(0) for part in vectors]), SMALL, seed=int(release.info["codebook_seed"])
    )
    found = codebook_of(release)
    np.testing.assert_allclose(found.centroids, whole.centroids, atol=1e-5)
    for part in vectors:
        np.testing.assert_array_equal(found.around(part).encode(part), whole.encode(part - part.mean(0)))


def test_centred_sums_tell_nothing_of_a_partners_mean(partners, word_space):
    plan = registry.plan("federated_codebook", CENTRED)
    start = plan.initial([], word_space, rng=np.random.default_rng(4))
    for answer in contributed(partners, start, plan.task(start, 1), word_space).values():
        np.testing.assert_allclose(answer.arrays["moments"][:, 2:].sum(0), 0.0, atol=1e-4)


def test_events_do_not_matter(partners, word_space):
    plan = CodebookPlan(SMALL)
    start = plan.initial([], word_space, rng=np.random.default_rng(4))
    one = partners["small"]
    nothing = one.with_events(Interactions(np.empty(0, np.int32), np.empty(0, np.int32)))
    given = contributed({"a": one, "b": nothing}, start, plan.task(start, 1), word_space)
    np.testing.assert_array_equal(given["a"].arrays["moments"], given["b"].arrays["moments"])


def test_what_is_sent_is_what_the_task_names_within_its_bound(partners, release, word_space):
    plan = CodebookPlan(SMALL)
    task = plan.task(release, 1)
    for name, answer in contributed(partners, release, task, word_space).items():
        (spec,) = task.specs
        sent = answer.arrays[spec.name]
        assert (sent.shape, sent.dtype.name) == (spec.shape, spec.dtype)
        assert np.linalg.norm(sent) <= plan.measures[spec.name].norm * partners[name].n_items
        assert sent[:, 0].sum() == partners[name].n_items


def test_it_ranks_what_stands_near_the_history_and_is_kept(partners, release, word_space, tmp_path):
    domain = partners["large"]
    learner = fitted(domain, word_space, release)
    topic = np.array([text.split()[0] for text in domain.texts])
    taken = np.flatnonzero(topic == topic[0])[:4].astype(np.int32)
    found = [row.item for row in learner.recommend([Request(history=taken)], 5)[0]]
    assert (topic[found] == topic[0]).all()
    store.save(learner, tmp_path, domain, word_space)
    again = store.load(tmp_path, domain, word_space)
    asked = [Request(history=taken), Request()]
    np.testing.assert_array_equal(again.score(asked), learner.score(asked))


def test_who_has_no_history_gets_what_is_popular(partners, release, word_space):
    domain = partners["large"]
    best = fitted(domain, word_space, release).recommend([Request()], 3)[0]
    assert [row.item for row in best] == np.argsort(-domain.item_counts, kind="stable")[:3].tolist()


def test_errors(partners, release, word_space):
    domain = partners["small"]
    with pytest.raises(RecommenderError, match="K460"):
        CodebookPlan(SMALL).initial([], None, rng=np.random.default_rng(0))
    learner = FederatedCodebook(SMALL)
    task = CodebookPlan(SMALL).task(release, 1)
    with pytest.raises(RecommenderError, match="K404"):
        learner.contribute(domain, release, task)
    learner.attach(domain, word_space)
    with pytest.raises(RecommenderError, match="K462"):
        learner.contribute(domain, release, Task(1, (TensorSpec("readers", (2,), "float32", "sum"),)))
    with pytest.raises(RecommenderError, match="K400"):
        learner.fit(domain, word_space, rng=np.random.default_rng(0))
    spoiled = replace(release, arrays={**release.arrays, "codebook": release.arrays["codebook"] * np.nan})
    with pytest.raises(RecommenderError, match="K463"):
        learner.receive(spoiled)
