"""Sequence recommenders behind the protocol: they learn order, and read histories by the stated rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.errors import RecommenderError
from koinon.evaluation import evaluate
from koinon.recommenders import Recommender, Request
from koinon.recommenders.conventional import EASE, Popularity
from koinon.recommenders.sequential import HSTU, HSTUConfig, SASRec, SASRecConfig
from koinon.recommenders.sequential.histories import Histories, ordered
from koinon.recommenders.store import Storable, load, save

QUICK = {"epochs": 14, "batch_users": 32, "length": 16, "width": 32, "learning_rate": 0.01, "negatives": 32}


def quick(kind, **settings):
    settings = QUICK | settings
    return HSTU(HSTUConfig(**settings)) if kind == "hstu" else SASRec(SASRecConfig(**settings))


def ndcg(model, split):
    return evaluate(model, split.train, split.test, slices=("all",)).mean()


@pytest.fixture(scope="module")
def baselines(chains):
    fitted = [kind().fit(chains.train, None, rng=np.random.default_rng(0)) for kind in (Popularity, EASE)]
    return [ndcg(model, chains) for model in fitted]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sasrec", {"loss": "full"}),
        ("sasrec", {"loss": "bce", "unit": False, "temperature": 1.0, "negatives": 8}),
        ("hstu", {}),
        ("hstu", {"precision": "bf16", "heads": 2, "gaps": True, "clock": "event"}),
    ],
)
def test_where_order_is_everything_sequence_models_beat_popularity_and_ease(chains, baselines, kind, settings):
    model = quick(kind, **settings).fit(chains.train, None, rng=np.random.default_rng(0))
    assert isinstance(model, Recommender)
    assert isinstance(model, Storable)
    assert ndcg(model, chains) > max(baselines) + 0.15


def test_the_target_aware_head_learns_to_tell_the_next_item(chains):
    model = quick("hstu", ranking_negatives=8, ranking_places=8, ranking_weight=1.0).fit(
        chains.train, None, rng=np.random.default_rng(0)
    )
    better = []
    for row in range(60):
        request = Request(
            history=chains.test.history(row),
            times=chains.test.history_times[chains.test.history_indptr[row] : chains.test.history_indptr[row + 1]],
            time=int(chains.test.time[row]),
        )
        target = int(chains.test.targets(row)[0])
        others = np.setdiff1d(np.arange(chains.train.n_items), [*request.history, target])
        logits = model.remember(request).rank(np.array([target, *others]))
        better.append((logits[0] > logits[1:]).mean())
    assert np.mean(better) > 0.75


def test_texts_score_items_that_nobody_has_taken(shop, word_space):
    model = quick("hstu", items="texts", epochs=12).fit(shop.train, word_space, rng=np.random.default_rng(0))
    cold = np.flatnonzero(shop.cold_item).astype(np.int32)
    own = np.array([model.score([Request(history=shop.train.history(user))], cold)[0] for user in range(60)])
    # readers keep to topic user % 6; a cold item of that topic should score above the others
    same = (np.arange(60)[:, None] % 6) == cold % 6
    assert (own[same][:, None] > own[~same]).mean() > 0.65


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
@pytest.mark.parametrize("items", ["ids", "texts", "ids+texts"])
def test_kept_and_brought_back_it_scores_the_same(shop, word_space, tmp_path, kind, items):
    model = quick(kind, epochs=1, items=items).fit(shop.train, word_space, rng=np.random.default_rng(0))
    save(model, tmp_path, shop.train, word_space)
    back = load(tmp_path, shop.train, word_space)
    requests = [Request(history=np.array([3, 9], dtype=np.int32)), Request()]
    np.testing.assert_array_equal(back.score(requests), model.score(requests))


def test_texts_need_a_space(shop):
    with pytest.raises(RecommenderError, match="K404"):
        quick("sasrec", items="texts").fit(shop.train, None, rng=np.random.default_rng(0))


def test_asked_before_fit_it_says_so():
    with pytest.raises(RecommenderError, match="K400"):
        HSTU().score([Request()])


@pytest.fixture(scope="module")
def small(chains):
    return quick("hstu", epochs=1, length=5).fit(chains.train, None, rng=np.random.default_rng(0))


def ask(*items, times=None, time=None):
    return Request(
        history=np.array(items, dtype=np.int32),
        times=None if times is None else np.array(times, dtype=np.int64) * 1000,
        time=time,
    )


def test_of_a_long_history_the_newest_events_count(small):
    times = list(range(0, 800, 100))
    long, short = ask(*range(8), times=times), ask(*range(3, 8), times=times[3:])
    np.testing.assert_allclose(small.score([long]), small.score([short]), atol=1e-6)
    assert not np.allclose(small.score([long]), small.score([ask(*range(2, 7), times=times[2:7])]), atol=1e-4)


def test_times_out_of_order_are_put_in_order(small):
    right, wrong = ask(1, 2, 3, times=[10, 5000, 90000]), ask(3, 1, 2, times=[90000, 10, 5000])
    np.testing.assert_array_equal(small.score([wrong]), small.score([right]))


def test_unknown_items_are_skipped(small):
    with_unknown = ask(1, 999, 2, -4, times=[10, 20, 5000, 6000], time=9_000_000)
    without = ask(1, 2, times=[10, 5000], time=9_000_000)
    np.testing.assert_array_equal(small.score([with_unknown]), small.score([without]))


def test_who_has_no_known_history_gets_what_is_popular(small, chains):
    popular = Popularity().fit(chains.train, None, rng=np.random.default_rng(0)).score([Request()])
    np.testing.assert_array_equal(small.score([ask(), ask(999)]), np.tile(popular, (2, 1)))


def test_the_time_of_the_request_counts(small):
    now, later = (ask(1, 2, times=[10, 5000], time=time) for time in (5_000_000, 9_000_000_000))
    assert not np.allclose(small.score([now]), small.score([later]), atol=1e-5)


def test_candidates_are_columns_of_the_whole(small):
    chosen = np.array([4, 50, 0], dtype=np.int32)
    requests = [ask(1, 2, 3), ask(), ask(7)]
    np.testing.assert_allclose(small.score(requests, chosen), small.score(requests)[:, chosen], atol=1e-6)


def test_recommendations_leave_out_the_history(small):
    listed = small.recommend([ask(1, 2, 3)], 5)[0]
    assert len(listed) == 5
    assert not {1, 2, 3} & {one.item for one in listed}


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=7),
    kind=st.sampled_from(["hstu", "sasrec"]),
    timed=st.booleans(),
    ranking=st.integers(0, 2),
)
def test_any_lengths_train_and_score_also_with_fewer_users_than_a_batch(make_domain, lengths, kind, timed, ranking):
    rng = np.random.default_rng(sum(lengths))
    histories = [(rng.permutation(12)[:n], np.arange(n) * 5000 if timed else None) for n in lengths]
    domain = make_domain(histories)
    settings = {"epochs": 1, "batch_users": 128, "length": 5, "width": 8}
    model = quick(kind, **settings, **({"ranking_negatives": ranking} if kind == "hstu" else {}))
    if max(lengths) < 2:
        with pytest.raises(RecommenderError, match="K473"):
            model.fit(domain, None, rng=rng)
        return
    model.fit(domain, None, rng=rng)
    scores = model.score([Request(history=np.asarray(items, dtype=np.int32)) for items, _ in histories])
    assert scores.shape == (len(lengths), 12)
    assert np.isfinite(scores).all()


@given(
    items=st.lists(st.integers(-3, 15), max_size=20),
    length=st.integers(1, 8),
    data=st.data(),
)
def test_a_history_is_read_by_its_three_rules(items, length, data):
    times = data.draw(st.lists(st.integers(0, 9), min_size=len(items), max_size=len(items)))
    kept, seconds = ordered(np.array(items, dtype=np.int32), np.array(times, dtype=np.int64) * 1000, 12, length)
    pairs = sorted(zip(times, range(len(items)), items, strict=True), key=lambda pair: pair[:2])
    wanted = [(time, item) for time, _, item in pairs if 0 <= item < 12][-length:]
    assert list(zip(seconds.tolist(), kept.tolist(), strict=True)) == wanted


def test_training_reads_the_newest_events_of_everybody_in_order(make_domain):
    domain = make_domain([([3, 1, 2], [30_000, 10_000, 20_000]), ([5], [1000]), (range(9), np.arange(9) * 1000)])
    read = Histories(domain, 4)
    import torch

    batch = read.batch(np.array([0, 2]), torch.device("cpu"))
    assert read.users.tolist() == [0, 2]
    assert batch.items.tolist() == [1, 2, 4, 5, 6, 7]
    assert batch.targets.tolist() == [2, 3, 5, 6, 7, 8]
    assert batch.times.tolist() == [10, 20, 4, 5, 6, 7]
    assert batch.asked.tolist() == [20, 30, 5, 6, 7, 8]
    assert batch.gaps.tolist() == [0, 10, 0, 1, 1, 1]
