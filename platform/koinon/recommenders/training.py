"""One recommender trained and measured on one split: stopped early on validation, trained again on all but the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config
from koinon.data import Domain, EvaluationSet, Split
from koinon.recommenders.protocol import Recommender
from koinon.recommenders.store import REGISTRY, Storable, save
from koinon.space import Space

__all__ = [
    "TRAINABLE",
    "Trained",
    "at_target_times",
    "build",
    "config_type",
    "known_before_test",
    "reads_texts",
    "train",
]

TRAINABLE: tuple[str, ...] = tuple(name for name, place in REGISTRY.items() if ".federated" not in place)
"""Recommenders that a partner trains by itself."""

OnProgress = Callable[[Any], None]
"""Told a :class:`koinon.recommenders.fitting.Progress`, whose ``phase`` is ``early stop`` or ``again``."""


@dataclass(frozen=True)
class Trained:
    """A recommender, and what it was measured to give.

    Attributes
    ----------
    recommender
        Fitted.
    report
        JSON-ready: ``recommender, seed, config, counts, validation, test`` (intervals, asked at the request's time),
        ``seconds``; for networks also ``best_epoch, curve, tokens, training_seconds`` and ``test_at_target_time``, the
        published protocol, which hears when the target happened.
    """

    recommender: Recommender
    report: dict[str, Any]


def config_type(name: str) -> type[Config]:
    """Settings of a recommender of :data:`TRAINABLE`."""
    kind: type[Config] = _kind(name).config_type
    return kind


def build(name: str, config: Config | None = None) -> Recommender:
    """Return an unfitted recommender of :data:`TRAINABLE`."""
    return cast(Recommender, _kind(name)(config))


def reads_texts(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a recommender of :data:`TRAINABLE` needs a semantic space with these settings."""
    if name in ("kar", "asking", "notellm") or settings.get("judge") == "similarity":
        return True
    if name == "gated" and (settings["source"] == "similarity" or settings["rare_candidates"]):
        return True
    if name == "controller":
        return any(reads_texts(one["recommender"], _full(one)) for one in settings["pipelines"])
    if "base" in settings:
        return reads_texts(settings["base"], settings.get("base_settings", {}))
    aligned = settings.get("alignment") is not None
    return name in ("semantic-ease", "text-similarity") or aligned or settings.get("items", "ids") != "ids"


def _full(pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pipeline's settings with the defaults of what is not named."""
    name = pipeline["recommender"]
    return config_type(name).from_dict(dict(pipeline["settings"]), source=f"settings of {name}").model_dump()


def _kind(name: str) -> Any:
    module, _, kind = REGISTRY[name].partition(":")
    return getattr(import_module(module), kind)


def train(
    name: str,
    config: Config | None,
    split: Split,
    space: Space | None,
    *,
    seed: int = 0,
    again: bool = True,
    published: bool = False,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Trained:
    """Fit a recommender and measure it on the test set.

    Networks stop early by NDCG@10 on validation.

    Parameters
    ----------
    name, config
        One of :data:`TRAINABLE` and its settings; ``None``: the defaults.
    split, space
        As for every recommender. Validation and test see only their own sets.
    seed
        Of every draw.
    again
        Fit anew on training and validation events, a network for as many epochs as were best (HSTU's protocol).
    published
        Stop early as published figures of HSTU are measured, by validation that hears when the target happened.
    folder
        Keeps checkpoints of networks, so that the same call goes on after it was interrupted, and in the end the
        recommender; ``None``: nothing is kept.
    on_progress
        Called after every step of a network.

    Raises
    ------
    RecommenderError
        K404 a space is needed; K470-K474 training failed or cannot be gone on with.
    """
    from koinon.evaluation import evaluate
    from koinon.recommenders.sequential import SequenceRecommender

    begun = perf_counter()
    model = build(name, config)
    report: dict[str, Any] = {"recommender": name, "seed": seed}
    domain = split.train
    if isinstance(model, SequenceRecommender):
        asked = at_target_times(split, split.validation) if published else split.validation
        watched = _watched("published early stop" if published else "early stop", folder, on_progress)
        model.fit(domain, space, rng=np.random.default_rng(seed), validation=asked, **watched)
        assert model.training is not None
        told = model.training
        report["validation"] = {"ndcg@10": told.best}
        report["best_epoch"] = told.best_epoch
        report["curve"] = [vars(epoch) for epoch in told.curve]
        report["training_seconds"], report["tokens"] = told.seconds, told.rows
    else:
        _fit(model, domain, space, seed, "early stop", folder, on_progress)
        figures = evaluate(model, domain, split.validation, slices=("all",))
        report["validation"] = {"ndcg@10": figures.mean()}
    if again:
        domain = known_before_test(split)
        if isinstance(model, SequenceRecommender):
            settings = model.config.model_copy(update={"epochs": report["best_epoch"]})
            model = cast(SequenceRecommender, build(name, settings))
            model.fit(domain, space, rng=np.random.default_rng(seed), **_watched("again", folder, on_progress))
            assert model.training is not None
            report["training_seconds"] += model.training.seconds
            report["tokens"] += model.training.rows
        else:
            _fit(model, domain, space, seed, "again", folder, on_progress)
    report["config"] = cast(Storable, model).config.model_dump(mode="json")
    report["counts"] = {
        "users": domain.n_users,
        "items": domain.n_items,
        "events": len(domain.events),
        "test_rows": len(split.test),
    }
    columns = {"test": split.test}
    if isinstance(model, SequenceRecommender) and split.test.time is not None:
        columns["test_at_target_time"] = at_target_times(split, split.test)
    for column, rows in columns.items():
        report[column] = evaluate(model, domain, rows, slices=("all",)).intervals(seed=seed)["all"]
    report["seconds"] = perf_counter() - begun
    if folder is not None:
        save(model, folder, domain, space)
    return Trained(model, report)


def _fit(
    model: Recommender,
    domain: Domain,
    space: Space | None,
    seed: int,
    phase: str,
    folder: Path | None,
    on_progress: OnProgress | None,
) -> None:
    """Fit what has no early stop of its own; what can be gone on with is given a place for its state."""
    watched = _watched(phase, folder, on_progress) if "checkpoint" in signature(model.fit).parameters else {}
    model.fit(domain, space, rng=np.random.default_rng(seed), **watched)


def _watched(phase: str, folder: Path | None, on_progress: OnProgress | None) -> Mapping[str, Any]:
    return {
        "checkpoint": None if folder is None else folder / f"checkpoint-{phase.replace(' ', '-')}",
        "on_progress": None if on_progress is None else lambda progress: on_progress(replace(progress, phase=phase)),
    }


def known_before_test(split: Split) -> Domain:
    """The domain with training and validation events: what may be learned from once settings and epochs are chosen."""
    validation = split.validation
    user = np.repeat(validation.user, np.diff(validation.target_indptr))
    items = split.train.n_items
    known = np.concatenate(
        (_pairs(split.train.events.user, split.train.events.item, items), _pairs(user, validation.target_items, items))
    )
    return split.train.with_events(
        split.events.take(np.isin(_pairs(split.events.user, split.events.item, items), known))
    )


def at_target_times(split: Split, rows: EvaluationSet) -> EvaluationSet:
    """Validation or test asked at the time when each first target happened, as published figures of HSTU do.

    That time is not known when one asks. Use it only beside the honest column. Without times ``rows`` as they are.
    """
    if split.events.time is None:
        return rows
    items = split.train.n_items
    pairs = _pairs(split.events.user, split.events.item, items)
    order = np.argsort(pairs)
    wanted = _pairs(rows.user, rows.target_items[rows.target_indptr[:-1]], items)
    return replace(rows, time=split.events.time[order[np.searchsorted(pairs, wanted, sorter=order)]])


def _pairs(user: NDArray[np.integer], item: NDArray[np.integer], items: int) -> NDArray[np.int64]:
    return user.astype(np.int64) * items + item
