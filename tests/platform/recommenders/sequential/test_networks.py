"""What the networks compute: the published formulas, no row from later ones, the same jagged as padded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from koinon.recommenders.protocol import Request
from koinon.recommenders.sequential import HSTU, HSTUConfig, SASRec, SASRecConfig
from koinon.recommenders.sequential.histories import batch_of, history_of
from koinon.recommenders.sequential.items import IdItems
from koinon.recommenders.sequential.jagged import gap_buckets

CPU = torch.device("cpu")
ITEMS, LENGTH = 30, 20


def network_of(kind, **settings):
    torch.manual_seed(3)
    settings = {"length": LENGTH, "width": 8, "blocks": 2, "heads": 2, **settings}
    built = HSTU(HSTUConfig(**settings)) if kind == "hstu" else SASRec(SASRecConfig(**settings))
    network = built.build(IdItems(ITEMS, 8), timed=True).eval()
    with torch.no_grad():  # large enough for every part to count
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return network


def asks(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Request(
            history=rng.integers(ITEMS, size=length).astype(np.int32),
            times=np.cumsum(rng.integers(1, 10**8, size=length)),
            time=10**11,
        )
        for length in lengths
    ]


def read(network, requests):
    read = [history_of(request, ITEMS, LENGTH, timed=True) for request in requests]
    return network(batch_of(read, CPU, timed=True, own_clock=network.own_clock))


@pytest.mark.parametrize("settings", [{}, {"gaps": True}, {"clock": "event"}, {"unit": False}])
@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_a_batch_gives_what_each_sequence_gives_alone(kind, settings):
    if kind == "sasrec":
        settings = {name: value for name, value in settings.items() if name != "clock"}
    network, requests = network_of(kind, **settings), asks(7, 1, 20, 13, 2)
    together = read(network, requests)
    alone = torch.cat([read(network, [request]) for request in requests])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_jagged_equals_padded(kind):
    network, requests = network_of(kind), asks(7, 1, 20, 13)
    jagged = read(network, requests)
    padded = []
    for request in requests:
        missing = LENGTH - len(request.history)
        padded.append(
            Request(
                history=np.append(request.history, np.zeros(missing, dtype=np.int32)),
                times=np.append(request.times, np.full(missing, request.time)),
                time=request.time,
            )
        )
    rows = read(network, padded).view(len(requests), LENGTH, -1)
    kept = torch.cat([row[: len(request.history)] for row, request in zip(rows, requests, strict=True)])
    torch.testing.assert_close(jagged, kept, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_a_later_event_never_changes_an_earlier_row(kind):
    network, (request,) = network_of(kind), asks(15)
    before = read(network, [request])
    for changed in range(1, 15):
        history = request.history.copy()
        history[changed] = (history[changed] + 1) % ITEMS
        after = read(network, [Request(history=history, times=request.times, time=request.time)])
        torch.testing.assert_close(after[:changed], before[:changed])
        assert not torch.allclose(after[changed:], before[changed:])


def test_only_the_row_before_hears_when_an_event_happened():
    """The paper's clock: row i is asked when event i+1 happens, and rows before it know nothing of that time."""
    network, (request,) = network_of("hstu"), asks(15)
    times = request.times.copy()
    times[9] += 50_000_000
    moved = read(network, [Request(history=request.history, times=times, time=request.time)])
    before = read(network, [request])
    torch.testing.assert_close(moved[:8], before[:8])
    assert not torch.allclose(moved[8], before[8])


def test_hstu_is_the_published_formula():
    network, (request,) = network_of("hstu", heads=1, unit=False), asks(11)
    seconds = torch.from_numpy(request.times // 1000)
    clocks = torch.cat((seconds[1:], torch.tensor([request.time // 1000])))
    rows = network.items.vectors[torch.from_numpy(request.history).long()] * 8**0.5 + network.positions[:11]
    for block in network.blocks:
        projected = functional.silu(functional.layer_norm(rows, (8,), eps=1e-6) @ block.project.weight.T)
        u, v, q, k = projected.split(8, 1)
        away = (torch.arange(11)[:, None] - torch.arange(11)).clamp(min=0)
        bias = block.position_bias[away] + block.time_bias[gap_buckets(clocks[:, None] - seconds).long()]
        weights = (functional.silu(q @ k.T + bias) / LENGTH).tril()
        rows = rows + block.join(functional.layer_norm(weights @ v, (8,), eps=1e-6) * u)
    torch.testing.assert_close(read(network, [request]), rows, rtol=1e-5, atol=1e-5)


def test_sasrec_attends_as_torchs_own_attention():
    network, (request,) = network_of("sasrec", blocks=1), asks(9)
    rows = network.items.vectors[torch.from_numpy(request.history).long()] * 8**0.5 + network.positions[:9]
    block = network.blocks[0]
    q, k, v = block.project(block.before_attention(rows)).view(9, 3, 2, 4).permute(1, 2, 0, 3)
    attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).reshape(9, 8)
    rows = rows + block.join(attended)
    rows = rows + block.layer(block.before_layer(rows))
    wanted = functional.normalize(network.norm(rows), dim=-1)
    torch.testing.assert_close(read(network, [request]), wanted, rtol=1e-5, atol=1e-5)
