"""Semantic ids: no two items by the same path, and what has a token keeps it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from koinon.space.semantic_ids import semantic_ids

WORDS = st.integers(0, 30).flatmap(lambda n: arrays(np.int32, (n, 2), elements=st.integers(0, 2)))


@settings(deadline=None)
@given(words=WORDS)
def test_no_two_items_have_the_same_path_and_tokens_leave_no_gap(words):
    ids = semantic_ids(words)
    assert len({tuple(path) for path in ids.paths.tolist()}) == len(words)
    for same in np.unique(words, axis=0):
        tokens = ids.last[(words == same).all(1)]
        assert tokens.tolist() == list(range(len(tokens)))


@settings(deadline=None)
@given(words=WORDS, data=st.data())
def test_among_equals_the_most_taken_comes_first(words, data):
    counts = data.draw(arrays(np.int64, len(words), elements=st.integers(0, 4)))
    ids = semantic_ids(words, first=counts)
    for same in np.unique(words, axis=0):
        members = np.flatnonzero((words == same).all(1))
        ranked = members[np.argsort(ids.last[members])]
        assert ranked.tolist() == sorted(members, key=lambda item: (-counts[item], item))


@settings(deadline=None)
@given(words=WORDS, data=st.data())
def test_items_keep_their_tokens_when_others_come_and_go(words, data):
    before = semantic_ids(words)
    stay = data.draw(arrays(np.bool_, len(words)))
    new = data.draw(arrays(np.int32, (5, 2), elements=st.integers(0, 2)))
    after = semantic_ids(
        np.concatenate((words[stay], new)), kept=np.concatenate((before.last[stay], np.full(5, -1, dtype=np.int32)))
    )
    assert after.last[: stay.sum()].tolist() == before.last[stay].tolist()
    assert len({tuple(path) for path in after.paths.tolist()}) == stay.sum() + 5
