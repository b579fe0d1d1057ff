"""Recommenders on disk: settings as JSON, arrays as safetensors, whole or not at all.

A folder holds ``recommender.json`` (format, name, settings, what it was fitted on, the arrays' file and its hash) and
``arrays-<hash>.safetensors``. The arrays are written first under a name of their own and the JSON is renamed onto the
old one last, so that a crash at any time leaves the old recommender or the new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Protocol, Self, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as dump_arrays

from koinon.config import Config, write_atomically
from koinon.data import Domain
from koinon.errors import ConfigError, RecommenderError
from koinon.recommenders.protocol import Recommender
from koinon.space import Space

__all__ = ["FORMAT", "REGISTRY", "Storable", "catalogue_fingerprint", "load", "needs_space", "save"]

FORMAT = 1
DESCRIPTION = "recommender.json"

REGISTRY: dict[str, str] = {
    "popularity": "koinon.recommenders.conventional:Popularity",
    "itemknn": "koinon.recommenders.conventional:ItemKNN",
    "ease": "koinon.recommenders.conventional:EASE",
    "semantic-ease": "koinon.recommenders.conventional:SemanticEASE",
    "text-similarity": "koinon.recommenders.conventional:TextSimilarity",
    "ials": "koinon.recommenders.conventional:IALS",
    "bpr": "koinon.recommenders.conventional:BPR",
    "sasrec": "koinon.recommenders.sequential:SASRec",
    "hstu": "koinon.recommenders.sequential:HSTU",
    "generative": "koinon.recommenders.sequential:Generative",
    "notellm": "koinon.recommenders.serial.notellm:NoteLLM",
    "prompted": "koinon.recommenders.llm_as_rs.prompted:PromptedRanker",
    "unisrec": "koinon.recommenders.fusion.feature_encoder:UniSRec",
    "gated": "koinon.recommenders.fusion.scoring:Gated",
    "controller": "koinon.recommenders.fusion.controller:Controller",
    "tuned": "koinon.recommenders.llm_as_rs.tuned:TunedRanker",
    "deepfm": "koinon.recommenders.clicks.recommender:DeepFMRanker",
    "dcnv2": "koinon.recommenders.clicks.recommender:DCNv2Ranker",
    "autoint": "koinon.recommenders.clicks.recommender:AutoIntRanker",
    "asking": "koinon.recommenders.fusion.wishes:Asking",
    "kar": "koinon.recommenders.fusion.kar:KAR",
    "pseudo": "koinon.recommenders.fusion.pseudo:PseudoFeedback",
    "federated_popularity": "koinon.recommenders.federated.popularity:FederatedPopularity",
    "federated_gram": "koinon.recommenders.federated.gram:FederatedGram",
    "federated_adapters": "koinon.recommenders.federated.adapters:FederatedAdapters",
    "federated_hstu": "koinon.recommenders.federated.hstu:FederatedHSTU",
    "federated_lora": "koinon.recommenders.federated.lora:FederatedLora",
    "federated_codebook": "koinon.recommenders.federated.codebook:FederatedCodebook",
}
"""Name to ``module:Class`` of everything :func:`load` may build; nothing that a file names is imported otherwise."""


@runtime_checkable
class Storable(Recommender, Protocol):
    """A recommender that can be kept: settings, named arrays, and the way back."""

    config_type: ClassVar[type[Config]]

    @property
    def config(self) -> Config:
        """Its settings; the constructor takes them."""
        ...

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned, as named arrays."""
        ...

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned on ``domain``'s catalogue."""
        ...


def catalogue_fingerprint(domain: Domain) -> str:
    """SHA-256 (hex) over the catalogue's item ids in index order."""
    return hashlib.sha256("\n".join(domain.items["item_id"].to_list()).encode()).hexdigest()


def save(recommender: Recommender, folder: Path, domain: Domain, space: Space | None = None) -> None:
    """Keep a fitted recommender; an older one in the folder is replaced.

    Parameters
    ----------
    recommender
        One of :data:`REGISTRY`, fitted on ``domain`` (and ``space``).
    folder
        Created where it does not exist.
    domain, space
        What it was fitted on; only their fingerprints are kept.

    Raises
    ------
    RecommenderError
        K413 this kind cannot be kept.
    ResourceError
        K801 the disk is full or the folder cannot be written.
    """
    if not isinstance(recommender, Storable) or recommender.name not in REGISTRY:
        raise RecommenderError(
            "K413", f"A {type(recommender).__name__} cannot be kept.", f"Those that can: {', '.join(REGISTRY)}."
        )
    arrays = {name: np.ascontiguousarray(array) for name, array in recommender.state().items()}
    content = dump_arrays(cast(dict[str, NDArray[np.generic]], arrays))
    digest = hashlib.sha256(content).hexdigest()
    target = folder / f"arrays-{digest[:16]}.safetensors"
    description = {
        "format": FORMAT,
        "name": recommender.name,
        "config": recommender.config.model_dump(mode="json"),
        "domain": domain.name,
        "catalogue": catalogue_fingerprint(domain),
        "space": None if space is None else space.fingerprint,
        "arrays": target.name,
        "sha256": digest,
    }
    write_atomically(target, content)
    write_atomically(folder / DESCRIPTION, json.dumps(description, indent=2, sort_keys=True) + "\n")
    for old in folder.glob("arrays-*.safetensors"):
        if old != target:
            old.unlink(missing_ok=True)


def needs_space(folder: Path) -> bool:
    """Whether what is kept there was fitted with a semantic space; ``False`` where that cannot be read."""
    try:
        return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")).get("space") is not None
    except (OSError, ValueError, AttributeError):
        return False


def load(folder: Path, domain: Domain, space: Space | None = None) -> Recommender:
    """Bring back what :func:`save` kept.

    Raises
    ------
    RecommenderError
        K410 nothing is kept there, or it is damaged; K411 it was written by a newer version or is of an unknown kind;
        K412 it was fitted on another catalogue or another space.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        name, written = description["name"], description["format"]
        config, arrays = description["config"], folder / Path(description["arrays"]).name
        expected = {"catalogue": description["catalogue"], "space": description["space"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if written != FORMAT or name not in REGISTRY:
        raise RecommenderError(
            "K411",
            f"{path} holds a recommender {name!r} in format {written!r}; this version reads format {FORMAT}.",
            "Use the version of koinon that wrote it, or fit again.",
        )
    _check_fitted_on(path, expected, domain, space)
    try:
        content = arrays.read_bytes()
        if hashlib.sha256(content).hexdigest() != description["sha256"]:
            raise ValueError(f"{arrays.name} does not have the hash it was written with")
        module, _, kind = REGISTRY[name].partition(":")
        build = getattr(import_module(module), kind)
        empty = cast(Storable, build(build.config_type.from_dict(config, source=str(path))))
        return empty.restore(load_arrays(content), domain, space)
    except (OSError, ValueError, KeyError, SafetensorError, ConfigError) as error:
        raise _damaged(path, error) from error


def _check_fitted_on(path: Path, expected: Mapping[str, str | None], domain: Domain, space: Space | None) -> None:
    if expected["catalogue"] != catalogue_fingerprint(domain):
        raise RecommenderError(
            "K412", f"{path} was fitted on another catalogue than {domain.name}'s.", "Fit it again on this one."
        )
    if expected["space"] is not None and (space is None or space.fingerprint != expected["space"]):
        raise RecommenderError(
            "K412", f"{path} was fitted with another semantic space.", "Open that encoder, or fit again with this one."
        )


def _damaged(path: Path, error: Exception) -> RecommenderError:
    return RecommenderError("K410", f"No recommender can be read from {path}: {error}.", "Fit and save it again.")
