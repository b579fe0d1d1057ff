"""LoRA inside a transformer encoder: the low-rank parts are shared, the pretrained weights stay as they are."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.errors import SpaceError
from koinon.space.adapters import load_tensors, tensors_of
from koinon.space.encoders import Encoder, Progress
from koinon.space.transformer import TransformerEncoder

__all__ = ["LoraEncoder", "LoraSettings", "with_lora"]

_POOLER = r"(?:.*\.)?pooler(?:\..*)?"
_BLOCK = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


class LoraSettings(Config):
    """What is tuned, and how much."""

    rank: int = Field(default=8, ge=1, le=256)
    """Rank of every update."""
    alpha: int = Field(default=16, ge=1)
    """Updates are scaled by ``alpha / rank``."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout before the low-rank part while training."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers to tune, or ``all-linear``."""
    first_layer: int = Field(default=0, ge=0)
    """Layers below it are not tuned; without gradients they cost half. Needs ``targets = "all-linear"``."""
    seed: int = 0
    """Of the initial low-rank parts; partners of one federation start from the same."""


def with_lora(network: torch.nn.Module, settings: LoraSettings, *, named: str) -> torch.nn.Module:
    """Put LoRA inside a network, in place, and return peft's wrapper of it, in evaluation mode.

    Raises
    ------
    SpaceError
        K301 peft is not installed, K331 the network has no such layers.
    """
    if importlib.util.find_spec("peft") is None:
        raise SpaceError("K301", "LoRA needs peft.", "`pip install 'koinon[hf]'`.")
    from peft import LoraConfig, get_peft_model

    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    if settings.first_layer:
        targets = _linear_from(network, settings.first_layer)
    pooled = any(re.fullmatch(_POOLER, name) for name, _ in network.named_modules())
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute by its former name
            torch.manual_seed(settings.seed)
            tuned: torch.nn.Module = get_peft_model(
                network,
                LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.alpha,
                    lora_dropout=settings.dropout,
                    target_modules=targets,
                    exclude_modules=_POOLER if pooled else None,  # text vectors are not made of it
                ),
            )
    except ValueError as error:
        wanted = f"from layer {settings.first_layer} on" if settings.first_layer else settings.targets
        raise SpaceError("K331", f"`{named}` holds no layers {wanted}: {error}", "Name layers that it has.") from error
    return tuned.eval()


def _linear_from(network: torch.nn.Module, first: int) -> list[str]:
    """Names of the linear layers in a network's blocks from number ``first`` on."""
    linear = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    numbered = [(name, _BLOCK.search(name)) for name in linear]
    return [name for name, found in numbered if found is not None and int(found[1]) >= first]


class LoraEncoder:
    """An ``hf:`` or ``gguf:`` encoder with LoRA inside (Hu et al. 2021, arXiv 2106.09685, by peft).

    At the start its vectors equal the encoder's. The wrapped encoder's network is changed in place: open another for
    the untuned vectors. The fingerprint follows the parameters, so make a new :class:`koinon.space.CachedSpace` after
    every update.

    Parameters
    ----------
    encoder
        From :func:`koinon.space.open_encoder`.
    settings
        Rank, scale, layers, seed.

    Raises
    ------
    SpaceError
        K301 peft is not installed, K331 the encoder has no layers to tune.
    """

    def __init__(self, encoder: Encoder, settings: LoraSettings | None = None) -> None:
        if not isinstance(encoder, TransformerEncoder):
            raise SpaceError("K331", f"Encoder `{encoder.uri}` has no LoRA.", "Open an `hf:` or `gguf:` encoder.")
        self.network: torch.nn.Module = with_lora(encoder.model, settings or LoraSettings(), named=encoder.uri)
        self._encoder = encoder

    @property
    def uri(self) -> str:
        """The encoder's name."""
        return self._encoder.uri

    @property
    def device(self) -> str:
        """The torch device."""
        return self._encoder.device

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._encoder.dimension

    @property
    def fingerprint(self) -> str:
        """Hash of the encoder's fingerprint and the low-rank parameters as they are now."""
        digest = hashlib.sha256(self._encoder.fingerprint.encode())
        for name, tensor in self.shared_state().items():
            digest.update(name.encode() + tensor.tobytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        return self._encoder.encode_by(self.network, texts, progress)

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """``float32[texts, dimension]`` of norm 1, differentiable in the shared parameters; one batch."""
        return self._encoder.vectors_by(self.network, texts)

    def shared_names(self) -> tuple[str, ...]:
        """Names of the tuned parameters, sorted; everything else is frozen and equal at all partners."""
        return tuple(sorted(name for name, parameter in self.network.named_parameters() if parameter.requires_grad))

    def shared_state(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the tuned parameters."""
        return tensors_of(self.network, self.shared_names())

    def load_shared(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Adopt tuned parameters of a release. SpaceError K330 for other names, shapes or values not finite."""
        load_tensors(self.network, self.shared_names(), state)
