"""Which items go together."""

from __future__ import annotations

import numpy as np
import pytest

from koinon.recommenders.serial.notellm import PairConfig, co_occurrences

from .conftest import domain_of

TEXTS = ("a", "b", "c", "d", "a")


def found(pairs):
    return {(int(a), int(b)): float(s) for a, b, s in zip(pairs.left, pairs.right, pairs.strength, strict=True)}


def test_in_order_a_pair_counts_one_way_and_a_person_gives_one_over_their_events():
    pairs = co_occurrences(domain_of(TEXTS, [[0, 1, 2], [1, 0]], times=True))
    assert found(pairs) == pytest.approx({(0, 1): 1 / 3, (0, 2): 1 / 3, (1, 2): 1 / 3, (1, 0): 1 / 2})


def test_without_an_order_a_pair_counts_both_ways():
    pairs = co_occurrences(domain_of(TEXTS, [[0, 1, 2], [1, 0]]))
    third = {(0, 2): 1 / 3, (2, 0): 1 / 3, (1, 2): 1 / 3, (2, 1): 1 / 3}
    assert found(pairs) == pytest.approx({(0, 1): 5 / 6, (1, 0): 5 / 6, **third})


def test_moderate_pairs_stay_and_of_an_item_the_strongest():
    taken = [[0, 1]] * 3 + [[0, 2]] * 2 + [[0, 3]]
    kept = co_occurrences(domain_of(TEXTS, taken, times=True), PairConfig(per_item=1))
    assert found(kept) == {(0, 1): 1.5}
    kept = co_occurrences(domain_of(TEXTS, taken, times=True), PairConfig(least=0.6, most=1.2))
    assert found(kept) == {(0, 2): 1.0}


def test_what_is_left_out_of_the_pairs_is_no_negative_either():
    pairs = co_occurrences(domain_of(TEXTS, [[0, 1]] * 3 + [[0, 2]], times=True), PairConfig(per_item=1))
    together = pairs.together.toarray()
    assert together[0, 2]
    assert together[2, 0]
    assert not together[1, 2]


def test_equal_texts_are_no_pair():
    pairs = co_occurrences(domain_of(TEXTS, [[0, 4, 1]], times=True))
    assert set(found(pairs)) == {(0, 1), (4, 1)}


def test_of_a_long_history_the_last_events_count():
    pairs = co_occurrences(domain_of(TEXTS, [[0, 1, 2, 3]], times=True), PairConfig(longest=2))
    assert found(pairs) == {(2, 3): 0.5}
    drawn = [co_occurrences(domain_of(TEXTS, [[0, 1, 2, 3]]), PairConfig(longest=2), seed=s) for s in (1, 1)]
    assert found(drawn[0]) == found(drawn[1])
    assert len(drawn[0]) == 2


def test_a_domain_without_pairs_has_none():
    pairs = co_occurrences(domain_of(TEXTS, [[0], [1], [0]]))
    assert len(pairs) == 0
    assert not pairs.together.toarray().any()


def test_repeated_events_of_a_person_are_one(shop):
    twice = co_occurrences(domain_of(TEXTS, [[0, 1, 0, 1]], times=True))
    assert found(twice) == {(0, 1): 0.5}
    assert np.all(co_occurrences(shop).strength > 0)
