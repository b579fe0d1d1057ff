"""A decoder with LoRA in its last blocks, beside the decoder it was made of, which stays as it is.

The blocks below are frozen, so what they make of a prompt never changes: it is computed once (:meth:`begin`) and kept,
and every step and every question costs the tuned blocks alone.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from koinon.errors import RecommenderError, SpaceError
from koinon.space.adapters import load_tensors, tensors_of
from koinon.space.batches import by_length, tokens_at_once
from koinon.space.language import LanguageModel
from koinon.space.lora import LoraSettings

__all__ = ["LowRankDecoder"]

Done = Callable[[int, int], None]


class LowRankDecoder:
    """LoRA (Hu et al. 2021, by peft) in copies of a decoder's last blocks.

    Parameters
    ----------
    model
        Is not changed.
    settings
        Rank, scale, names of layers, seed.
    layers
        How many blocks are tuned, counted from the end; ``None`` or more than there are: all. A decoder whose blocks
        do not stand in a list called ``layers`` with a ``norm`` after it is tuned as a whole.

    Attributes
    ----------
    parts
        The tuned parameters alone, as a module.

    Raises
    ------
    RecommenderError
        K485 it has no layers of those names.
    SpaceError
        K301 peft is not installed.
    """

    def __init__(self, model: LanguageModel, settings: LoraSettings, layers: int | None = None) -> None:
        if importlib.util.find_spec("peft") is None:
            raise SpaceError("K301", "LoRA needs peft.", "`pip install 'koinon[hf]'`.")
        from peft import LoraConfig, get_peft_model

        self.model = model
        decoder = model.network.get_decoder()
        blocks = list(decoder.layers) if hasattr(decoder, "layers") and hasattr(decoder, "norm") else None
        self._below = 0 if blocks is None or layers is None else max(0, len(blocks) - layers)
        self._blocks = blocks
        if blocks is None:
            own = copy.deepcopy(model.network)
        else:
            copies = [copy.deepcopy(block) for block in blocks[self._below :]]
            own = _with_blocks(model.network, copies, self._below)
        targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
        try:
            with torch.random.fork_rng(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # peft on tied heads, and on an attribute's former name
                torch.manual_seed(settings.seed)
                self._tuned: Any = get_peft_model(
                    own,
                    LoraConfig(
                        r=settings.rank,
                        lora_alpha=settings.alpha,
                        lora_dropout=settings.dropout,
                        target_modules=targets,
                    ),
                )
        except ValueError as error:
            raise RecommenderError(
                "K485", f"`{model.uri}` holds no layers {settings.targets}: {error}", "Name layers that it has."
            ) from error
        self._tuned.eval()
        self.parts = _Parts(self._tuned)

    @property
    def parameters(self) -> int:
        """How many are tuned."""
        return sum(parameter.numel() for parameter in self.parts.parameters())

    def begin(self, prompts: Sequence[NDArray[np.int64]], on_done: Done | None = None) -> list[Tensor]:
        """What the frozen blocks make of each prompt's tokens: ``[tokens, width]``, at the decoder's own precision."""
        network, device = self.model.network, self.model.device
        below = None
        if self._below and self._blocks is not None:
            below = _with_blocks(network, self._blocks[: self._below], 0).get_decoder()
            below.norm = nn.Identity()
        found: list[Tensor] = [torch.empty(0)] * len(prompts)
        done = 0
        with torch.no_grad():
            for batch in by_length([len(prompt) for prompt in prompts], tokens_at_once(str(device))):
                ids = _padded([torch.from_numpy(prompts[place]) for place in batch]).to(device)
                if below is None:
                    states = network.get_input_embeddings()(ids)
                else:
                    states = below(input_ids=ids, use_cache=False).last_hidden_state
                for place, row in zip(batch, states, strict=True):
                    found[place] = row[: len(prompts[place])].clone()
                done += len(batch)
                if on_done is not None:
                    on_done(done, len(prompts))
        return found

    def next(self, begun: Sequence[Tensor]) -> Tensor:
        """``float32[prompts, vocabulary]``: logits of what follows each prompt; differentiable in :attr:`parts`."""
        lengths = torch.tensor([len(states) for states in begun])
        last, which = torch.unique(lengths - 1, return_inverse=True)
        logits = self._tuned(
            inputs_embeds=_padded(begun), use_cache=False, logits_to_keep=last.to(self.model.device)
        ).logits  # rows are padded on the right, which no earlier token sees
        chosen: Tensor = logits[torch.arange(len(begun)), which].float()
        return chosen

    def margins(self, begun: Sequence[Tensor], yes: int, no: int) -> NDArray[np.float32]:
        """How much likelier one answer is than the other, ``float32[prompts]``: differences of log-probabilities."""
        found = np.zeros(len(begun), dtype=np.float32)
        with torch.no_grad():
            for batch in by_length([len(states) for states in begun], tokens_at_once(str(self.model.device))):
                logits = self.next([begun[place] for place in batch])
                found[batch] = (logits[:, yes] - logits[:, no]).cpu().numpy()
        return found

    def language_model(self) -> LanguageModel:
        """The tuned decoder as a language model, which reads what questions share once; it follows the tuning."""
        tuned = LanguageModel(self.model.files)
        own = self._tuned.get_base_model()
        if self._blocks is not None:
            blocks = [*self._blocks[: self._below], *own.get_decoder().layers]
            own = _with_blocks(self.model.network, blocks, 0)
        tuned.network = own.eval()
        return tuned

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the tuned parameters."""
        return tensors_of(self.parts, self.parts.names)

    def load(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Take :meth:`state` of an equal one back. SpaceError K330 for other names, shapes or values not finite."""
        load_tensors(self.parts, self.parts.names, state)


class _Parts(nn.Module):
    """The tuned parameters by name; its mode is that of the whole network, so that dropout follows."""

    def __init__(self, tuned: nn.Module) -> None:
        super().__init__()
        self._whole = [tuned]  # in a list, so that the frozen parameters are no part of this module
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)

    @property
    def names(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted(name for name, _ in self.named_parameters()))

    def train(self, mode: bool = True) -> _Parts:
        """Set the mode of all that is tuned."""
        self._whole[0].train(mode)
        return super().train(mode)


def _with_blocks(network: Any, blocks: Sequence[nn.Module], first: int) -> Any:
    """The network over other blocks, those from the ``first`` on; everything else is the same, nothing is copied."""
    decoder = _shallow(network.get_decoder())
    whole = _shallow(network)
    config = copy.copy(decoder.config)
    config.num_hidden_layers = len(blocks)
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = list(config.layer_types)[first : first + len(blocks)]
    decoder.config = config
    decoder.layers = nn.ModuleList(blocks)
    if whole.config is network.get_decoder().config:
        whole.config = config
    name = next(name for name, module in network.named_children() if module is network.get_decoder())
    setattr(whole, name, decoder)
    return whole


def _shallow(module: Any) -> Any:
    found = copy.copy(module)
    found._modules = dict(module._modules)
    return found


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
