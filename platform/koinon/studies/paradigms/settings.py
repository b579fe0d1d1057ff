"""Which settings an arm runs with: kept ones, those that validation chose under one budget for all, or its defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from koinon.config import Config
from koinon.errors import ConfigError
from koinon.recommenders import tuning
from koinon.recommenders.training import config_type
from koinon.space import Space
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.data import PROTOCOLS, DataSpec, Prepared

__all__ = ["Chosen", "choose", "kept_settings"]

FAMILIES: Mapping[str, Callable[[int], tuning.Family]] = {
    "popularity": lambda seed: tuning.PopularityFamily(),
    "itemknn": lambda seed: tuning.ItemKNNFamily(),
    "ease": lambda seed: tuning.EaseFamily(),
    "semantic-ease": lambda seed: tuning.SemanticEaseFamily(),
    "ials": tuning.IALSFamily,
    "bpr": tuning.BPRFamily,
}


@dataclass(frozen=True)
class Chosen:
    """Settings and where they come from.

    Attributes
    ----------
    config
        Of the recommender.
    origin
        ``kept``: from the settings folder; ``tuned``: on validation, ``trials`` of them; ``stated``: the arm's own.
    """

    config: Config
    origin: Literal["kept", "tuned", "stated"]
    trials: int = 0


def kept_settings(arm: Arm, spec: DataSpec, protocol: str, folder: Path | None) -> dict[str, Any] | None:
    """What a settings folder holds for an arm: ``<name>.toml``, ``<base>-<division>.toml``, then ``<base>.toml``.

    Raises
    ------
    ConfigError
        K102 a file is not valid TOML.
    """
    if folder is None or not arm.kept_as:
        return None
    division = next(short for short, long in PROTOCOLS.items() if long == protocol)
    for stem in dict.fromkeys((spec.name, f"{spec.base}-{division}", spec.base)):
        path = folder / f"{stem}.toml"
        if path.is_file():
            try:
                table: dict[str, Any] | None = tomllib.loads(path.read_text(encoding="utf-8")).get(arm.kept_as)
            except tomllib.TOMLDecodeError as error:
                raise ConfigError("K102", f"{path} is not valid TOML: {error}.", "Mend the line it names.") from error
            if table is not None:
                return table
    return None


def choose(
    arm: Arm,
    prepared: Prepared,
    space: Space | None,
    *,
    kept: Mapping[str, Any] | None,
    stated: Mapping[str, Any],
    budget: int,
    journal: Path,
) -> Chosen:
    """Settle an arm's settings; trials that ``journal`` holds are not run again.

    Parameters
    ----------
    arm, prepared, space
        Whose, on what, and what it reads texts with.
    kept
        Of :func:`kept_settings`.
    stated
        The arm's own, completed by the study.
    budget
        Trials on validation at most; 0: none.
    journal
        Folder of finished trials.

    Raises
    ------
    ConfigError
        K103 a setting that the recommender does not take.
    """
    assert arm.recommender is not None
    kind = config_type(arm.recommender)
    if kept is not None:
        return Chosen(kind.from_dict({**stated, **kept}, source=f"settings of {arm.name}"), "kept")
    if arm.tunable and budget and arm.recommender in FAMILIES:
        family = FAMILIES[arm.recommender](0)
        found = tuning.tune(
            [family], prepared.split, space, rng=np.random.default_rng(0), budget=budget, journal=journal
        )
        return Chosen(found.config, "tuned", found.trials.height)
    return Chosen(kind.from_dict(dict(stated), source=f"settings of {arm.name}"), "stated")
