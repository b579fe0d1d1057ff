"""A recommender over texts whose space has learned what goes together here: NoteLLM's map, fitted with the rest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save
from scipy.sparse import csr_matrix

from koinon.config import Config, write_atomically
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.base import build_base
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.serial.notellm._config import MapConfig, PairConfig
from koinon.recommenders.serial.notellm.mapping import learn_map
from koinon.recommenders.serial.notellm.pairs import co_occurrences, no_negatives
from koinon.recommenders.serial.notellm.recall import ItemPairs, by_user, item_recall, pairs_within, usual_cut
from koinon.recommenders.store import Storable
from koinon.space import Space, SpaceView
from koinon.space.tuned import StateMap

__all__ = ["NoteLLM", "NoteLLMConfig"]

Floats = NDArray[np.float32]
BASES = ("text-similarity", "semantic-ease")
MAP = "map."


class NoteLLMConfig(Config):
    """Settings of :class:`NoteLLM`."""

    base: Literal["text-similarity", "semantic-ease"] = "text-similarity"
    """What reads the mapped texts."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    hidden: int = Field(default=512, ge=0, le=8192)
    """Units of the perceptron beside each linear map; 0: none."""
    members: int = Field(default=4, ge=1, le=64)
    """Maps that are learned apart and averaged."""
    evenness: float = Field(default=0.5, ge=0.0, le=1.0)
    """The linear map begins as the catalogue's principal axes: 1 makes them equally long, 0 does not."""
    temperature: float = Field(default=0.2, gt=0.0)
    """At the beginning; it is learned."""
    pairs: PairConfig = Field(default_factory=PairConfig)
    """Which items go together."""
    map: MapConfig = Field(default_factory=MapConfig)
    """How the map learns."""
    apart: float = Field(default=0.1, ge=0.0, lt=0.5)
    """Share of the people whose items are not learned from: their pairs say when to stop. 0: all steps are taken."""


class NoteLLM(Ranked):
    """A map of the space learned from who took what together, under a recommender that reads texts.

    The space's vectors stay as they are; :mod:`koinon.recommenders.serial.notellm.mapping` learns a map of them from
    the events that it is fitted on, stopped by item-to-item recall on people set apart. The base then reads the space
    through the map. Where that recall is not clearly above the one of the catalogue's evened principal axes, which the
    map begins as, or nothing goes together, the axes stay.

    Parameters
    ----------
    config
        Settings.

    Attributes
    ----------
    learned
        Whether the learned map was kept.
    spent
        Processor seconds that its learning took, if that was done before.
    """

    name: ClassVar[str] = "notellm"
    config_type: ClassVar[type[NoteLLMConfig]] = NoteLLMConfig

    def __init__(self, config: NoteLLMConfig | None = None) -> None:
        self.config = config or NoteLLMConfig()
        self.base: Storable = build_base(self.config.base, self.config.base_settings, BASES)
        self.learned = False
        self.spent = 0.0
        self._map: StateMap | None = None

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator, maps: Path | None = None) -> Self:
        """Learn the map, then fit the base over the space seen through it.

        Parameters
        ----------
        domain, space, rng
            As for every recommender.
        maps
            Folder of learned maps: one that was learned from the same texts, events and settings is taken from there,
            another is put there.

        Raises
        ------
        RecommenderError
            K404 without a space; K470 the loss is not finite; as the base's.
        """
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        seed = int(rng.integers(2**31))
        states = np.asarray(space.encode(domain.texts), dtype=np.float32)
        self._map = self._fresh(states.shape[1])
        file = None if maps is None else maps / f"{self._digest(states, domain, seed)}.safetensors"
        if file is not None and file.is_file():
            self._take(self._map, file)
        else:
            begun = process_time()
            self._learn(self._map, states, domain, seed)
            if file is not None:
                self._keep(self._map, file, process_time() - begun)
        self.base.fit(domain, self._view(space), rng=rng)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Floats:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted; as the base's.
        """
        if self._map is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return np.asarray(self.base.score(requests, candidates), dtype=np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the map and what the base learned."""
        if self._map is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        learned = {f"base.{name}": array for name, array in self.base.state().items()}
        return learned | {f"{MAP}{name}": value.numpy() for name, value in self._map.state_dict().items()}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender kept."""
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        kept = {name.removeprefix(MAP): array for name, array in state.items() if name.startswith(MAP)}
        self._map = self._fresh(kept["members.0.weight"].shape[1])
        self._map.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in kept.items()})
        learned = {name.removeprefix("base."): array for name, array in state.items() if name.startswith("base.")}
        self.base = self.base.restore(learned, domain, self._view(space))
        return self

    def _learn(self, fresh: StateMap, states: Floats, domain: Domain, seed: int) -> None:
        fresh.begin(states, self.config.evenness)
        before = self._mapped(states)
        learned_from, asked = _set_apart(domain, self.config.apart, seed)
        pairs = co_occurrences(learned_from, self.config.pairs, seed=seed)
        if not len(pairs):
            return
        watched = pairs_within(domain.texts, asked, pairs.together, per_user=3, seed=seed)
        recall = _recall_of(watched, pairs.together, domain.n_items)
        learn_map(
            fresh,
            states,
            pairs,
            no_negatives(domain.texts, pairs.together),
            torch.tensor(math.log(1 / self.config.temperature)),
            self.config.map,
            seed=seed,
            validate=(lambda vectors: float(recall(vectors).mean())) if len(watched) else None,
        )
        self.learned = not len(watched) or _clearly_better(recall(self._mapped(states)), recall(before))
        if not self.learned:
            fresh.begin(states, self.config.evenness)

    def _digest(self, states: Floats, domain: Domain, seed: int) -> str:
        """SHA-256 (hex) over all that a map depends on."""
        settings = self.config.model_dump_json(exclude={"base", "base_settings"})
        digest = hashlib.sha256(f"{settings} {seed} {domain.n_users}".encode())
        for array in (states, domain.events.user, domain.events.item, domain.events.time):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _keep(self, learned: StateMap, file: Path, seconds: float) -> None:
        arrays = {name: value.contiguous() for name, value in learned.state_dict().items()}
        told = {"learned": json.dumps(self.learned), "seconds": json.dumps(seconds)}
        write_atomically(file, save(arrays, told))

    def _take(self, fresh: StateMap, file: Path) -> None:
        with safe_open(file, framework="pt") as kept:
            fresh.load_state_dict({name: kept.get_tensor(name) for name in kept.keys()})  # noqa: SIM118
            told = kept.metadata()
        self.learned, self.spent = json.loads(told["learned"]), json.loads(told["seconds"])

    def _fresh(self, width: int) -> StateMap:
        return StateMap(width, width, self.config.hidden, self.config.members)

    def _mapped(self, states: Floats) -> Floats:
        """Unit vectors of states."""
        assert self._map is not None
        with torch.inference_mode():
            return F.normalize(self._map(torch.from_numpy(states)), dim=1).numpy()

    def _view(self, space: Space) -> SpaceView:
        """The space through the map."""
        learned = self._map
        assert learned is not None
        digest = hashlib.sha256(space.fingerprint.encode())
        for name, value in sorted(learned.state_dict().items()):
            digest.update(name.encode() + value.numpy().tobytes())

        def turn(vectors: Floats) -> Floats:
            with torch.inference_mode():
                turned: Floats = learned(torch.from_numpy(np.ascontiguousarray(vectors))).numpy()
            return turned

        return SpaceView(space, turn, learned.out_features, digest.hexdigest())


def _set_apart(domain: Domain, share: float, seed: int) -> tuple[Domain, list[NDArray[np.int32]]]:
    """The domain without the events of a drawn share of its people, and the distinct items of each of those."""
    people = np.unique(domain.events.user)
    drawn = np.random.default_rng([seed, 3]).permutation(people)[: round(share * len(people))]
    theirs = np.isin(domain.events.user, drawn)
    held = domain.events.take(theirs)
    order = np.argsort(held.user, kind="stable")
    edges = np.flatnonzero(np.diff(held.user[order], prepend=-1))
    items = [np.unique(part) for part in np.split(held.item[order], edges[1:])] if len(order) else []
    return domain.with_events(domain.events.take(~theirs)), items


def _recall_of(watched: ItemPairs, together: csr_matrix, items: int) -> Callable[[Floats], NDArray[np.float64]]:
    """Each person's recall of vectors of all items, at 100 places or a twentieth of a small catalogue."""
    cut = usual_cut(items)
    return lambda vectors: by_user(item_recall(vectors, watched, together, k=(cut,))[cut], watched)


def _clearly_better(values: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """By two standard errors, paired over people."""
    gain = values - before
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return float(gain.mean()) > 2.0 * error
