"""Encoders by name: the URI, its options, and what every encoder offers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from koinon.config import Config
from koinon.errors import SpaceError

__all__ = ["DEFAULT_ENCODER", "Encoder", "EncoderOptions", "EncoderUri", "Progress", "open_encoder", "parse_uri"]

DEFAULT_ENCODER = "use-multilingual"
PACKAGED = ("use-multilingual", "minilm-english")
SCHEMES = ("hf", "gguf", "tuned")
KNOWN = "Use `use-multilingual`, `minilm-english`, `hf:<name or folder>`, `gguf:<file>` or `tuned:<folder>`."

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` while texts are encoded."""

Pooling = Literal["mean", "cls", "last"]


class EncoderOptions(Config):
    """What a URI's query string may set: ``hf:name?pooling=last&max_length=256&prompt=Represent: {text}``."""

    pooling: Pooling | None = None
    """How token states become one vector; ``None``: as the folder says, else ``last`` for decoders, ``mean``."""
    prompt: str = "{text}"
    """Template around every text; must hold ``{text}`` once."""
    max_length: int | None = Field(default=None, ge=4, le=32768)
    """Tokens kept of a text; ``None``: as the model's folder says, at most 512."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights in memory; part of the fingerprint."""
    base: str | None = None
    """``tuned:`` only, its last option: where the pretrained model lies on this machine, as an encoder's name."""

    @field_validator("prompt")
    @classmethod
    def _holds_text_once(cls, prompt: str) -> str:
        if prompt.count("{text}") != 1:
            raise ValueError("the prompt must hold {text} exactly once")
        return prompt


class EncoderUri(NamedTuple):
    """A parsed encoder name."""

    scheme: str
    """``use-multilingual``, ``minilm-english``, ``hf``, ``gguf`` or ``tuned``."""
    target: str
    """Hub name, folder or file; empty for packaged encoders."""
    options: EncoderOptions


@runtime_checkable
class Encoder(Protocol):
    """Texts to unit vectors, without a memory; :class:`koinon.space.CachedSpace` adds one."""

    @property
    def uri(self) -> str:
        """The name it was opened by."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def device(self) -> str:
        """The torch device that new texts are encoded on."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights, tokenizer and every setting that changes a vector."""
        ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        ...


def parse_uri(uri: str) -> EncoderUri:
    """Split an encoder's name into scheme, target and options.

    Raises
    ------
    SpaceError
        K300 the name is unknown, K306 an option is unknown or out of range.
    """
    name, _, query = uri.strip().partition("?")
    scheme, colon, target = name.partition(":")
    packaged = scheme in PACKAGED and not colon
    if not packaged and (scheme not in SCHEMES or not target):
        raise SpaceError("K300", f"Unknown encoder `{uri}`.", KNOWN)
    query, _, base = query.partition("base=") if scheme == "tuned" else (query, "", "")
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    try:
        options = EncoderOptions.model_validate({**dict(pairs), **({"base": base} if base else {})})
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise SpaceError(
            "K306",
            f"Encoder `{uri}`: option `{option}`: {first['msg']} (value: {first.get('input')!r}).",
            "Options are pooling=mean|cls|last, prompt=…{text}…, max_length=4..32768, revision, dtype.",
        ) from error
    if options.model_fields_set - {"base"} if scheme == "tuned" else options.base is not None:
        raise SpaceError(
            "K306",
            f"Encoder `{uri}`: an option that it has not.",
            "`tuned:` has base=<encoder> alone, the others do not have it.",
        )
    return EncoderUri(scheme, target, options)


def open_encoder(uri: str = DEFAULT_ENCODER, *, device: str = "cpu") -> Encoder:
    """Open an encoder by name; weights are loaded when the first text comes.

    Parameters
    ----------
    uri
        ``use-multilingual``, ``minilm-english``, ``hf:<name or folder>[?…]``, ``gguf:<file>[?…]``,
        ``tuned:<folder>[?base=…]`` (:mod:`koinon.space.tuned`).
    device
        A torch device, e.g. ``cpu`` or ``cuda``.

    Raises
    ------
    SpaceError
        K300 unknown, K301 a package is missing, K302 no such model, K303 no tokenizer, K304 not an architecture
        that gives text vectors, K305 weights that cannot be read, K306 a wrong option, K315 no tuned encoder.
    """
    parsed = parse_uri(uri)
    if parsed.scheme == "use-multilingual":
        from koinon.space.use_multilingual import UseMultilingualEncoder

        return UseMultilingualEncoder(parsed.options, uri=uri, device=device)
    if parsed.scheme == "tuned":
        from koinon.space.tuned import open_tuned

        return open_tuned(parsed, uri, device)
    from koinon.space.transformer import TransformerEncoder, locate

    return TransformerEncoder(locate(parsed, uri), uri=uri, device=device)


def reopen(uri: str, device: str) -> Encoder:
    """Open an encoder again in another process (encoders travel as their name)."""
    return open_encoder(uri, device=device)


def hash_files(paths: Sequence[Path], *settings: object) -> str:
    """SHA-256 (hex) over the files' names and contents, in the order given, and the settings' ``repr``."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0".encode())
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    for setting in settings:
        digest.update(f"{setting!r}\0".encode())
    return digest.hexdigest()
