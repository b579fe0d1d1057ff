"""An encoder's vectors under a learned map: what is tuned stands behind the encoder, nothing inside it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from koinon.space.adapters import load_tensors, tensors_of
from koinon.space.encoders import Encoder, Progress
from koinon.space.evened import principal_map
from koinon.space.tuned.wording import CompressionConfig

__all__ = ["MappedNetwork", "Member", "StateMap"]

_VERSION = 3


class Member(nn.Linear):
    """A linear map of a model's states, and beside it a perceptron of one hidden layer that adds nothing at first.

    Parameters
    ----------
    width, dimension
        Lengths of a state and of a vector.
    hidden
        Units of the perceptron; 0: there is none.
    """

    def __init__(self, width: int, dimension: int, hidden: int = 0, *, device: str = "cpu") -> None:
        super().__init__(width, dimension, device=device)
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)
        self.inner = nn.Linear(width, hidden, device=device) if hidden else None
        self.outer = nn.Linear(hidden, dimension, bias=False, device=device) if hidden else None
        if self.outer is not None:
            nn.init.zeros_(self.outer.weight)

    def forward(self, states: Tensor) -> Tensor:
        """``float32[texts, width]`` to ``float32[texts, dimension]``."""
        straight = super().forward(states)
        if self.inner is None or self.outer is None:
            return straight
        bent: Tensor = self.outer(F.gelu(self.inner(states)))
        return straight + bent

    def begin(self, axes: NDArray[np.float32], mean: NDArray[np.float32]) -> None:
        """Be the axes ``float32[dimension, width]`` about a mean; the perceptron adds nothing."""
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(axes))
            self.bias.copy_(torch.from_numpy(-axes @ mean))
            if self.outer is not None:
                self.outer.weight.zero_()


class StateMap(nn.Module):
    """Several maps of a model's states, learned apart: two texts are as alike as the mean of the maps says.

    Each member's vectors are made as long as 1 and stand side by side; of these the principal axes over the texts at
    hand are kept (:meth:`settle`). One member alone has no axes: its answer is the map's.

    Parameters
    ----------
    width, dimension
        Lengths of a state and of a vector, a member's too.
    hidden
        Units of each member's perceptron; 0: there is none.
    members
        How many.
    """

    def __init__(self, width: int, dimension: int, hidden: int = 0, members: int = 1, *, device: str = "cpu") -> None:
        super().__init__()
        self.in_features, self.out_features = width, dimension
        self.members = nn.ModuleList(Member(width, dimension, hidden, device=device) for _ in range(members))
        self.axes = nn.Linear(members * dimension, dimension, bias=False, device=device) if members > 1 else None
        self._level()

    def forward(self, states: Tensor) -> Tensor:
        """``float32[texts, width]`` to ``float32[texts, dimension]``."""
        if self.axes is None:
            alone: Tensor = self.members[0](states)
            return alone
        joined: Tensor = self.axes(self._side_by_side(states))
        return joined

    def begin(self, states: NDArray[np.float32], evenness: float) -> None:
        """Be the principal axes of ``float32[texts, width]`` about their mean, every member alike."""
        axes, mean = principal_map(states, evenness, self.out_features)
        for member in self.members:
            cast(Member, member).begin(axes, mean)
        self._level()

    def settle(self, states: NDArray[np.float32]) -> None:
        """Keep the principal axes of what the members make of ``float32[texts, width]``."""
        if self.axes is None:
            return
        with torch.no_grad():
            vectors = self._side_by_side(torch.from_numpy(states).to(self.axes.weight.device)).double()
            _, found = torch.linalg.eigh(vectors.T @ vectors)
            self.axes.weight.copy_(found.flip(1).T[: self.out_features])

    def _side_by_side(self, states: Tensor) -> Tensor:
        return torch.cat([F.normalize(member(states), dim=1) for member in self.members], dim=1)

    def _level(self) -> None:
        """Let the members' vectors be averaged."""
        if self.axes is not None:
            with torch.no_grad():
                self.axes.weight.copy_(torch.eye(self.out_features).repeat(1, len(self.members)) / len(self.members))


class MappedNetwork(nn.Module):
    """Texts to unit vectors by an encoder as it is and a map that is learned.

    The names follow :class:`koinon.space.lora.LoraEncoder`: ``uri, dimension, fingerprint, encode, shared_names,
    shared_state, load_shared``.

    Parameters
    ----------
    encoder
        From :func:`koinon.space.open_encoder`.
    config
        Of it ``dimension``, ``hidden`` and ``members`` count here.
    """

    decodes = False

    def __init__(self, encoder: Encoder, config: CompressionConfig | None = None) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config or CompressionConfig()
        self.uri, self.device = encoder.uri, encoder.device
        width = encoder.dimension
        self.dimension = self.config.dimension or width
        with torch.random.fork_rng():
            torch.manual_seed(self.config.lora.seed)
            self.projection = (
                StateMap(width, self.dimension, self.config.hidden, self.config.members, device=self.device)
                if self.config.dimension
                else None
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the model's fingerprint, the settings and what is tuned as it is now."""
        digest = hashlib.sha256(f"{_VERSION}\0{self.encoder.fingerprint}\0{self.config.model_dump_json()}".encode())
        for name, tensor in self.shared_state().items():
            digest.update(name.encode() + tensor.tobytes())
        return digest.hexdigest()

    def shared_names(self) -> tuple[str, ...]:
        """Names of the tuned parameters, sorted; everything else is frozen."""
        return tuple(sorted(name for name, parameter in self.named_parameters() if parameter.requires_grad))

    def shared_state(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the tuned parameters."""
        return tensors_of(self, self.shared_names())

    def load_shared(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Adopt tuned parameters. SpaceError K330 for other names, shapes or values not finite."""
        load_tensors(self, self.shared_names(), state)

    def read(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """``float32[texts, width]``: what the map is given."""
        return self.encoder.encode(texts, progress)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        return self.mapped(self.read(texts, progress))

    def mapped(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of what was read: ``float32[texts, dimension]``, rows of L2 norm 1."""
        with torch.inference_mode():
            return self.vectors(torch.from_numpy(states).to(self.device)).cpu().numpy()

    def vectors(self, states: Tensor) -> Tensor:
        """The same of a tensor, differentiable in the map."""
        return F.normalize(self.projection(states) if self.projection is not None else states, dim=1)

    def start_principal(self, states: NDArray[np.float32], *, evenness: float = 0.5) -> None:
        """Let the map be the principal axes of texts' states, about their mean; its perceptron adds nothing.

        Parameters
        ----------
        states
            ``float32[texts, width]`` from :meth:`read`.
        evenness
            0 keeps every axis as long as it is, 1 makes all equally long (whitening).
        """
        if self.projection is not None:
            self.projection.begin(states, evenness)

    def merge(self) -> None:
        """Nothing can be trained any more."""
        self.requires_grad_(False)
