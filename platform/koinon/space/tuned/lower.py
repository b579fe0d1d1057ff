"""Starting a network in the middle: what its lower, untuned layers make of a text never changes, so it may be kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["read_until", "started_at"]

_BLOCKS = re.compile(r"(?:^|\.)layers?$")


class _Read(Exception):
    """The wanted layer has been reached."""


class _Passed(nn.Module):
    """Stands for a layer that is left out."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states


def _blocks(network: nn.Module) -> nn.ModuleList:
    """The network's blocks: its longest list of layers."""
    lists = [
        module for name, module in network.named_modules() if isinstance(module, nn.ModuleList) and _BLOCKS.search(name)
    ]
    return max(lists, key=len)


@contextmanager
def read_until(network: nn.Module, first: int, found: list[Tensor]) -> Iterator[None]:
    """Within it a forward pass ends before layer ``first`` and puts into ``found`` what that layer would be given."""

    def stop(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        found.append(arguments[0] if arguments else named["hidden_states"])
        raise _Read

    hook = _blocks(network)[first].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield
    except _Read:
        pass
    finally:
        hook.remove()


@contextmanager
def started_at(network: nn.Module, first: int, given: Sequence[Tensor]) -> Iterator[None]:
    """Within it a forward pass begins with layer ``first``.

    It reads ``given``: for each row ``[tokens, width]`` from :func:`read_until`, padded on the right.
    """
    blocks = _blocks(network)
    lower = list(blocks[:first])
    padded = nn.utils.rnn.pad_sequence(list(given), batch_first=True)

    def swap(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if arguments:
            return (padded, *arguments[1:]), named
        return arguments, {**named, "hidden_states": padded}

    hook = blocks[first].register_forward_pre_hook(swap, with_kwargs=True)
    for number in range(first):
        blocks[number] = _Passed()
    try:
        yield
    finally:
        hook.remove()
        for number, block in enumerate(lower):
            blocks[number] = block
