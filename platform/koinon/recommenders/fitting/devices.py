"""Where a network is trained."""

from __future__ import annotations

import torch

from koinon.errors import RecommenderError

__all__ = ["training_device"]


def training_device(name: str) -> torch.device:
    """Return the device that settings name.

    Raises
    ------
    RecommenderError
        K474 there is no such device here.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are served")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecommenderError(
            "K474", f"There is no device {name!r} here: {error}".rstrip(".") + ".", "Use auto, cpu or cuda."
        ) from error
    return device
