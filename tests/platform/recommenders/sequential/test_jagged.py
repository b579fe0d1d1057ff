"""Attention over jagged batches equals attention over each sequence alone, gradients included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.recommenders.sequential import jagged
from koinon.recommenders.sequential.attention import attend
from koinon.recommenders.sequential.jagged import GAP_BUCKETS, Layout, gap_buckets

CPU = torch.device("cpu")


def one_by_one(queries, keys, values, lengths, clocks, times, *, weighting, scale, position_bias, time_bias):
    """The definition: dense, one sequence after the other, differentiated by torch."""
    results, start = [], 0
    for length in lengths:
        rows = slice(start, start + length)
        start += length
        if not length:
            continue
        scores = torch.einsum("nhd,mhd->hnm", queries[rows], keys[rows])
        away = (torch.arange(length)[:, None] - torch.arange(length)).clamp(min=0)
        bias = 0.0
        if position_bias is not None:
            bias = bias + position_bias[away]
        if time_bias is not None:
            bias = bias + time_bias[gap_buckets(clocks[rows][:, None] - times[rows]).long()]
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        if weighting == "softmax":
            weights = (scores * scale + bias).masked_fill(later, -torch.inf).softmax(-1)
        else:
            weights = (torch.nn.functional.silu(scores + bias) * scale).masked_fill(later, 0.0)
        results.append(torch.einsum("hnm,mhd->nhd", weights, values[rows]))
    return torch.cat(results) if results else values * 1.0


def drawn(lengths, heads, seed):
    rows = int(sum(lengths))
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(rows, heads, 5, generator=generator).requires_grad_() for _ in range(2))
    v = torch.randn(rows, heads, 3, generator=generator).requires_grad_()
    positions = torch.randn(max([*lengths, 1]) + 1, generator=generator).requires_grad_()
    gaps = torch.randn(GAP_BUCKETS, generator=generator).requires_grad_()
    times = torch.randint(10**9, (rows,), generator=generator)
    clocks = times + torch.randint(10**5, (rows,), generator=generator)
    return q, k, v, positions, gaps, times, clocks


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=9),
    heads=st.integers(1, 2),
    weighting=st.sampled_from(["pointwise", "softmax"]),
    biased=st.booleans(),
    rows=st.sampled_from([4, 64]),
)
def test_jagged_attention_and_its_gradients_equal_one_sequence_at_a_time(lengths, heads, weighting, biased, rows):
    q, k, v, positions, gaps, times, clocks = drawn(lengths, heads, seed=len(lengths))
    options = {"weighting": weighting, "scale": 0.4}
    options |= {"position_bias": positions, "time_bias": gaps} if biased else {}
    learned = (q, k, v, positions, gaps) if biased else (q, k, v)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(jagged.TILE_ROWS, "cpu", rows)
        patch.setitem(jagged.TILE_CELLS, "cpu", 900)
        found = attend(q, k, v, Layout(lengths, CPU, times, clocks), **options)
        slopes = torch.autograd.grad(found.square().sum() + found.sum(), learned)
    options = {"position_bias": None, "time_bias": None} | options
    wanted = one_by_one(q, k, v, lengths, clocks, times, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    if sum(lengths):
        for one, other in zip(slopes, torch.autograd.grad(wanted.square().sum() + wanted.sum(), learned), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None)
def test_blocks_hold_every_row_once_and_waste_little(lengths):
    layout = Layout(lengths, CPU)
    own = torch.cat([block.own for block in layout.blocks]) if layout.blocks else torch.empty(0, dtype=torch.int64)
    assert torch.equal(own.sort().values, torch.arange(sum(lengths)))
    for block in layout.blocks:
        assert len(block.own) >= jagged.WASTE * len(block.rows)


def test_positions_count_from_each_sequences_start():
    assert Layout([3, 0, 2], CPU).positions.tolist() == [0, 1, 2, 0, 1]


def test_gap_buckets_are_those_of_the_published_code():
    seconds = torch.tensor([0, 1, -1, 2, 60, -3600, 86_400 * 365, 10**12])
    wanted = [int(np.log(max(abs(s), 1)) / 0.301) for s in seconds.tolist()]
    assert gap_buckets(seconds).tolist() == wanted
