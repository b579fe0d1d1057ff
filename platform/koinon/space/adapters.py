"""Trainable maps on top of frozen vectors: one part is shared with the federation, the other never leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from koinon.errors import SpaceError

__all__ = ["AdapterStack", "PrivateAdapter", "SharedAdapter"]


class _Adapter(nn.Module):
    """``x + U·gelu(D·LN(x))`` with ``U = 0`` at the start, so that a fresh adapter is the identity.

    Parameters
    ----------
    dimension
        Length of a vector.
    rank
        Width of the middle, 1 to ``dimension``.
    seed
        Of the initial ``D``; partners of one federation start from the same.

    Raises
    ------
    SpaceError
        K330 when the rank does not fit.
    """

    shared: ClassVar[bool]

    def __init__(self, dimension: int, rank: int = 32, *, seed: int = 0) -> None:
        super().__init__()
        if not 1 <= rank <= dimension:
            raise SpaceError(
                "K330", f"An adapter of rank {rank} on vectors of length {dimension}.", "Take 1 ≤ rank ≤ d."
            )
        self.norm = nn.LayerNorm(dimension)
        self.down = nn.Linear(dimension, rank)
        self.up = nn.Linear(rank, dimension)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.down.weight.normal_(0.0, dimension**-0.5, generator=random)
            self.down.bias.zero_()
            self.up.weight.zero_()
            self.up.bias.zero_()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map ``float32[…, dimension]`` to the same shape."""
        moved: torch.Tensor = self.up(nn.functional.gelu(self.down(self.norm(vectors))))
        return vectors + moved


class SharedAdapter(_Adapter):
    """The federation's adapter: its parameters are aggregated."""

    shared = True


class PrivateAdapter(_Adapter):
    """A partner's own adapter: its parameters never leave."""

    shared = False


class AdapterStack(nn.Module):
    """The private adapter after the shared one, result of norm 1; says which parameter is which.

    Parameters
    ----------
    dimension
        Length of a vector.
    shared_rank, private_rank
        Widths of the two adapters.
    seed
        Of the initial weights.
    """

    def __init__(self, dimension: int, shared_rank: int = 64, private_rank: int = 16, *, seed: int = 0) -> None:
        super().__init__()
        self.shared = SharedAdapter(dimension, shared_rank, seed=seed)
        self.private = PrivateAdapter(dimension, private_rank, seed=seed + 1)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map unit vectors ``float32[…, dimension]`` to unit vectors."""
        return nn.functional.normalize(self.private(self.shared(vectors)), dim=-1)

    def shared_names(self) -> tuple[str, ...]:
        """Names of the parameters that are aggregated, sorted."""
        return tuple(sorted(name for name, _ in self.named_parameters() if name.startswith("shared.")))

    def private_names(self) -> tuple[str, ...]:
        """Names of the parameters that never leave, sorted."""
        return tuple(sorted(name for name, _ in self.named_parameters() if not name.startswith("shared.")))

    def shared_state(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the shared parameters."""
        return tensors_of(self, self.shared_names())

    def load_shared(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Adopt shared parameters; the private ones stay. SpaceError K330 for other names or shapes."""
        load_tensors(self, self.shared_names(), state)


def tensors_of(module: nn.Module, names: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Copies of the named parameters, ``float32``."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name].detach().cpu().float().numpy().copy() for name in names}


def load_tensors(module: nn.Module, names: tuple[str, ...], state: Mapping[str, NDArray[np.float32]]) -> None:
    """Put ``state`` into the named parameters, all of them or none.

    Raises
    ------
    SpaceError
        K330 when names, shapes differ or a value is not finite.
    """
    parameters = dict(module.named_parameters())
    wrong = set(names) ^ set(state)
    wrong |= {n for n in names if n in state and tuple(state[n].shape) != tuple(parameters[n].shape)}
    wrong |= {n for n in names if n in state and not np.all(np.isfinite(state[n]))}
    if wrong:
        raise SpaceError(
            "K330",
            f"A state that does not fit this module: `{sorted(wrong)[0]}` ({len(wrong)} in all).",
            "Take the release that was made for the same encoder and ranks.",
        )
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(torch.from_numpy(np.asarray(state[name], np.float32)))
