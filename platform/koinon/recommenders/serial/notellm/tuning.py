"""From a split to a tuned encoder: pairs, training with early stop, the folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.data import Split
from koinon.errors import RecommenderError
from koinon.recommenders.fitting import Course, Progress, fit_network, training_device
from koinon.recommenders.serial.notellm._config import TuneConfig
from koinon.recommenders.serial.notellm.learner import PairLearner
from koinon.recommenders.serial.notellm.mapping import learn_map
from koinon.recommenders.serial.notellm.pairs import Pairs, co_occurrences
from koinon.recommenders.serial.notellm.recall import ItemPairs, by_user, held_out_pairs, item_recall
from koinon.recommenders.store import catalogue_fingerprint
from koinon.space import open_encoder
from koinon.space.tuned import MANIFEST, Manifest, TextNetwork, save_tuned

__all__ = ["Tuned", "tune_space"]


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

    network: TextNetwork
    manifest: Manifest | None
    report: dict[str, Any]


def tune_space(
    split: Split,
    config: TuneConfig | None = None,
    folder: Path | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
) -> Tuned:
    """Tune an encoder to the co-occurrences of a split's training events.

    The map learns first, alone (:mod:`koinon.recommenders.serial.notellm.mapping`), then it and LoRA together. Both are
    stopped early by item-to-item recall on validation; the test set is not touched. Interrupted, the same call goes on
    from its last checkpoint to the same tensors.

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
        K300-K306, K318, K331 the encoder cannot be opened or tuned.
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
    network = TextNetwork(open_encoder(config.base, device=str(torch_device)), config.compression)
    learner = PairLearner(
        network,
        split.train.texts,
        config.learner,
        together=pairs.together,
        categories=split.train.items["categories"].to_list(),
        seed=seed,
    )
    watched = Watched.of(split, pairs, config, seed)
    fingerprint = _fingerprint(split, pairs, network, config, seed)
    recalls, mapped = dict[str, float](), 0.0
    states = None if network.projection is None else network.states(learner.rows)
    if states is not None:
        network.start_principal(states, evenness=config.evenness)
    recalls["start"] = reached = watched.recall(learner)
    if states is not None and config.map is not None:
        mapped = learn_map(
            network,
            states,
            pairs,
            learner.ignored,
            learner.scale,
            config.map,
            seed=seed,
            validate=watched.recall_of if len(watched.pairs) else None,
            checkpoint=None if folder is None else folder / MAP_CHECKPOINT,
            fingerprint=fingerprint,
            on_progress=on_progress,
        ).seconds
        recalls["map"] = reached = watched.recall(learner)
    begun = {name: value.clone() for name, value in learner.state_dict().items()}
    batch = _Batches(pairs, learner, config, seed)
    told = fit_network(
        learner,
        np.arange(max(config.epoch_pairs // config.learner.batch_pairs, 1)),
        batch.loss,
        learner.optimiser,
        Course(config.epochs, 1, config.patience, 1, config.checkpoint_seconds),
        rows=max(config.epoch_pairs // config.learner.batch_pairs, 1) * batch.size,
        seed=seed,
        device=torch_device,
        validate=(lambda: watched.recall(learner)) if len(watched.pairs) else None,
        checkpoint=None if folder is None else folder / CHECKPOINT,
        fingerprint=fingerprint,
        on_progress=on_progress,
    )
    worse = told.best is not None and told.best < reached
    if told.best is not None:
        recalls["tuned"] = told.best
    if worse:
        learner.load_state_dict(begun, strict=False)
    report = {
        "seed": seed,
        "settings": config.model_dump(mode="json"),
        "pairs": len(pairs),
        "validation": {
            "pairs": len(watched.pairs),
            "people": len(np.unique(watched.pairs.user)),
            "candidates": len(watched.items),
            f"recall@{config.recall_at}": recalls if len(watched.pairs) else {},
        },
        "map_seconds": mapped,
        "curve": [vars(epoch) for epoch in told.curve],
        "best_epoch": 0 if worse else told.best_epoch,
        "seconds": told.seconds,
        "pairs_learned_from": told.rows,
    }
    manifest = None
    if folder is not None:
        manifest = save_tuned(network, folder, data=data_fingerprint(split, pairs), training=report)
    return Tuned(network, manifest, report)


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
        return cls(found, np.sort(np.concatenate((items, drawn))).astype(np.int64), pairs, config.recall_at)

    def recall(self, learner: PairLearner) -> float:
        """Mean over people; 0 where nobody can be asked."""
        return self._recall(learner.encode(self.items)) if len(self.pairs) else 0.0

    def recall_of(self, vectors: NDArray[np.float32]) -> float:
        """The same of given vectors of all items."""
        return self._recall(vectors[self.items])

    def _recall(self, vectors: NDArray[np.float32]) -> float:
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


def _fingerprint(split: Split, pairs: Pairs, network: TextNetwork, config: TuneConfig, seed: int) -> str:
    asked = config.model_dump_json(exclude={"epochs", "patience", "checkpoint_seconds", "base"})
    parts = (data_fingerprint(split, pairs), network.files.fingerprint, asked, str(seed))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _check_free(folder: Path) -> None:
    """The folder is new, empty, or of a tuning."""
    if folder.exists() and not folder.is_dir():
        raise RecommenderError("K465", f"{folder} is no folder.", "Name another.")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if there and not there & {MANIFEST, CHECKPOINT, MAP_CHECKPOINT}:
        raise RecommenderError("K465", f"{folder} holds other things than a tuned encoder.", "Name a new folder.")
