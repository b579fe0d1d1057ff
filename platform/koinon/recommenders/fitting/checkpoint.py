"""Checkpoints of a training: whole or not at all, known by what they belong to."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from koinon.config import write_atomically
from koinon.errors import RecommenderError

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT = "koinon-training-2"


def save_checkpoint(path: Path, state: dict[str, Any], fingerprint: str) -> None:
    """Keep a training's state: one line with the format, what it belongs to and its hash, then tensors and numbers.

    Raises
    ------
    ResourceError
        K801 the disk is full or the folder cannot be written; the older checkpoint stays.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    head = f"{FORMAT} {fingerprint} {hashlib.sha256(content).hexdigest()}\n"
    write_atomically(path, head.encode() + content)


def load_checkpoint(path: Path, fingerprint: str, device: torch.device) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` kept.

    Raises
    ------
    RecommenderError
        K471 it belongs to other settings, another seed or other data; K472 it cannot be read, is truncated or damaged.
    """
    try:
        head, _, content = path.read_bytes().partition(b"\n")
        written, owner, digest = head.decode("ascii").split(" ")
        if written != FORMAT:
            raise ValueError(f"its format is {written}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("it does not have the hash it was written with")
        if owner != fingerprint:
            raise RecommenderError(
                "K471",
                f"The checkpoint {path} belongs to a training with other settings, another seed or other data.",
                "Give the settings it was begun with, or another folder to begin anew.",
            )
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RecommenderError(
            "K472", f"The checkpoint {path} cannot be read: {error}.", "Remove it to begin anew."
        ) from error
    return state
