"""What recommenders that stand on another share: the one that their settings name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from koinon.errors import RecommenderError
from koinon.recommenders.store import REGISTRY, Storable

__all__ = ["build_base"]


def build_base(name: str, settings: Mapping[str, Any], among: tuple[str, ...] | None = None) -> Storable:
    """Return the unfitted recommender of that name.

    Raises
    ------
    RecommenderError
        K488 there is none of that name, or not ``among`` those that can be used.
    ConfigError
        K103 one of its settings is wrong.
    """
    known = among or tuple(REGISTRY)
    if name not in known:
        raise RecommenderError("K488", f"The recommender {name!r} cannot be used here.", f"Use {', '.join(known)}.")
    module, _, kind = REGISTRY[name].partition(":")
    build: Any = getattr(import_module(module), kind)
    return cast(Storable, build(build.config_type.from_dict(dict(settings), source="base_settings")))
