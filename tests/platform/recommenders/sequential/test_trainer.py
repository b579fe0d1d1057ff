"""Training survives: killed at any point it ends with the same weights; what cannot be gone on with is refused."""

from __future__ import annotations

import io
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from koinon.errors import RecommenderError
from koinon.recommenders.sequential import HSTU, HSTUConfig

PROGRAM = Path(__file__).with_name("killed_training.py")
MODULE = runpy.run_path(str(PROGRAM))
train, CONFIG, domain = MODULE["train"], MODULE["CONFIG"], MODULE["domain"]


@pytest.fixture(scope="module")
def undisturbed():
    return train(None)


def assert_equal(one, other):
    first, second = one.state(), other.state()
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)
    assert one.training.best == other.training.best
    assert one.training.best_epoch == other.training.best_epoch
    told = [(epoch.number, epoch.loss, epoch.metric) for epoch in one.training.curve]
    assert told == [(epoch.number, epoch.loss, epoch.metric) for epoch in other.training.curve]


def test_killed_outright_it_goes_on_to_the_same_result(tmp_path, undisturbed):
    checkpoint = tmp_path / "checkpoint"
    for _ in range(2):
        process = subprocess.Popen([sys.executable, str(PROGRAM), str(checkpoint)])
        seen, deadline = set(), time.monotonic() + 120
        while len(seen) < 4 and process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists():
                seen.add(checkpoint.stat().st_mtime_ns)
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert_equal(train(checkpoint), undisturbed)


@pytest.mark.parametrize("steps", [1, 5, 7, 23, 40])
def test_interrupted_after_any_step_it_ends_the_same(tmp_path, undisturbed, steps):
    class Stop(Exception):
        pass

    def stop(progress):
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise Stop

    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Stop):
        HSTU(CONFIG).fit(
            domain(), None, rng=np.random.default_rng(0), checkpoint=checkpoint, on_progress=stop,
            validate=lambda model: float(model.network.items.vectors.detach().std()),
        )  # fmt: skip
    assert_equal(train(checkpoint), undisturbed)


def test_a_finished_training_is_not_trained_again(tmp_path):
    first = train(tmp_path / "checkpoint")
    assert train(tmp_path / "checkpoint").training == first.training


def test_more_epochs_go_on_to_what_they_would_have_come_to_at_once(tmp_path, undisturbed):
    short = CONFIG.model_copy(update={"epochs": CONFIG.epochs - 2})
    train(tmp_path / "checkpoint", short)
    assert_equal(train(tmp_path / "checkpoint"), undisturbed)
    with pytest.raises(RecommenderError, match="K471"):
        train(tmp_path / "checkpoint", short)


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    train(None, CONFIG.model_copy(update={"epochs": 1}))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"width": 8}, {"clock": "event"}])
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change):
    train(tmp_path / "checkpoint", CONFIG.model_copy(update={"epochs": 1}))
    with pytest.raises(RecommenderError, match="K471"):
        train(tmp_path / "checkpoint", CONFIG.model_copy(update={"epochs": 1, **change}))


def test_a_checkpoint_of_another_seed_is_refused(tmp_path):
    config = CONFIG.model_copy(update={"epochs": 1})
    train(tmp_path / "checkpoint", config)
    with pytest.raises(RecommenderError, match="K471"):
        train(tmp_path / "checkpoint", config, seed=1)


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, cut):
    config, checkpoint = CONFIG.model_copy(update={"epochs": 1}), tmp_path / "checkpoint"
    train(checkpoint, config)
    checkpoint.write_bytes(checkpoint.read_bytes()[:cut])
    with pytest.raises(RecommenderError, match="K472"):
        train(checkpoint, config)


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_a_loss_that_is_not_finite_stops_names_the_batch_and_keeps_the_state_before(tmp_path, undisturbed, seconds):
    checkpoint, calls = tmp_path / "checkpoint", []
    model = HSTU(CONFIG.model_copy(update={"checkpoint_seconds": seconds}))
    build = model.build

    def poisoned(items, *, timed):
        network = build(items, timed=timed)
        loss = network.loss

        def losing(batch):
            calls.append(batch)
            return loss(batch) * (float("nan") if len(calls) == 8 else 1.0)

        network.loss = losing
        return network

    model.build = poisoned
    with pytest.raises(RecommenderError, match=r"K470.*epoch 2, batch 3 of 5") as caught:
        model.fit(
            domain(), None, rng=np.random.default_rng(0), checkpoint=checkpoint,
            validate=lambda model: float(model.network.items.vectors.detach().std()),
        )  # fmt: skip
    assert caught.value.code == "K470"
    kept = torch.load(io.BytesIO(checkpoint.read_bytes().partition(b"\n")[2]), weights_only=True)
    assert (kept["state"]["epoch"], kept["state"]["step"]) == (1, 2)
    for name, value in model.network.state_dict().items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, kept["network"][name])
    assert_equal(train(checkpoint), undisturbed)  # without the poison it goes on as if nothing had been


def test_training_stops_when_validation_no_longer_gains_and_keeps_the_best():
    values = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.1])
    weights = []

    def validate(model):
        weights.append(model.network.positions.detach().clone())
        return next(values)

    config = CONFIG.model_copy(update={"epochs": 50, "patience": 3})
    model = HSTU(config).fit(domain(), None, rng=np.random.default_rng(0), validate=validate)
    assert (model.training.best_epoch, model.training.best, len(model.training.curve)) == (2, 0.5, 5)
    assert torch.equal(model.network.positions, weights[1])


def test_progress_tells_loss_metric_pace_and_what_is_left():
    told = []
    HSTU(CONFIG).fit(domain(), None, rng=np.random.default_rng(0), on_progress=told.append, validate=lambda _: 0.25)
    last = told[-1]
    assert (last.epoch, last.step, last.steps, last.metric, last.best) == (8, 5, 5, 0.25, 0.25)
    assert last.seconds_left == 0
    assert last.rows_per_second > 0
    assert told[0].seconds_left > 0
    assert told[0].metric is None
    assert last.loss < told[0].loss


def test_without_two_events_of_anybody_there_is_nothing_to_learn(make_domain):
    with pytest.raises(RecommenderError, match="K473"):
        HSTU(HSTUConfig(epochs=1)).fit(make_domain([([1], None), ([2], None)]), None, rng=np.random.default_rng(0))


def test_a_device_that_is_not_there_is_named(make_domain):
    with pytest.raises(RecommenderError, match=r"K474.*warp"):
        HSTU(HSTUConfig(epochs=1, device="warp")).fit(make_domain([([1, 2], None)]), None, rng=np.random.default_rng(0))
