"""Weights to begin with: what holds in every catalogue, taken out of a fitted recommender."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as dump_arrays
from torch import nn

from koinon.config import write_atomically
from koinon.errors import RecommenderError
from koinon.recommenders.fusion.feature_encoder.adaptor import AdaptorItems
from koinon.recommenders.sequential.network import SequenceNetwork
from koinon.space import Space

__all__ = ["Initial"]

ADAPTOR, SEQUENCE, ABOUT = "adaptor.", "sequence.", "about"


@dataclass(frozen=True)
class Initial:
    """Adaptor and sequence network, without anything of one catalogue: no item, no free vector, no person.

    Attributes
    ----------
    arrays
        ``adaptor.*`` and ``sequence.*``, ``float32``.
    about
        ``space`` (fingerprint) and ``backbone``.
    """

    arrays: Mapping[str, NDArray[np.float32]]
    about: Mapping[str, str]

    @classmethod
    def of(cls, network: SequenceNetwork, space: Space, backbone: str) -> Self:
        """Take them out of a network that reads items through an adaptor."""
        with torch.no_grad():
            arrays = {kind: parameter.detach().cpu().numpy().copy() for kind, parameter in _shared(network).items()}
        return cls(arrays, {"space": space.fingerprint, "backbone": backbone})

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights and what is said about them."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def save(self, path: Path) -> None:
        """Write them as one safetensors file, whole or not at all.

        Raises
        ------
        ResourceError
            K801 the disk is full or the folder cannot be written.
        """
        write_atomically(path, self._bytes())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RecommenderError
            K492 it cannot be read.
        """
        try:
            arrays = load_arrays(path.read_bytes())
            about = json.loads(arrays.pop(ABOUT).tobytes())
            return cls(arrays, {"space": str(about["space"]), "backbone": str(about["backbone"])})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RecommenderError(
                "K492", f"No weights to begin with can be read from {path}: {error}.", "Pre-train, and save them again."
            ) from error

    def put(self, network: SequenceNetwork) -> None:
        """Begin with them; a bias for time gaps that only one side has is left as it is.

        Raises
        ------
        RecommenderError
            K493 shapes differ.
        """
        shared = _shared(network)
        wrong = [
            f"{kind} {list(shared[kind].shape) if kind in shared else 'is not there'}, "
            f"given {list(self.arrays[kind].shape) if kind in self.arrays else 'nothing'}"
            for kind in sorted(set(shared) | set(self.arrays))
            if not (_of_times(kind) and (kind in shared) != (kind in self.arrays))
            and (kind not in shared or kind not in self.arrays or shared[kind].shape != self.arrays[kind].shape)
        ]
        if wrong:
            raise RecommenderError(
                "K493",
                f"The weights to begin with do not fit ({len(wrong)}): {wrong[0]}.",
                "Use the width, length, blocks, heads and experts they were trained with.",
            )
        with torch.no_grad():
            for kind in set(shared) & set(self.arrays):
                shared[kind].copy_(torch.from_numpy(np.array(self.arrays[kind], dtype=np.float32)))

    def check(self, space: Space | None, backbone: str) -> None:
        """Refuse another space or another network.

        Raises
        ------
        RecommenderError
            K493.
        """
        held: dict[str, Any] = {"space": None if space is None else space.fingerprint, "backbone": backbone}
        for name, value in self.about.items():
            if held[name] != value:
                raise RecommenderError(
                    "K493",
                    f"The weights to begin with were trained with another {name} ({value}).",
                    "Open that encoder and name that backbone, or pre-train with these.",
                )

    def _bytes(self) -> bytes:
        about = np.frombuffer(json.dumps(dict(self.about), sort_keys=True).encode(), dtype=np.uint8)
        arrays = {name: np.ascontiguousarray(self.arrays[name]) for name in sorted(self.arrays)}
        return dump_arrays(cast(dict[str, NDArray[np.generic]], {**arrays, ABOUT: about}))


def _shared(network: SequenceNetwork) -> dict[str, nn.Parameter]:
    """Parameters that mean the same in every catalogue, by name."""
    adaptors = [part for part in network.items.modules() if isinstance(part, AdaptorItems)]
    found = {f"{ADAPTOR}{name}": parameter for name, parameter in adaptors[0].named_parameters()} if adaptors else {}
    for name, parameter in network.named_parameters():
        if not name.startswith("items.") and name != "marks":
            found[f"{SEQUENCE}{name}"] = parameter
    return found


def _of_times(name: str) -> bool:
    return name.endswith("time_bias") or name == f"{SEQUENCE}gaps"
