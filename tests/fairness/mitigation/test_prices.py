"""The linear programme: against lists worked out by hand and by trying all."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from koinon.fairness.mitigation.priced import Aim, ClassShare, KeptRelevance, Popularity, Priced
from koinon.fairness.mitigation.prices import Goal, group_means, prices_of
from koinon.fairness.mitigation.reranking import shortlists_of
from koinon.recommenders.protocol import Request
from tests.fairness.mitigation.conftest import Told, asking, domain_of


def everybody(people):
    return np.zeros(people, dtype=np.int64)


def test_the_cheapest_exchange_is_made_and_its_loss_is_the_price():
    """Two people, lists of one; half the attention is due to item 1. The person who loses least by it gives way."""
    relevance = np.array([[1.0, 0.8], [1.0, 0.3]])
    goal = Goal(np.array([[0.0, 1.0]] * 2), everybody(2), 1, 0.5, 0.0)
    (price,), lists = prices_of(relevance, np.ones((2, 2), bool), [goal], 1)
    np.testing.assert_allclose(lists, [[0, 1], [1, 0]], atol=1e-9)
    assert 0.2 - 1e-9 <= price[0] <= 0.7 + 1e-9  # what moves the first and not the second
    assert group_means(goal, lists, 1)[0] == pytest.approx(0.5)


def best_by_trying(relevance, feature, k, low, high):
    """The most relevant lists whose mean feature lies within bounds, of all there are."""
    every = [list(combinations(range(relevance.shape[1]), k)) for _ in relevance]
    found = -np.inf
    for lists in product(*every):
        mean = np.mean([feature[u, list(one)].mean() for u, one in enumerate(lists)])
        if low - 1e-9 <= mean <= high + 1e-9:
            found = max(found, sum(relevance[u, list(one)].sum() for u, one in enumerate(lists)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_programme_is_no_worse_than_the_best_of_all_whole_lists(seed):
    rng = np.random.default_rng(seed)
    relevance, feature = rng.random((3, 5)), (rng.random((3, 5)) < 0.4).astype(float)
    goal = Goal(feature, everybody(3), 1, 0.5, 1 / 6)
    (price,), lists = prices_of(relevance, np.ones((3, 5), bool), [goal], 2)
    whole = best_by_trying(relevance, feature, 2, 1 / 3, 2 / 3)
    if abs(group_means(goal, lists, 2)[0] - 0.5) <= 1 / 6 + 1e-9 and np.isfinite(whole):
        assert (relevance * lists).sum() >= whole - 1e-9
    # one sort by prices gives the programme's lists but for its few fractions
    by_price = np.argsort(-(relevance + price[0] * feature), axis=1, kind="stable")[:, :2]
    settled = np.isclose(lists, np.round(lists)).all(axis=1)
    assert (~settled).sum() <= 1
    strict = [set(np.flatnonzero(row > 0.5)) == set(top) for row, top in zip(lists, by_price, strict=True)]
    assert np.sum(~np.array(strict)[settled]) <= 1


def test_groups_are_brought_together_not_to_a_level_from_outside():
    """One group's lists hold the feature, the other's do not; half the distance is left, relevance decides whose."""
    relevance = np.array([[1.0, 0.9]] * 2 + [[1.0, 0.1]] * 2)
    feature = np.array([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2)
    goal = Goal(feature, np.array([0, 0, 1, 1]), 2, None, 0.25)
    prices, lists = prices_of(relevance, np.ones((4, 2), bool), [goal], 1)
    means = group_means(goal, lists, 1)
    assert means[0] - means[1] == pytest.approx(0.5)
    assert means.tolist() == pytest.approx([0.5, 0.0])  # the first group gives way: it loses .1 where the second .9
    assert prices[0][0] == pytest.approx(-0.1)


def test_what_is_out_of_reach_is_not_forced():
    relevance = np.array([[1.0, 0.5]])
    goal = Goal(np.zeros((1, 2)), everybody(1), 1, 1.0, 0.0)
    prices, lists = prices_of(relevance, np.ones((1, 2), bool), [goal], 1)
    assert lists.tolist() == [[1.0, 0.0]]
    assert np.isfinite(prices[0]).all()


def planted(people=60, items=40, seed=0):
    """Items 20 and up are the tail: half as well liked, never among anybody's best five."""
    rng = np.random.default_rng(seed)
    table = rng.random((people, items))
    table[:, items // 2 :] *= 0.5
    table[:, :5] += 0.5
    histories = [rng.choice(np.arange(5, items), 3, replace=False).tolist() for _ in range(people)]
    return domain_of(histories, items), Told(table)


def share(recommender, domain, member, users=None):
    lists = recommender.recommend(asking(domain, users), 5)
    return np.mean([member[one.item] for row in lists for one in row])


def test_the_dial_moves_the_share_of_a_class_in_proportion():
    domain, told = planted()
    tail = np.arange(40) >= 20
    before = share(told, domain, tail)
    found = [
        share(Priced(told, [Aim(ClassShare(tail), due=0.6)], dial=dial, k=5, depth=40).learn(domain), domain, tail)
        for dial in (0.0, 0.5, 1.0)
    ]
    np.testing.assert_allclose(found, [before, (before + 0.6) / 2, 0.6], atol=0.03)


def test_prices_serve_people_who_did_not_set_them():
    domain, told = planted(200)
    tail = np.arange(40) >= 20
    few = Priced(told, [Aim(ClassShare(tail), due=0.5)], dial=1.0, k=5, depth=40, people=100).learn(domain)
    assert share(few, domain, tail) == pytest.approx(0.5, abs=0.05)


def test_a_joint_aim_lets_groups_share_what_it_costs():
    """CPFair's case: the tail's share alone is paid for by those to whom it costs least; jointly both keep alike."""
    domain, told = planted(80)
    rng = np.random.default_rng(0)
    told.table = (1.0 - 0.05 * rng.random((80, 40))).astype(np.float32)
    told.table[:40, 20:] -= 0.2  # the first half like the tail nearly as well, the others not at all
    told.table[40:, 20:] -= 0.9
    group = np.repeat([0, 1], 40)
    tail = Aim(ClassShare(np.arange(40) >= 20), due=0.5)
    kept = Aim(KeptRelevance(), group)

    def kept_by_group(recommender):
        requests = asking(domain)
        lists = shortlists_of(told.score(requests), requests, 40)
        worth = KeptRelevance().of(requests, lists, 5)
        order = recommender.reordered(requests, lists)[:, :5]
        each = np.take_along_axis(worth, order, axis=1).mean(axis=1)
        return each[:40].mean() - each[40:].mean()

    alone = Priced(told, [tail], dial=1.0, k=5, depth=40).learn(domain)
    joint = Priced(told, [tail, kept], dial=1.0, k=5, depth=40).learn(domain)
    assert kept_by_group(alone) < -0.1
    assert abs(kept_by_group(joint)) < abs(kept_by_group(alone)) / 2
    assert share(joint, domain, np.arange(40) >= 20) == pytest.approx(0.5, abs=0.05)


def test_popularity_lift_by_hand():
    domain = domain_of([[0, 1], [0], [0, 2]], 4)  # taken 3, 1, 1, 0 times
    feature = Popularity()
    feature.learn(domain)
    requests = [Request(np.array([0, 1], dtype=np.int32), 0), Request()]
    lists = shortlists_of(np.array([[0, 0, 2, 1], [4, 3, 2, 1]], np.float32), requests, 2)
    np.testing.assert_allclose(feature.of(requests, lists, 2), [[1 / 2 - 1, 0 / 2 - 1], [0, 0]])


def test_people_of_no_known_group_keep_their_lists():
    domain, told = planted()
    tail = ClassShare(np.arange(40) >= 20)
    group = np.where(np.arange(60) < 20, 0, np.where(np.arange(60) < 40, 1, -1))
    told.table[:20, 20:] += 1.0
    mended = Priced(told, [Aim(tail, group)], dial=1.0, k=5, depth=40).learn(domain)
    rest = asking(domain, range(40, 60))
    was = [[one.item for one in row] for row in told.recommend(rest, 5)]
    assert [[one.item for one in row] for row in mended.recommend(rest, 5)] == was
    first, second = (share(mended, domain, tail.member, range(start, start + 20)) for start in (0, 20))
    assert first - second == pytest.approx(0.0, abs=0.1)
