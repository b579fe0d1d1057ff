"""Which parameters of the network are shared; all others are private. This is the one place that says so."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

import torch
from torch import Tensor, nn

from koinon.recommenders.federated.hstu._config import FederatedHSTUConfig
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential.items import CodeItems, IdItems, ItemEncoder, SumItems, TextItems

__all__ = ["SHARED", "is_shared", "shared_part", "template"]

SHARED: Mapping[str, str] = MappingProxyType(
    {
        "positions": "what an event's place in a history adds",
        "blocks.*.project.weight": "a block's queries, keys, values and gates",
        "blocks.*.join.weight": "what a block adds to a row",
        "blocks.*.join.bias": "the same",
        "blocks.*.position_bias": "how far back a block looks, in events",
        "items.project.*": "from a text's place in the space to an item's vector",
        "items.parts.*.project.*": "the same, beside other kinds",
        "items.words": "what a code word of the federation's codebook stands for",
        "items.parts.*.words": "the same, beside other kinds",
    }
)
"""Names of shared parameters and what they are. What stands nowhere here is private: free vectors of a partner's items
(``items.vectors``), what tells its items of equal code words apart (``items.last``), biases by time and gaps (a second
means something else where films are rated and where music is heard, and some partners know no time), the target-aware
head."""


def is_shared(name: str) -> bool:
    """Whether a parameter is shared."""
    return any(fnmatchcase(name, pattern) for pattern in SHARED)


def shared_part(network: nn.Module) -> dict[str, Tensor]:
    """The shared parameters of a network by name, in its order."""
    return {name: value for name, value in network.named_parameters() if is_shared(name)}


def template(config: FederatedHSTUConfig, dimension: int, device: str = "cpu") -> HSTUNetwork:
    """A network over one item: its shared part is that of every partner's.

    Parameters
    ----------
    config
        As the federation has agreed.
    dimension
        Of the space; 0 where no texts are read.
    device
        ``meta``: shapes alone.
    """
    with torch.device(device):
        kinds: list[ItemEncoder] = []
        if "ids" in config.items:
            kinds.append(IdItems(1, config.width))
        if "texts" in config.items:
            kinds.append(TextItems(torch.zeros(1, dimension), config.width))
        if "codes" in config.items:
            with torch.device("cpu"):  # it reads its paths, which only real tensors have
                paths = torch.zeros((1, config.code_levels + 1), dtype=torch.int64)
                kinds.append(CodeItems(paths, config.code_words, config.width))
        return HSTUNetwork(config, kinds[0] if len(kinds) == 1 else SumItems(*kinds), timed=False)
