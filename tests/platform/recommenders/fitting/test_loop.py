"""The loop goes through every example once an epoch, means by rows, and validates as often as it was told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koinon.recommenders.fitting import Course, adopt_weights, fit_network, weights_of


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(1))


def fit(course, *, rate=0.0, validate=None, examples=10, told=None):
    line, asked = Line(), []

    def loss(chosen):
        asked.append(chosen.tolist())
        rows = int(chosen.sum()) + 1  # examples have unequal numbers of rows
        return (line.slope - 3.0).square().sum() + float(len(chosen)), rows

    optimiser = torch.optim.SGD(line.parameters(), lr=rate)
    training = fit_network(
        line, np.arange(examples), loss, optimiser, course, rows=course.epochs, seed=3, device=torch.device("cpu"),
        validate=None if validate is None else lambda: validate(line), on_progress=told,
    )  # fmt: skip
    return line, training, asked


def test_every_example_comes_once_an_epoch_in_another_order():
    _, training, asked = fit(Course(epochs=3, batch=4, patience=1))
    epochs = [[one for chosen in asked[start : start + 3] for one in chosen] for start in range(0, 9, 3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [epoch.number for epoch in training.curve] == [1, 2, 3]


def test_fewer_examples_than_a_batch_are_one_step():
    _, training, asked = fit(Course(epochs=2, batch=128, patience=1))
    assert [len(chosen) for chosen in asked] == [10, 10]
    assert len(training.curve) == 2


def test_the_loss_of_an_epoch_is_the_mean_over_rows():
    _, training, asked = fit(Course(epochs=1, batch=4, patience=1))
    rows = [sum(chosen) + 1 for chosen in asked]
    wanted = np.average([9.0 + len(chosen) for chosen in asked], weights=rows)
    assert training.curve[0].loss == pytest.approx(wanted)
    assert training.rows == sum(rows)


def test_it_validates_every_so_many_epochs_and_at_the_last():
    _, training, _ = fit(Course(epochs=5, batch=10, patience=9, validate_every=2), validate=lambda line: 1.0)
    assert [epoch.metric is not None for epoch in training.curve] == [False, True, False, True, True]
    assert training.best_epoch == 2


def test_the_best_weights_are_those_of_the_best_value_not_the_last():
    near = Course(epochs=8, batch=10, patience=3)
    line, training, _ = fit(near, rate=0.4, validate=lambda line: -abs(line.slope.item() - 2.9))
    assert line.slope.item() == pytest.approx(2.88)  # 0, 2.4, 2.88, 2.976, ...
    assert training.best == pytest.approx(-0.02, abs=1e-5)
    assert (training.best_epoch, len(training.curve)) == (2, 5)


def test_weights_come_back_and_those_of_another_network_are_refused():
    line = Line()
    adopt_weights(line, {"slope": np.array([2.5], dtype=np.float32)})
    np.testing.assert_array_equal(weights_of(line)["slope"], [2.5])
    with pytest.raises(ValueError, match="size mismatch"):
        adopt_weights(line, {"slope": np.zeros(2, dtype=np.float32)})
    with pytest.raises(ValueError, match="bias"):
        adopt_weights(line, {"slope": np.zeros(1, dtype=np.float32), "bias": np.zeros(1, dtype=np.float32)})
