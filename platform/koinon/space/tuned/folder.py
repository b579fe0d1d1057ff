"""A tuned encoder on disk: what it was tuned from, how, and the tuned tensors, whole or not at all.

A folder holds ``tuned.json`` (the manifest) and ``tensors-<hash>.safetensors``. The tensors are written first under a
name of their own and the manifest is renamed onto the old one last. The pretrained weights are not copied: the manifest
names them and holds their hash.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as dump_arrays

from koinon.config import Config, write_atomically
from koinon.errors import SpaceError
from koinon.space.encoders import Encoder, open_encoder, parse_uri
from koinon.space.tuned.mapped import MappedNetwork
from koinon.space.tuned.network import network_over
from koinon.space.tuned.wording import CompressionConfig

__all__ = ["MANIFEST", "Manifest", "read_tuned", "save_tuned"]

MANIFEST = "tuned.json"
FORMAT = "koinon-tuned-3"


class Manifest(Config):
    """What stands in ``tuned.json``."""

    format: str = FORMAT
    base: str
    """URI of the pretrained model; a local path is absolute."""
    base_fingerprint: str
    """Hash of its weights, tokenizer and precision; other weights are refused."""
    config: CompressionConfig
    tensors: str
    """File of the tuned tensors."""
    sha256: str
    """Of that file."""
    data: str = ""
    """Fingerprint of what it was tuned on."""
    training: dict[str, Any] = Field(default_factory=dict)
    """How: settings, seed, steps, figures on validation."""


def save_tuned(
    network: MappedNetwork, folder: Path, *, data: str = "", training: dict[str, Any] | None = None
) -> Manifest:
    """Keep what is tuned; an older one in the folder is replaced.

    Parameters
    ----------
    network
        Not merged.
    folder
        Created where it does not exist.
    data, training
        For the record.

    Raises
    ------
    ResourceError
        K801 the disk is full or the folder cannot be written.
    """
    content = dump_arrays(cast(dict[str, NDArray[np.generic]], network.shared_state()))
    digest = hashlib.sha256(content).hexdigest()
    target = folder / f"tensors-{digest[:16]}.safetensors"
    manifest = Manifest(
        base=_absolute(network.uri),
        base_fingerprint=network.encoder.fingerprint,
        config=network.config,
        tensors=target.name,
        sha256=digest,
        data=data,
        training=training or {},
    )
    write_atomically(target, content)
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    for old in folder.glob("tensors-*.safetensors"):
        if old != target:
            old.unlink(missing_ok=True)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read ``tuned.json``. SpaceError K315 nothing is kept there, it is damaged, or of another format."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict) or raw.get("format") != FORMAT:
            written = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
            raise ValueError(f"its format is {written!r}, not {FORMAT!r}")
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SpaceError("K315", f"{path}: key `{key}`: {first['msg']}.", _AGAIN) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpaceError("K315", f"No tuned encoder can be read from {path}: {reason}.", _AGAIN) from error


def read_tuned(folder: Path, *, base: str | None = None, device: str = "cpu") -> tuple[MappedNetwork, Manifest]:
    """Bring back what :func:`save_tuned` kept, ready to be trained further.

    Parameters
    ----------
    folder
        Of :func:`save_tuned`.
    base
        Where the pretrained model lies on this machine; ``None``: where it lay when the folder was written.
    device
        A torch device.

    Raises
    ------
    SpaceError
        K315 no manifest that can be read, K316 tensors that are damaged or do not fit, K317 other pretrained weights;
        K300-K306, K331 as for encoders and LoRA.
    """
    manifest = read_manifest(folder)
    encoder = _base(manifest, base, device, folder)
    network = network_over(encoder, manifest.config)
    _adopt(network, folder, manifest)
    return network, manifest


def _base(manifest: Manifest, base: str | None, device: str, folder: Path) -> Encoder:
    try:
        encoder = open_encoder(base or manifest.base, device=device)
    except SpaceError as error:
        if error.code != "K302" or base is not None:
            raise
        raise SpaceError(
            "K302",
            error.message,
            f"Say where the model lies: `tuned:{folder}?base=gguf:<file>` or `?base=hf:<folder>`.",
        ) from error
    if encoder.fingerprint != manifest.base_fingerprint:
        raise SpaceError(
            "K317",
            f"{folder} was tuned on other weights, another tokenizer or another precision than those of "
            f"`{base or manifest.base}`.",
            "Name the model it was tuned on, with the same options, or tune again.",
        )
    return encoder


def _adopt(network: MappedNetwork, folder: Path, manifest: Manifest) -> None:
    path = folder / Path(manifest.tensors).name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.sha256:
            raise ValueError("it does not have the hash it was written with")
        network.load_shared(load_arrays(content))
    except (OSError, ValueError, SafetensorError, SpaceError) as error:
        reason = error.message if isinstance(error, SpaceError) else getattr(error, "strerror", None) or error
        raise SpaceError("K316", f"The tuned tensors {path} cannot be used: {reason}", _AGAIN) from error


def _absolute(uri: str) -> str:
    """The same name with a local path made absolute."""
    parsed = parse_uri(uri)
    path = Path(parsed.target).expanduser()
    if not parsed.target or not path.exists():
        return uri
    _, mark, query = uri.partition("?")
    return f"{parsed.scheme}:{path.resolve()}{mark}{query}"


_AGAIN = "Copy the folder again, or tune again."
