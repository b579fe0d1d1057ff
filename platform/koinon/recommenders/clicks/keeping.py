"""Click networks on disk: settings and what they belong to as JSON, weights as safetensors, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from koinon.config import write_atomically
from koinon.errors import ConfigError, RecommenderError
from koinon.recommenders.clicks.models import NETWORKS, NetworkClicks
from koinon.recommenders.clicks.rows import ClickData

__all__ = ["load_clicks", "save_clicks"]

FORMAT = 1
DESCRIPTION, WEIGHTS = "clicks.json", "clicks.safetensors"


def save_clicks(model: NetworkClicks, folder: Path, data: ClickData) -> None:
    """Keep a fitted network; the language model of an alignment is no part of it.

    Raises
    ------
    RecommenderError
        K400 not fitted.
    ResourceError
        K801 the folder cannot be written.
    """
    content = dump_tensors({name: value.contiguous().cpu() for name, value in model.network.state_dict().items()})
    write_atomically(folder / WEIGHTS, content)
    config = model.config.model_dump(mode="json")
    said = {"format": FORMAT, "name": model.name, "config": config, "data": data.fingerprint}
    write_atomically(folder / DESCRIPTION, json.dumps(said, indent=2) + "\n")


def load_clicks(folder: Path, data: ClickData) -> NetworkClicks:
    """Bring back what :func:`save_clicks` kept.

    Raises
    ------
    RecommenderError
        K410 nothing is kept there, it is damaged, or of another network; K411 of an unknown kind; K412 fitted on
        other data.
    """
    path = folder / DESCRIPTION
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        name, written, owner, config = (said[key] for key in ("name", "format", "data", "config"))
        if written != FORMAT or name not in NETWORKS:
            raise RecommenderError(
                "K411", f"{path} holds a click model {name!r} in format {written!r}.", "Use the version that wrote it."
            )
        if owner != data.fingerprint:
            raise RecommenderError("K412", f"{path} was fitted on other data than {data.name}.", "Fit it again.")
        kind = NETWORKS[name]
        model = kind(kind.config_type.from_dict(config, source=str(path)))
        model.adopt(data, load_tensors((folder / WEIGHTS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ConfigError) as error:
        raise RecommenderError("K410", f"No click model can be read from {path}: {error}.", "Fit it again.") from error
    return model
