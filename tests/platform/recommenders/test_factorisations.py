"""iALS and BPR-MF: what they minimise, whom they know, and what they say of strangers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from koinon.data import Domain, Interactions
from koinon.errors import ConfigError, RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders import Recommender, Request
from koinon.recommenders.conventional import BPR, IALS, BPRConfig, IALSConfig, Popularity, _bpr
from koinon.recommenders.conventional._bpr import _descend, _taken, _triples
from koinon.recommenders.conventional._ials import solve_rows
from koinon.recommenders.store import load, save
from koinon.recommenders.tuning import Axis, BPRFamily, tune

SMALL = {
    IALS: IALSConfig(factors=8, regularization=0.1),
    BPR: BPRConfig(factors=8, regularization=0.03, epochs=100, batch=32),
}


@pytest.fixture(scope="module")
def fitted(shop):
    """Fit each kind once for a seed."""

    @cache
    def fit(kind, seed=0):
        return kind(SMALL[kind]).fit(shop.train, None, rng=np.random.default_rng(seed))

    return fit


def value(recommender, shop):
    return evaluate(recommender, shop.train, shop.test, slices=("all",)).mean()


@pytest.fixture(scope="module")
def popular(shop):
    return Popularity().fit(shop.train, None, rng=np.random.default_rng(0))


def ask(*items, **more):
    return Request(history=np.array(items, dtype=np.int32), **more)


def loss(taken, users, items, config):
    """L of the module's docstring, term by term."""
    dense = taken.toarray()
    scores = users @ items.T
    of_users = (dense.sum(axis=1) + config.unobserved * dense.shape[1]) ** config.frequency_power
    of_items = (dense.sum(axis=0) + config.unobserved * dense.shape[0]) ** config.frequency_power
    ridge = of_users @ (users**2).sum(axis=1) + of_items @ (items**2).sum(axis=1)
    return ((scores - 1) ** 2)[dense > 0].sum() + config.unobserved * (scores**2).sum() + config.regularization * ridge


@pytest.fixture(scope="module")
def taken():
    rng = np.random.default_rng(1)
    return csr_matrix((rng.random((30, 20)) < 0.2).astype(np.float32))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_solved_rows_are_the_weighted_least_squares_solution(taken, power):
    config = IALSConfig(factors=4, unobserved=0.3, regularization=0.05, frequency_power=power)
    items = np.random.default_rng(2).normal(size=(20, 4)).astype(np.float32)
    solved = solve_rows(taken, items, config)
    for row in range(30):
        mine = taken[row].toarray().ravel() > 0
        ridge = np.sqrt(config.regularization * (mine.sum() + 0.3 * 20) ** power)
        left = np.concatenate((items[mine], np.sqrt(0.3) * items, ridge * np.eye(4)))
        right = np.concatenate((np.ones(mine.sum()), np.zeros(24)))
        expected = np.linalg.lstsq(left.astype(np.float64), right, rcond=None)[0]
        np.testing.assert_allclose(solved[row], expected, atol=1e-5)


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_no_half_sweep_raises_what_is_minimised(taken, power):
    config = IALSConfig(factors=4, unobserved=0.3, regularization=0.05, frequency_power=power)
    items = np.random.default_rng(3).normal(0, 0.1, size=(20, 4)).astype(np.float32)
    users, values = np.zeros((30, 4), dtype=np.float32), []
    for _ in range(5):
        users = solve_rows(taken, items, config)
        values.append(loss(taken, users, items, config))
        items = solve_rows(csr_matrix(taken.T), users, config)
        values.append(loss(taken, users, items, config))
    assert np.all(np.diff(values) <= 1e-3)
    assert values[-1] < 0.9 * values[0]


def test_rows_solved_in_many_blocks_are_rows_solved_in_one(taken, monkeypatch):
    config = IALSConfig(factors=4)
    items = np.random.default_rng(4).normal(size=(20, 4)).astype(np.float32)
    whole = solve_rows(taken, items, config)
    monkeypatch.setattr("koinon.recommenders.conventional._ials.CELLS", 7)
    np.testing.assert_allclose(solve_rows(taken, items, config), whole, atol=1e-5)


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_a_stranger_is_answered_like_whoever_took_the_same(kind, fitted):
    model = fitted(kind)
    known, stranger = ask(0, 6, 12, user=3), ask(12, 6, 0, 6)
    scores = model.score([known, stranger])
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    assert scores[0].std() > 0


def test_ials_gives_items_without_events_nothing(shop, fitted):
    assert np.all(fitted(IALS).score([ask(0, 6)])[0, shop.cold_item] == 0)


@pytest.mark.parametrize("table", [0, 2**20])
def test_bpr_draws_only_what_a_person_has_not_taken(monkeypatch, table):
    monkeypatch.setattr(_bpr, "TABLE", table)
    everything = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=np.float32)
    person, item = np.nonzero(everything)
    for seed in range(20):
        pairs = person * 5 + item
        user, taken, other = _triples(pairs, _taken(pairs, 15), 5, np.random.default_rng(seed))
        assert np.all(everything[user, taken] == 1)
        assert np.all(everything[user, other] == 0)
        assert set(user) == {0, 1}, "who has everything has nothing to be told apart"


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_both_keep_the_protocol(kind, shop, fitted):
    recommender = fitted(kind)
    assert isinstance(recommender, Recommender)
    requests = [ask(0, 6), ask(), ask(5, 5, 11), ask(3, user=2)]
    scores = recommender.score(requests)
    assert scores.shape == (4, shop.train.n_items)
    assert scores.dtype == np.float32
    candidates = np.array([7, 3, 60], dtype=np.int32)
    np.testing.assert_allclose(recommender.score(requests, candidates), scores[:, candidates], rtol=1e-5, atol=1e-6)
    assert recommender.score([]).shape == (0, shop.train.n_items)
    assert not {0, 6} & {one.item for one in recommender.recommend(requests, 10)[0]}


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_both_learn_more_than_what_is_popular(kind, shop, fitted, popular):
    assert value(fitted(kind), shop) > 1.15 * value(popular, shop)


def test_a_history_is_read_as_well_as_the_person_was_learned(shop, fitted):
    users, items = _descend(shop.train.matrix, SMALL[BPR], np.random.default_rng(0))

    class ByRow:
        def score(self, requests, candidates=None):
            return users[[request.user for request in requests]] @ items[:, :-1].T + items[:, -1]

    assert value(fitted(BPR), shop) > 0.9 * value(ByRow(), shop)


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_whoever_has_no_history_gets_what_is_popular(kind, fitted, popular):
    np.testing.assert_array_equal(fitted(kind).score([ask()]), popular.score([ask()]))


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_a_seed_gives_the_same_model_and_another_seed_another(kind, shop, fitted):
    again = kind(SMALL[kind]).fit(shop.train, None, rng=np.random.default_rng(0))
    first, again, other = (model.score([ask(0, 6)]) for model in (fitted(kind), again, fitted(kind, 1)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_what_is_kept_scores_as_before(kind, shop, fitted, tmp_path):
    model = fitted(kind)
    save(model, tmp_path, shop.train)
    back = load(tmp_path, shop.train)
    assert type(back) is kind
    assert back.config == model.config
    requests = [ask(1, 7), ask(), ask(4, user=5)]
    np.testing.assert_array_equal(back.score(requests), model.score(requests))


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_a_shop_where_hardly_anything_happened_is_fitted_all_the_same(kind, shop):
    events = Interactions(np.array([0], dtype=np.int32), np.array([3], dtype=np.int32))
    domain = Domain("shop", shop.train.items, shop.train.user_ids, events)
    scores = kind(SMALL[kind]).fit(domain, None, rng=np.random.default_rng(0)).score([ask(3), ask()])
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", [IALS, BPR])
def test_asking_too_early_or_for_items_that_are_not_there_is_refused(kind, fitted):
    with pytest.raises(RecommenderError, match="K400"):
        kind().score([ask(1)])
    with pytest.raises(RecommenderError, match="K405"):
        fitted(kind).score([ask(10_000)])


@pytest.mark.parametrize(
    ("config", "key"),
    [(IALSConfig, "unobserved"), (IALSConfig, "regularization"), (BPRConfig, "learning_rate"), (BPRConfig, "factors")],
)
def test_settings_out_of_range_are_refused(config, key):
    with pytest.raises(ConfigError, match=key):
        config.from_dict({key: 0})


def test_steps_too_long_end_in_an_error_and_cost_a_search_one_trial(shop):
    with pytest.raises(RecommenderError, match="K470"):
        BPR(BPRConfig(learning_rate=1e9, epochs=20)).fit(shop.train, None, rng=np.random.default_rng(0))

    class Wild(BPRFamily):
        start = BPRConfig(factors=4, epochs=3)
        axes = (Axis("learning_rate", (1e9,)),)

    result = tune([Wild()], shop, None, rng=np.random.default_rng(0))
    assert result.trials["value"].to_list()[1] == 0.0
    assert result.config.learning_rate == BPRConfig().learning_rate
