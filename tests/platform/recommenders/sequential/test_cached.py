"""What a kept history gives is what reading everything again gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from koinon.errors import RecommenderError
from koinon.recommenders.protocol import Request
from koinon.recommenders.sequential import HSTU, HSTUConfig
from koinon.recommenders.sequential.histories import batch_of, history_of

ITEMS, LENGTH, HOUR = 12, 8, 3_600_000


@pytest.fixture(scope="module", params=["request", "event", "no times"])
def model(request, make_domain):
    rng = np.random.default_rng(0)
    timed = request.param != "no times"
    histories = [
        (rng.permutation(ITEMS)[:6], np.cumsum(rng.integers(1, 10**7, size=6)) if timed else None) for _ in range(20)
    ]
    settings = {"clock": request.param} if timed else {}
    config = HSTUConfig(
        epochs=2, length=LENGTH, width=8, heads=2, blocks=2, gaps=True, ranking_negatives=4, batch_users=8, **settings
    )
    fitted = HSTU(config).fit(make_domain(histories, ITEMS), None, rng=np.random.default_rng(1))
    with torch.no_grad():
        for parameter in fitted.network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    fitted._settle()
    return fitted


def ask(length, seed=0, last=0):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, HOUR, size=length)).astype(np.int64)
    return Request(history=rng.integers(ITEMS, size=length).astype(np.int32), times=times, time=20 * HOUR + last)


def without_cache(model, request, candidates):
    """Each candidate appended to the history as its next event, the whole of it read by the jagged network."""
    network, logits = model.network, []
    longer = model.config.length + 1  # a candidate may stand after a full history
    for item in candidates:
        grown = Request(
            history=np.append(request.history[-model.config.length :], np.int32(item)),
            times=np.append(request.times[-model.config.length :], request.time),
            time=request.time,
        )
        read = history_of(grown, ITEMS, longer, timed=network.timed, words=model._words)
        batch = batch_of([read], torch.device("cpu"), timed=network.timed, own_clock=network.own_clock)
        with torch.inference_mode():
            logits.append(network.rank(network.read(batch)[0][-1]).item())
    return np.array(logits)


@pytest.mark.parametrize("length", [0, 1, 2, 5, 8, 11])
def test_candidates_after_a_kept_history_score_as_without_it(model, length):
    request, candidates = ask(length), np.arange(ITEMS)
    found = model.remember(request).rank(candidates, batch=5)
    np.testing.assert_allclose(found, without_cache(model, request, candidates), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 5, 8, 11])
def test_the_state_of_a_kept_history_scores_as_a_full_pass(model, length):
    request = ask(length)
    np.testing.assert_allclose(model.score_state(model.remember(request)), model.score([request])[0], atol=1e-5)


def test_a_kept_history_takes_in_events_as_if_they_had_always_been_there(model):
    whole = ask(14)
    cache = model.remember(replace(whole, history=whole.history[:0], times=whole.times[:0]))
    for count in range(1, 15):
        cache.append(int(whole.history[count - 1]), int(whole.times[count - 1]))
        so_far = replace(whole, history=whole.history[:count], times=whole.times[:count])
        fresh = model.remember(so_far)
        np.testing.assert_allclose(model.score_state(cache), model.score([so_far])[0], atol=1e-5)
        np.testing.assert_allclose(cache.rank(np.arange(ITEMS)), fresh.rank(np.arange(ITEMS)), atol=1e-5)


def test_a_late_event_is_put_where_it_belongs_and_an_unknown_one_is_skipped(model):
    whole = ask(6)
    kept = np.delete(np.arange(6), 2)
    cache = model.remember(replace(whole, history=whole.history[kept], times=whole.times[kept]))
    cache.append(ITEMS + 5, int(whole.times[-1]))
    cache.append(int(whole.history[2]), int(whole.times[2]))
    if model.network.timed:
        assert cache.history.items.tolist() == whole.history.tolist()
        np.testing.assert_allclose(model.score_state(cache), model.score([whole])[0], atol=1e-5)
    else:
        assert sorted(cache.history.items.tolist()) == sorted(whole.history.tolist())


def test_an_empty_history_has_no_state_and_scores_by_popularity(model):
    cache = model.remember(Request())
    with pytest.raises(RecommenderError, match="K475"):
        cache.state()
    np.testing.assert_array_equal(model.score_state(cache), model.score([Request()])[0])


def test_ranking_needs_a_head(make_domain):
    domain = make_domain([([0, 1, 2], None), ([2, 1], None)])
    config = HSTUConfig(epochs=1, length=4, width=4)
    cache = HSTU(config).fit(domain, None, rng=np.random.default_rng(0)).remember(ask(3))
    with pytest.raises(RecommenderError, match="K476"):
        cache.rank(np.array([1]))
