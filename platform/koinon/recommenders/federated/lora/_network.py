"""The encoder with two LoRAs in every layer, one shared and one private, and the space it makes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.errors import RecommenderError
from koinon.recommenders.federated.lora._config import FederatedLoraConfig
from koinon.recommenders.federated.lora._plan import UP
from koinon.space import CachedSpace, Space, open_encoder
from koinon.space.lora import LoraSettings
from koinon.space.transformer import TransformerEncoder
from koinon.space.tuned import CompressionConfig, TextNetwork

__all__ = ["PRIVATE", "AdaptedSpace", "TwoLoras", "open_two_loras"]

PRIVATE = "private/"
"""What the names of private parameters begin with in what a partner keeps."""

_SHARED_DOWN, _SHARED_UP = ".lora_A.default.", ".lora_B.default."
_OWN = ".private."
_UNUSED = ".pooler."
"""A layer of some encoder models that no text's vector comes from."""

Floats = NDArray[np.float32]


class TwoLoras:
    """A text network whose layers hold ``B A`` (shared ``B``, common ``A``) and ``B' A'`` (private).

    Parameters
    ----------
    encoder
        Freshly opened: its network is changed in place.
    config
        As the federation has agreed.
    seed
        The federation's: partners draw the same ``A``.

    Attributes
    ----------
    network
        What :class:`koinon.recommenders.serial.notellm.PairLearner` tunes.
    size
        Entries of the shared tensor.
    """

    def __init__(self, encoder: TransformerEncoder, config: FederatedLoraConfig, seed: int) -> None:
        lora = LoraSettings(rank=config.rank, alpha=config.alpha, first_layer=config.first_layer, seed=seed)
        self.network = TextNetwork(
            encoder, CompressionConfig(text_tokens=config.text_tokens, dimension=None, lora=lora)
        )
        self._names = ["default"]
        if config.private_rank:
            self._add_private(config, seed)
        parameters = dict(self.network.named_parameters())
        for name in sorted(name for name in parameters if _SHARED_DOWN in name):
            drawn = orthonormal_rows(tuple(parameters[name].shape), seed, name)
            with torch.no_grad():
                parameters[name].copy_(torch.from_numpy(drawn))
        self._ups = [name for name in sorted(parameters) if _SHARED_UP in name and _UNUSED not in name]
        for name, value in parameters.items():
            value.requires_grad_(name in self._ups or (_OWN in name and _UNUSED not in name))
        self.network.eval()
        self.size = sum(parameters[name].numel() for name in self._ups)

    def _add_private(self, config: FederatedLoraConfig, seed: int) -> None:
        from peft import LoraConfig

        tuned: Any = self.network.tuned
        targets = tuned.peft_config["default"].target_modules
        beside = LoraConfig(
            r=config.private_rank,
            lora_alpha=config.alpha * config.private_rank // config.rank or 1,
            target_modules=targets,
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft on a second adapter
            torch.manual_seed(seed + 1)
            tuned.add_adapter("private", beside)
        self._names.append("private")
        tuned.base_model.set_adapter(self._names)

    def _parameters(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.network.named_parameters())

    @property
    def up(self) -> Floats:
        """``float32[size]``: the shared tensor, a copy."""
        held = self._parameters()
        return np.concatenate([held[name].detach().cpu().float().numpy().ravel() for name in self._ups])

    def load_up(self, values: NDArray[np.generic]) -> None:
        """Take a release's shared tensor.

        Raises
        ------
        RecommenderError
            K462 it has another length, K463 it is not finite.
        """
        if values.shape != (self.size,):
            raise RecommenderError(
                "K462",
                f"The release's {UP} has the shape {values.shape}, this encoder's {(self.size,)}.",
                "Are all partners on one version and one encoder?",
            )
        if not np.isfinite(values.astype(np.float64)).all():
            raise RecommenderError("K463", f"The release's {UP} is not finite.", "Ask for an earlier release.")
        held, begin = self._parameters(), 0
        with torch.no_grad():
            for name in self._ups:
                size = held[name].numel()
                part = values[begin : begin + size].astype(np.float32).reshape(tuple(held[name].shape))
                held[name].copy_(torch.from_numpy(part))
                begin += size

    def products(self) -> dict[str, Floats]:
        """``B A`` of every layer's shared part, ``float32[out, in]``, not scaled."""
        held = self._parameters()
        found = {}
        for name in self._ups:
            down = held[name.replace("lora_B", "lora_A")].detach()
            found[name] = (held[name].detach() @ down).cpu().numpy()
        return found

    def private(self) -> dict[str, Floats]:
        """Copies of the private parameters, by names that begin with :data:`PRIVATE`."""
        return {
            PRIVATE + name: value.detach().cpu().float().numpy().copy()
            for name, value in self._parameters().items()
            if _OWN in name and _UNUSED not in name
        }

    def load_private(self, kept: Mapping[str, NDArray[np.generic]]) -> None:
        """Take :meth:`private` back; what is not among it stays as it is."""
        with torch.no_grad():
            for name, value in self._parameters().items():
                if PRIVATE + name in kept:
                    value.copy_(torch.from_numpy(np.asarray(kept[PRIVATE + name], dtype=np.float32)))

    def only_private(self) -> None:
        """Hold the shared part still: what is trained from now on is private."""
        held = self._parameters()
        for name in self._ups:
            held[name].requires_grad_(False)

    def read_with(self, *, private: bool) -> None:
        """Whether texts are read with the private part too."""
        tuned: Any = self.network.tuned
        before = {name: value.requires_grad for name, value in self._parameters().items()}
        tuned.base_model.set_adapter(self._names if private else ["default"])
        for name, value in self._parameters().items():
            value.requires_grad_(before[name])


class AdaptedSpace:
    """A :class:`koinon.space.Space`: the encoder as it came and as it was tuned, their cosines mixed.

    A vector is ``(√(1-mix) · frozen, √mix · tuned)``, so that a cosine is ``(1-mix)`` of the one and ``mix`` of the
    other. What people type is not remembered, what :meth:`read` is given is.

    Parameters
    ----------
    frozen
        The space as it came.
    opens
        Opens the tuned encoder when the first text asks for it; ``None`` where ``mix`` is 0.
    mix
        0 to 1.
    """

    def __init__(self, frozen: Space, opens: Callable[[], TwoLoras] | None, mix: float) -> None:
        self._frozen, self._opens = frozen, opens
        self.mix = mix if opens is not None else 0.0
        self._loras: list[TwoLoras] = []
        self.known: dict[str, Floats] = {}

    @property
    def loras(self) -> TwoLoras:
        """The tuned encoder."""
        assert self._opens is not None
        if not self._loras:
            self._loras.append(self._opens())
        return self._loras[0]

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._frozen.dimension + (self.loras.network.dimension if self.mix else 0)

    @property
    def fingerprint(self) -> str:
        """Hash of the frozen encoder, what is tuned, and the mixture."""
        digest = hashlib.sha256(f"{self._frozen.fingerprint} {self.mix}".encode())
        if self.mix:
            digest.update(self.loras.network.fingerprint.encode())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1; nothing is remembered."""
        frozen = self._frozen
        plain = frozen.encode(texts, remember=False) if isinstance(frozen, CachedSpace) else frozen.encode(texts)
        if not self.mix:
            return plain
        return self._joined(plain, self._tuned(texts))

    def read(self, texts: Sequence[str]) -> Floats:
        """:meth:`encode` for a catalogue: no text is read twice."""
        plain = np.asarray(self._frozen.encode(texts), dtype=np.float32)
        if not self.mix:
            return plain
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self._tuned(new), strict=True))
        return self._joined(plain, np.stack([self.known[text] for text in texts]))

    def mixed(self, mix: float) -> AdaptedSpace:
        """The same with another mixture; what was read is not read again."""
        other = AdaptedSpace(self._frozen, self._opens, mix)
        other.known, other._loras = self.known, self._loras
        return other

    def _tuned(self, texts: Sequence[str]) -> Floats:
        return self.loras.network.encode(texts)

    def _joined(self, plain: Floats, tuned: Floats) -> Floats:
        return np.hstack((np.sqrt(np.float32(1 - self.mix)) * plain, np.sqrt(np.float32(self.mix)) * tuned))


def open_two_loras(space: Space | None, config: FederatedLoraConfig, seed: int) -> TwoLoras:
    """Open a space's encoder anew and put the two LoRAs in.

    Raises
    ------
    RecommenderError
        K487 there is no space, or its encoder cannot be tuned.
    """
    uri = getattr(space, "uri", None)
    device = getattr(getattr(space, "encoder", None), "device", "cpu")
    encoder = None if uri is None else open_encoder(uri, device=device)
    if not isinstance(encoder, TransformerEncoder):
        raise RecommenderError(
            "K487",
            f"Federated LoRA tunes the federation's encoder; `{uri or 'none'}` cannot be tuned.",
            "Name `minilm-english`, an `hf:` or a `gguf:` model as the federation's encoder.",
        )
    return TwoLoras(encoder, config, seed)


def orthonormal_rows(shape: tuple[int, ...], seed: int, name: str) -> Floats:
    """``float32[rank, width]`` with orthonormal rows, drawn by seed and name; unit rows where rank exceeds width."""
    digest = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
    rank, width = shape
    drawn = rng.standard_normal((max(width, rank), min(width, rank)))
    found, triangle = np.linalg.qr(drawn)
    found *= np.where(np.diag(triangle) < 0, -1.0, 1.0)  # libraries differ in signs
    rows = found.T if rank <= width else found
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
