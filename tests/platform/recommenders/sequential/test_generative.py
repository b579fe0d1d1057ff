"""Generative retrieval: nothing outside the catalogue is ever said, and beam, score and chain rule agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from koinon.data import Domain, Interactions
from koinon.data.building import item_table
from koinon.errors import RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders import Recommender, Request, store
from koinon.recommenders.conventional import Popularity
from koinon.recommenders.sequential import Generative, GenerativeConfig
from koinon.recommenders.sequential.trie import Trie

SMALL = GenerativeConfig(width=16, blocks=1, length=10, epochs=3, code_levels=2, code_words=8, beam=10)
TEXTS = [f"red{n % 4} round{n % 7} thing{n}" for n in range(40)]


def domain_of(names, texts, seed=0, users=12):
    """A shop in which everybody has taken five things at random."""
    rng = np.random.default_rng(seed)
    item = np.concatenate([rng.permutation(len(names))[:5] for _ in range(users)]).astype(np.int32)
    user = np.repeat(np.arange(users, dtype=np.int32), min(5, len(names)))
    items = item_table(list(names), list(names), list(texts))
    return Domain("shop", items, tuple(f"u{n}" for n in range(users)), Interactions(user, item))


def asked(*items):
    return Request(history=np.array(items, dtype=np.int32))


def full(model):
    """The same recommender with a beam that holds everything."""
    model.config = model.config.model_copy(update={"beam": len(model.network.trie.ends)})
    return model


@pytest.fixture(scope="module")
def model(chains, word_space):
    return Generative(SMALL).fit(chains.train, word_space, rng=np.random.default_rng(0))


CATALOGUES = st.lists(st.sampled_from(TEXTS), min_size=6, max_size=25)
"""Texts may repeat: items of the same words."""


@settings(deadline=None, max_examples=15)
@given(
    first=CATALOGUES, later=CATALOGUES, keep=st.sets(st.integers(0, 24)), seed=st.integers(0, 9), k=st.integers(1, 30),
    beam=st.integers(1, 12),
)  # fmt: skip
def test_generation_never_leaves_the_catalogue_whatever_is_added_or_removed(
    word_space, first, later, keep, seed, k, beam
):
    config = SMALL.model_copy(update={"epochs": 1, "width": 8, "beam": beam, "code_words": 3})
    before = domain_of([f"a{n}" for n in range(len(first))], first, seed)
    model = Generative(config).fit(before, word_space, rng=np.random.default_rng(seed))
    check(model, before, k)
    stay = [n for n in sorted(keep) if n < len(first)]
    names = [f"a{n}" for n in stay] + [f"b{n}" for n in range(len(later))]
    after = domain_of(names, [first[n] for n in stay] + later, seed + 1)
    check(model.serve(after, word_space), after, k)


def check(model, domain, k):
    """Every item there is may be said, nothing else is, nothing twice, and nothing that was had."""
    requests = [asked(), asked(0), asked(1, 2, 1), asked(*range(domain.n_items - 1))]
    for request, found in zip(requests, model.recommend(requests, k), strict=True):
        items = [row.item for row in found]
        unseen = set(range(domain.n_items)) - set(request.history.tolist())
        assert set(items) <= unseen
        assert len(set(items)) == len(items) == min(k, len(unseen))
    scores = model.score(requests[1:])
    assert scores.shape == (3, domain.n_items)
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(1), 1.0, atol=1e-4)


def test_a_full_beam_is_exhaustive_scoring(chains, model):
    model = full(model)
    requests = [asked(3, 7), asked(1), asked(5, 9, 2, 30)]
    lists, scores = model.recommend(requests, 60), model.score(requests)
    for request, found, row in zip(requests, lists, scores, strict=True):
        row[request.history] = -np.inf
        wanted = np.argsort(-row, kind="stable")[: len(row) - len(request.history)]
        np.testing.assert_allclose([each.score for each in found], row[wanted], atol=1e-5)
        assert {each.item for each in found} == set(wanted.tolist())


def test_scores_of_some_candidates_are_those_of_all(model):
    requests = [asked(3, 7), asked()]
    some = np.array([9, 0, 41], dtype=np.int32)
    np.testing.assert_allclose(model.score(requests, some), model.score(requests)[:, some], atol=1e-5)


def test_a_score_is_the_chain_of_its_tokens_log_probabilities(model):
    network, trie = model.network, model.network.trie
    with torch.inference_mode():
        states = model._states([asked(3, 7)])
        for item in (0, 17, 59):
            node, total = torch.zeros(1, dtype=torch.int64), 0.0
            for depth in range(trie.depths):
                said = network.step(depth, states, node)
                token = trie.tokens[item, depth]
                total += float(said[0, token])
                node = trie.children[depth][node, token]
            assert trie.ends[node].item() == item
            assert model.score([asked(3, 7)])[0, item] == pytest.approx(total, abs=1e-5)


def test_a_narrow_beam_finds_the_most_likely(model):
    narrow = Generative(SMALL.model_copy(update={"beam": 10}))
    narrow.__dict__.update({**model.__dict__, "config": narrow.config})
    requests = [asked(item) for item in range(60)]
    wanted = [[row.item for row in found] for found in full(model).recommend(requests, 5)]
    found = [[row.item for row in found] for found in narrow.recommend(requests, 5)]
    same = np.mean([len(set(one) & set(other)) / 5 for one, other in zip(wanted, found, strict=True)])
    assert same > 0.9


def test_it_learns_what_comes_next(chains, word_space):
    config = SMALL.model_copy(
        update={"epochs": 15, "batch_users": 16, "width": 32, "code_levels": 3, "learning_rate": 5e-3}
    )
    model = Generative(config).fit(chains.train, word_space, rng=np.random.default_rng(0))
    assert isinstance(model, Recommender)
    popular = Popularity().fit(chains.train, None, rng=np.random.default_rng(0))
    ours, theirs = (evaluate(each, chains.train, chains.test, slices=("all",)).mean() for each in (model, popular))
    assert ours > 0.4
    assert ours > 4 * theirs


def test_the_same_question_has_the_same_answer_whoever_else_asks(model):
    alone, again = (model.recommend([asked(3, 7)], 9)[0] for _ in range(2))
    beside = model.recommend([asked(1), asked(3, 7), asked()], 9)[1]
    assert alone == again
    assert [row.item for row in alone] == [row.item for row in beside]
    np.testing.assert_allclose([row.score for row in alone], [row.score for row in beside], atol=1e-5)


def test_items_the_catalogue_does_not_hold_are_skipped_in_a_history(model):
    known, odd = model.recommend([asked(3, 7), asked(3, 99, 7, -1)], 5)
    assert [row.item for row in known] == [row.item for row in odd]


def test_it_is_kept_and_comes_back(chains, model, word_space, tmp_path):
    store.save(model, tmp_path, chains.train, word_space)
    again = store.load(tmp_path, chains.train, word_space)
    np.testing.assert_array_equal(again.score([asked(3, 7)]), model.score([asked(3, 7)]))
    assert again.recommend([asked(3, 7)], 5) == model.recommend([asked(3, 7)], 5)


@pytest.mark.parametrize("steps", [1, 4])
def test_interrupted_it_goes_on_to_the_same_result(chains, word_space, tmp_path, steps):
    class Stop(Exception):
        pass

    def stop(progress):
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise Stop

    config = SMALL.model_copy(update={"checkpoint_seconds": 0.0, "epochs": 2})

    def fit(checkpoint, on_progress=None):
        return Generative(config).fit(
            chains.train, word_space, rng=np.random.default_rng(0), checkpoint=checkpoint, on_progress=on_progress
        )

    with pytest.raises(Stop):
        fit(tmp_path / "checkpoint", stop)
    again, undisturbed = fit(tmp_path / "checkpoint"), fit(None)
    for name, value in undisturbed.state().items():
        np.testing.assert_array_equal(again.state()[name], value, err_msg=name)


def test_items_known_before_keep_their_ids_and_their_scores_order(word_space):
    before = domain_of([f"a{n}" for n in range(20)], TEXTS[:20])
    model = Generative(SMALL).fit(before, word_space, rng=np.random.default_rng(0))
    paths = model.network.trie.tokens.clone()
    scores = model.score([asked(3, 7)])[0]
    order = np.random.default_rng(1).permutation(20)
    shuffled = replace(before, items=before.items[order.tolist()], events=before.events.take(np.zeros(60, dtype=bool)))
    model.serve(shuffled, word_space)
    assert torch.equal(model.network.trie.tokens, paths[order])
    history = [int(np.flatnonzero(order == item)[0]) for item in (3, 7)]
    np.testing.assert_allclose(model.score([asked(*history)])[0], scores[order], atol=1e-5)


def test_a_trie_knows_every_path_and_no_other():
    paths = np.array([[0, 1, 0], [2, 1, 0], [0, 1, 1], [2, 0, 0]])
    trie = Trie(paths, (3, 2, 2), torch.device("cpu"))
    assert [follows.shape for follows in trie.children] == [(1, 3), (2, 2), (3, 2)]
    assert [(follows >= 0).sum().item() for follows in trie.children] == [2, 3, 4]
    assert [open_.tolist() for open_ in trie.branching] == [[True], [False, True], [True, False, False]]
    node = torch.zeros(4, dtype=torch.int64)
    for depth in range(3):
        assert torch.equal(node, trie.at[depth])
        assert torch.equal(trie.prefixes[depth][node], trie.tokens[:, :depth])
        node = trie.children[depth][node, trie.tokens[:, depth]]
    assert trie.ends[node].tolist() == [0, 1, 2, 3]
    seen = trie.exhausted([np.array([1, 3]), np.array([0, 0], dtype=np.int32)])
    assert [row.sum().item() for row in seen[0]] == [1, 0]
    assert [row.sum().item() for row in seen[-1]] == [2, 1]


def test_settings_and_states_that_cannot_be_are_refused(chains):
    with pytest.raises(ValidationError, match="told by codes"):
        GenerativeConfig(items="ids")
    with pytest.raises(ValidationError, match="target-aware"):
        GenerativeConfig(ranking_negatives=4)
    with pytest.raises(RecommenderError, match="K404"):
        Generative(SMALL).fit(chains.train, None, rng=np.random.default_rng(0))
    with pytest.raises(RecommenderError, match="K400"):
        Generative(SMALL).recommend([asked(1)], 3)
