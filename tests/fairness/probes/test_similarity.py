"""List similarities against cases worked out by hand, and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinon.fairness.probes.similarity import SIMILARITIES, jaccard, prag, serp, snsr, snsv

LISTS = st.lists(st.integers(0, 30), unique=True, max_size=12)


def test_jaccard_by_hand():
    assert jaccard([1, 2, 3], [3, 4, 1]) == 2 / 4
    assert jaccard([1, 2], [2, 1]) == 1
    assert jaccard([1], [2]) == 0


def test_serp_weighs_shared_items_by_their_place_in_the_told_list():
    assert serp([1, 2, 3], [3, 9, 1]) == (3 + 1) / 6  # weights 3, 2, 1
    assert serp([1, 2, 3], [9, 8, 1]) == 1 / 6
    assert serp([3, 2, 1], [1, 2, 3]) == 1  # the neutral order does not count


def test_serp_of_identical_lists_is_one_where_code_in_circulation_gives_a_quarter():
    twenty = list(range(20))
    circulating = sum(len(twenty) - place + 1 for place in range(20)) * 0.5 / (21 * 20)
    assert round(circulating, 2) == 0.27
    assert serp(twenty, twenty) == 1


def test_prag_counts_pairs_kept_in_order():
    # of (3, 9, 1): 3 before 9 holds, as 9 is not in the neutral list; 3 before 1 does not; 9 is not there at all
    assert prag([1, 2, 3], [3, 9, 1]) == 1 / 3
    assert prag([1, 2, 3], [3, 2, 1]) == 0
    assert prag([1, 2, 3, 4], [1, 3, 2, 4]) == 5 / 6
    assert prag([1, 2], [2]) == 0
    assert prag([2], [2]) == 1


@given(LISTS)
def test_identical_lists_are_alike(items):
    for similarity in SIMILARITIES.values():
        assert similarity(items, items) == 1


@given(LISTS, LISTS)
def test_similarities_lie_between_nothing_and_everything(one, other):
    for similarity in SIMILARITIES.values():
        found = similarity(one, other)
        assert 0 <= found <= 1
        if one and other and not set(one) & set(other):
            assert found == 0


def test_range_and_deviation_by_hand():
    means = np.array([0.5, 0.8, 0.5])
    assert snsr(means) == pytest.approx(0.3)
    assert snsv(means) == pytest.approx(np.sqrt((0.1**2 + 0.2**2 + 0.1**2) / 3))
