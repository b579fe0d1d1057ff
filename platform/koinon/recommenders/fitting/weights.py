"""A network's weights as named arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["adopt_weights", "weights_of"]


def weights_of(network: nn.Module) -> dict[str, NDArray[np.generic]]:
    """Return every parameter and buffer that the network keeps."""
    return {name: value.cpu().numpy() for name, value in network.state_dict().items()}


def adopt_weights(network: nn.Module, weights: Mapping[str, NDArray[np.generic] | torch.Tensor]) -> None:
    """Take what :func:`weights_of` gave of an equal network.

    Raises
    ------
    ValueError
        Names or shapes are another network's.
    """
    held = {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in weights.items()}
    try:
        network.load_state_dict(held)
    except RuntimeError as error:
        told = [line.strip() for line in str(error).splitlines()]
        raise ValueError(" ".join(told[:2])) from error  # the first line alone says no more than that it failed
