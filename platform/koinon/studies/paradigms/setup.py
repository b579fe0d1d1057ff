"""What a study must know of a data set before any arm meets it; found out once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

from koinon.config import write_atomically
from koinon.data import Vault
from koinon.evaluation import Chance, evaluate
from koinon.studies.paradigms.arms import ARMS, Need
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.data import DataSpec, Prepared, open_data, parse_spec
from koinon.studies.paradigms.settings import kept_settings

__all__ = ["Setup", "set_up"]


@dataclass(frozen=True)
class Setup:
    """One data set in a plan.

    Attributes
    ----------
    text, name
        As asked for; as the report names it.
    fingerprint
        Of events and division.
    offers
        What arms may need of data.
    language
        Of most items.
    kept
        Arm to what the settings folder holds for it.
    facts
        For the report.
    """

    text: str
    name: str
    fingerprint: str
    offers: frozenset[Need]
    language: str
    kept: Mapping[str, Mapping[str, Any] | None]
    facts: Mapping[str, Any]


def set_up(text: str, study: StudyConfig, out: Path) -> Setup:
    """Open a data set once and keep what is true of it in ``out/data/<name>.json``.

    Raises
    ------
    ConfigError, DataError
        As :func:`parse_spec` and :func:`koinon.studies.paradigms.data.open_data`.
    """
    spec = parse_spec(text)
    path, key = out / "data" / f"{spec.name}.json", _key(spec, study)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = found if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found is None:
        found = {"key": key, **_look(open_data(spec, study), study)}
        write_atomically(path, json.dumps(found, indent=1) + "\n")
    return Setup(
        text,
        spec.name,
        found["fingerprint"],
        frozenset(cast(list[Need], found["offers"])),
        found["language"],
        {name: kept_settings(arm, spec, found["facts"]["protocol"], study.settings) for name, arm in ARMS.items()},
        found["facts"],
    )


def _key(spec: DataSpec, study: StudyConfig) -> str:
    """Changes whenever the data set may be another one."""
    source = spec.source if spec.source == spec.base else Vault.open(Path(spec.source)).fingerprint()
    parts = (version("koinon"), spec, source, study.max_items, study.max_users, study.cold_items, study.k)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _look(prepared: Prepared, study: StudyConfig) -> dict[str, Any]:
    offers: list[Need] = ["order"] if prepared.ordered else []
    if prepared.split.train.events.time is not None:
        offers.append("times")
    if prepared.clicks is not None:
        offers.append("labels")
    test, known = prepared.split.test, prepared.known
    chance = evaluate(
        Chance().fit(known, None, rng=np.random.default_rng(0)), known, test, k=study.k, slices=("cold_among_cold",)
    ).mean(slice_="cold_among_cold")
    languages = known.items["language"].drop_nulls().value_counts(sort=True)
    return {
        "fingerprint": prepared.fingerprint,
        "offers": offers,
        "language": languages.row(0)[0] if languages.height else "en",
        "facts": {
            "source": prepared.spec.base,
            "protocol": prepared.protocol,
            "users": known.n_users,
            "items": known.n_items,
            "events": len(prepared.split.events),
            "test_users": int((test.main & (np.diff(test.target_indptr) > 0)).sum()),
            "cold_items": int((known.item_counts == 0).sum()),
            "chance_among_cold": chance if np.isfinite(chance) else None,
        },
    }
