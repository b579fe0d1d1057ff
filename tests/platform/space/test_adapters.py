"""Adapters begin as the identity and keep shared and private parameters apart."""

import numpy as np
import pytest
import torch

from koinon.errors import SpaceError
from koinon.space.adapters import AdapterStack, PrivateAdapter, SharedAdapter


@pytest.fixture
def vectors():
    return torch.nn.functional.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(0)), dim=1)


def test_fresh_adapters_are_the_identity(vectors):
    for adapter in (SharedAdapter(12, 3), PrivateAdapter(12, 3)):
        torch.testing.assert_close(adapter(vectors), vectors)
    torch.testing.assert_close(AdapterStack(12, 4, 2)(vectors), vectors)


def test_every_parameter_is_either_shared_or_private():
    stack = AdapterStack(12, 4, 2)
    shared, private = set(stack.shared_names()), set(stack.private_names())
    assert not shared & private
    assert shared | private == {name for name, _ in stack.named_parameters()}
    assert (SharedAdapter.shared, PrivateAdapter.shared) == (True, False)


def test_every_parameter_learns(vectors):
    stack = AdapterStack(12, 4, 2)
    optimiser = torch.optim.SGD(stack.parameters(), lr=1.0)
    target = torch.roll(vectors, 1, dims=1)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = 1 - (stack(vectors) * target).sum(1).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    fresh = AdapterStack(12, 4, 2)
    for (name, tuned), (_, start) in zip(stack.named_parameters(), fresh.named_parameters(), strict=True):
        assert not torch.equal(tuned, start), name


def test_adopting_a_shared_state_leaves_the_private_part(vectors):
    ours, theirs = AdapterStack(12, 4, 2), AdapterStack(12, 4, 2, seed=9)
    with torch.no_grad():
        theirs.shared.up.weight.fill_(0.1)
        ours.private.up.weight.fill_(0.2)
    ours.load_shared(theirs.shared_state())
    for name, value in theirs.shared_state().items():
        np.testing.assert_array_equal(ours.shared_state()[name], value)
    assert torch.all(ours.private.up.weight == 0.2)


def test_the_seed_decides_the_start():
    same = AdapterStack(12, seed=1, shared_rank=4, private_rank=2).shared_state()
    again = AdapterStack(12, seed=1, shared_rank=4, private_rank=2).shared_state()
    other = AdapterStack(12, seed=2, shared_rank=4, private_rank=2).shared_state()
    np.testing.assert_array_equal(same["shared.down.weight"], again["shared.down.weight"])
    assert not np.array_equal(same["shared.down.weight"], other["shared.down.weight"])


def test_states_that_do_not_fit_change_nothing():
    stack = AdapterStack(12, 4, 2)
    before = stack.shared_state()
    for bad in ({}, AdapterStack(12, 5, 2).shared_state(), before | {"shared.up.bias": np.full(12, np.nan)}):
        with pytest.raises(SpaceError, match="K330"):
            stack.load_shared(bad)
    for name, value in stack.shared_state().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(SpaceError, match="K330"):
        SharedAdapter(12, 13)
