"""From a split to a tuned encoder: pairs, training with early stop, the folder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.data import Split
from koinon.errors import RecommenderError
from koinon.recommenders.fitting import Course, Progress, Training, fit_network, training_device
from koinon.recommenders.serial.notellm._config import TuneConfig
from koinon.recommenders.serial.notellm.learner import PairLearner
from koinon.recommenders.serial.notellm.mapping import learn_map
from koinon.recommenders.serial.notellm.pairs import Pairs, co_occurrences, no_negatives
from koinon.recommenders.serial.notellm.recall import ItemPairs, by_user, held_out_pairs, item_recall, usual_cut
from koinon.recommenders.store import catalogue_fingerprint
from koinon.space import open_encoder
from koinon.space.tuned import MANIFEST, Manifest, MappedNetwork, TextNetwork, network_over, save_tuned

__all__ = ["Tuned", "tune_space"]

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Tuned:
    """What a tuning came to.

    Attributes
    ----------
    network
        With the best parameters, not merged.
    manifest
        What stands in the folder's ``tuned.json``; ``None`` without a folder.
    report
        JSON-ready: ``pairs``, ``validation`` (pairs, people, recall at the start, with the map learned, and tuned),
        ``map_seconds``, ``curve, best_epoch`` (0: nothing was better than the map alone), ``seconds`` and
        ``pairs_learned_from``.
    """

    network: MappedNetwork
    manifest: Manifest | None
    report: dict[str, Any]


def tune_space(
    split: Split,
    config: TuneConfig | None = None,
    folder: Path | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> Tuned:
    """Tune an encoder to the co-occurrences of a split's training events.

    The map learns first, alone (:mod:`koinon.recommenders.serial.notellm.mapping`), then it and LoRA together; with
    ``epochs = 0`` the map is all, over any encoder, ``use-multilingual`` too. Both are stopped early by item-to-item
    recall on validation; the test set is not touched. Interrupted, the same call goes on from its last checkpoint to
    the same tensors.

    Parameters
    ----------
    split
        Training and validation events are read.
    config
        What to tune, and how.
    folder
        Gets the tuned encoder and the checkpoint; ``None``: nothing is kept.
    seed
        Of pairs, batches, questions, dropout.
    device
        A torch device.
    on_progress
        Called after every batch and every validation.

    Raises
    ------
    RecommenderError
        K461 there are no pairs; K465 the folder holds other things; K470-K472 training failed, or its checkpoint
        belongs to another one or is damaged; K474 no such device.
    SpaceError
        K300-K306, K331 the encoder cannot be opened; K318 nothing inside it can be tuned (``epochs`` above 0).
    """
    config = config or TuneConfig()
    if folder is not None:
        _check_free(folder)
    torch_device = training_device(device)
    pairs = co_occurrences(split.train, config.pairs, seed=seed)
    if not len(pairs):
        raise RecommenderError(
            "K461", "No two items were taken by the same person in training.", "Bring more events, or lower `least`."
        )
    encoder, texts = open_encoder(config.base, device=str(torch_device)), split.train.texts
    network: MappedNetwork
    learner: PairLearner | None = None
    if config.epochs:
        network = TextNetwork(encoder, config.compression)
        categories = split.train.items["categories"].to_list()
        learner = PairLearner(network, texts, config.learner, together=pairs.together, categories=categories, seed=seed)
        states = network.states(learner.rows)
    else:
        network = network_over(encoder, config.compression)
        states = network.read(texts)
    tuning = _Tuning(
        pairs, Watched.of(split, pairs, config, seed), config, seed, _fingerprint(split, pairs, network, config, seed)
    )
    scale = torch.tensor(math.log(1 / config.learner.temperature)) if learner is None else learner.scale
    recalls, map_seconds = tuning.begin(network, states, texts, scale, folder, on_progress)
    report: dict[str, Any] = {
        "seed": seed,
        "settings": config.model_dump(mode="json"),
        "pairs": len(pairs),
        "map_seconds": map_seconds,
        "curve": [],
        "best_epoch": 0,
        "seconds": map_seconds,
        "pairs_learned_from": 0,
    }
    if learner is not None:
        told = tuning.go_on(learner, recalls, folder, on_progress)
        report |= {
            "curve": [vars(epoch) for epoch in told.curve],
            "best_epoch": told.best_epoch,
            "seconds": map_seconds + told.seconds,
            "pairs_learned_from": told.rows,
        }
    report["validation"] = tuning.watched.facts | {
        f"recall@{tuning.watched.at}": recalls if len(tuning.watched.pairs) else {}
    }
    manifest = None
    if folder is not None:
        manifest = save_tuned(network, folder, data=data_fingerprint(split, pairs), training=report)
    return Tuned(network, manifest, report)


@dataclass(frozen=True)
class _Tuning:
    """The two stages on one split: the map alone, then it and LoRA."""

    pairs: Pairs
    watched: Watched
    config: TuneConfig
    seed: int
    fingerprint: str

    def begin(
        self,
        network: MappedNetwork,
        states: NDArray[np.float32],
        texts: Sequence[str],
        scale: torch.Tensor,
        folder: Path | None,
        on_progress: OnProgress | None,
    ) -> tuple[dict[str, float], float]:
        """Learn the map; returns recall at the start and with the map, and the seconds it took."""
        network.start_principal(states, evenness=self.config.evenness)
        recalls = {"start": self.watched.recall(network.mapped(states))}
        if network.projection is None or self.config.map is None:
            return recalls, 0.0
        told = learn_map(
            network.projection,
            states,
            self.pairs,
            no_negatives(texts, self.pairs.together),
            scale,
            self.config.map,
            seed=self.seed,
            validate=self.watched.recall if len(self.watched.pairs) else None,
            checkpoint=None if folder is None else folder / MAP_CHECKPOINT,
            fingerprint=self.fingerprint,
            on_progress=on_progress,
        )
        recalls["map"] = self.watched.recall(network.mapped(states))
        if len(self.watched.pairs) and recalls["map"] < recalls["start"]:
            network.start_principal(states, evenness=self.config.evenness)
        return recalls, sum(training.seconds for training in told)

    def go_on(
        self, learner: PairLearner, recalls: dict[str, float], folder: Path | None, on_progress: OnProgress | None
    ) -> Training:
        """Train LoRA too, and add its recall; what it makes worse is not kept (``best_epoch`` 0)."""
        reached = max(recalls.values())
        begun = {name: value.clone() for name, value in learner.state_dict().items()}
        batch = _Batches(self.pairs, learner, self.config, self.seed)
        steps = max(self.config.epoch_pairs // self.config.learner.batch_pairs, 1)
        told = fit_network(
            learner,
            np.arange(steps),
            batch.loss,
            learner.optimiser,
            Course(self.config.epochs, 1, self.config.patience, 1, self.config.checkpoint_seconds),
            rows=steps * batch.size,
            seed=self.seed,
            device=torch.device(learner.network.device),
            validate=(lambda: self.watched.recall_of(learner)) if len(self.watched.pairs) else None,
            checkpoint=None if folder is None else folder / CHECKPOINT,
            fingerprint=self.fingerprint,
            on_progress=on_progress,
        )
        if told.best is None:
            return told
        recalls["tuned"] = told.best
        if told.best < reached:
            learner.load_state_dict(begun, strict=False)
            return replace(told, best_epoch=0)
        return told


class _Batches:
    """Batches of pairs in an order of their own: all pairs are gone through before any comes again.

    How many batches were taken is a buffer of the learner, and so part of its checkpoint.
    """

    def __init__(self, pairs: Pairs, learner: PairLearner, config: TuneConfig, seed: int) -> None:
        self.pairs, self.learner, self.seed = pairs, learner, seed
        self.size = min(config.learner.batch_pairs, len(pairs))
        self.per_pass = len(pairs) // self.size
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        learner.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def loss(self, _: NDArray[np.integer[Any]]) -> tuple[torch.Tensor, int]:
        """Loss of the next batch, and how many pairs it has."""
        counter: Any = self.learner.taken
        number = int(counter.item())
        passes, place = divmod(number, self.per_pass)
        if self._order[0] != passes:
            self._order = (passes, np.random.default_rng([self.seed, passes]).permutation(len(self.pairs)))
        chosen = self._order[1][place * self.size : (place + 1) * self.size]
        questions = np.random.default_rng([self.seed, 1, number])
        counter += 1
        return self.learner.loss(self.pairs.left[chosen], self.pairs.right[chosen], questions=questions), self.size


@dataclass(frozen=True)
class Watched:
    """What is looked at after each epoch.

    Attributes
    ----------
    pairs
        Of validation.
    items
        ``int64[n]`` items that are encoded and ranked: those of the pairs, filled up with drawn ones.
    """

    pairs: ItemPairs
    items: NDArray[np.int64]
    known: Pairs
    at: int

    @classmethod
    def of(cls, split: Split, pairs: Pairs, config: TuneConfig, seed: int) -> Watched:
        """Draw the people and items that are watched."""
        found = held_out_pairs(
            split.train, split.validation, pairs.together, per_user=3, users=config.validation_users, seed=seed
        )
        items = np.unique(np.concatenate((found.query, found.target)))
        others = np.setdiff1d(np.arange(split.train.n_items), items)
        more = min(max(config.validation_items - len(items), 0), len(others))
        drawn = np.random.default_rng(seed).choice(others, more, replace=False)
        cut = config.recall_at or usual_cut(split.train.n_items)
        return cls(found, np.sort(np.concatenate((items, drawn))).astype(np.int64), pairs, cut)

    @property
    def facts(self) -> dict[str, int]:
        """How many pairs, people and candidates."""
        people = len(np.unique(self.pairs.user))
        return {"pairs": len(self.pairs), "people": people, "candidates": len(self.items)}

    def recall(self, vectors: NDArray[np.float32]) -> float:
        """Of vectors of all items, the mean over people; 0 where nobody can be asked."""
        return self._recall(vectors[self.items])

    def recall_of(self, learner: PairLearner) -> float:
        """The same of what a learner makes of the watched items."""
        return self._recall(learner.encode(self.items))

    def _recall(self, vectors: NDArray[np.float32]) -> float:
        if not len(self.pairs):
            return 0.0
        pairs = ItemPairs(
            self.pairs.user, *(np.searchsorted(self.items, side).astype(np.int32) for side in self._sides())
        )
        hits = item_recall(vectors, pairs, self.known.together[self.items][:, self.items], k=(self.at,))
        return float(by_user(hits[self.at], pairs).mean())

    def _sides(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return self.pairs.query, self.pairs.target


CHECKPOINT, MAP_CHECKPOINT = "checkpoint", "checkpoint-map"


def data_fingerprint(split: Split, pairs: Pairs) -> str:
    """SHA-256 (hex) over the catalogue's ids and texts and the pairs."""
    digest = hashlib.sha256(catalogue_fingerprint(split.train).encode())
    for text in split.train.texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    for array in (pairs.left, pairs.right):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _fingerprint(split: Split, pairs: Pairs, network: MappedNetwork, config: TuneConfig, seed: int) -> str:
    asked = config.model_dump_json(exclude={"epochs", "patience", "checkpoint_seconds", "base"})
    parts = (data_fingerprint(split, pairs), network.encoder.fingerprint, asked, str(seed))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _check_free(folder: Path) -> None:
    """The folder is new, empty, or of a tuning."""
    if folder.exists() and not folder.is_dir():
        raise RecommenderError("K465", f"{folder} is no folder.", "Name another.")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if there and not any(name in (MANIFEST, CHECKPOINT) or name.startswith(f"{MAP_CHECKPOINT}-") for name in there):
        raise RecommenderError("K465", f"{folder} holds other things than a tuned encoder.", "Name a new folder.")
