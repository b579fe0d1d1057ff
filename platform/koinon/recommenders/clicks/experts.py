"""KAR's hybrid-expert adaptor (Xi et al. 2023, arXiv 2306.10933, section 3.3): vectors of knowledge become fields.

What is said of people and what is said of items differ in kind and have something in common. Each is a mixture of its
own experts and of shared ones; the mixture's weights depend on the vector itself.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from koinon.recommenders.clicks._config import ExpertsConfig

__all__ = ["HybridExperts"]

Float = NDArray[np.float32]


class HybridExperts(nn.Module):
    """``[rows, fields, width]``: a field for what is said of the person, and one for what is said of the item.

    Where nothing is said the field is zero. Columns are brought to mean 0 and deviation 1 over what is said.

    Parameters
    ----------
    config
        How many experts, how wide.
    people, items
        ``float32[n, d]`` each, or ``None``: no such field.
    width
        Of a field.
    """

    def __init__(self, config: ExpertsConfig, people: Float | None, items: Float | None, width: int) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.ModuleDict()
        self.own = nn.ModuleDict()
        self.gates = nn.ModuleDict()
        dimension = 0
        for name, told in (("of_people", people), ("of_items", items)):
            if told is None:
                continue
            if dimension not in (0, told.shape[1]):
                raise ValueError("people and items must be told in vectors of one length")
            dimension = told.shape[1]
            said = (told != 0).any(axis=1)
            even = np.zeros_like(told, dtype=np.float32)
            if said.any():
                spread = told[said].std(axis=0)
                even[said] = (told[said] - told[said].mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
            self.register_buffer(f"{name}_told", torch.from_numpy(even), persistent=False)
            self.register_buffer(f"{name}_said", torch.from_numpy(said), persistent=False)
            self.own[name] = nn.ModuleList(_expert(dimension, config.hidden, width) for _ in range(config.own))
            self.gates[name] = nn.Linear(dimension, config.shared + config.own)
        self.shared["all"] = nn.ModuleList(_expert(dimension, config.hidden, width) for _ in range(config.shared))

    @property
    def fields(self) -> int:
        """One or two."""
        return len(self.own)

    def forward(self, person: Tensor, item: Tensor, stranger: Tensor | None = None) -> Tensor:
        """Return ``[rows, fields, width]``; of a ``stranger``, ``bool[rows]``, nothing is said."""
        places = {"of_people": person, "of_items": item}
        found = []
        for name in self.own:
            said = getattr(self, f"{name}_said")[places[name]]
            if name == "of_people" and stranger is not None:
                said = said & ~stranger
            found.append(self._mixed(name, getattr(self, f"{name}_told")[places[name]]) * said[:, None])
        return torch.stack(found, dim=1)

    def _mixed(self, name: str, told: Tensor) -> Tensor:
        told = F.dropout(told, self.config.dropout, self.training)
        gate = torch.softmax(self.gates[name](told), dim=1)
        experts = [*self.shared["all"], *self.own[name]]  # type: ignore[misc]
        mixed: Tensor = (torch.stack([expert(told) for expert in experts], dim=1) * gate[:, :, None]).sum(1)
        return mixed


def _expert(dimension: int, hidden: int, width: int) -> nn.Module:
    last = nn.Linear(hidden, width)
    nn.init.normal_(last.weight, std=0.01)  # as small as the other fields begin
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(dimension, hidden), nn.ReLU(), last)
