"""Sequence recommenders behind the one protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koinon.data import Domain, EvaluationSet
from koinon.errors import RecommenderError
from koinon.recommenders.conventional import popularity_prior
from koinon.recommenders.fitting import Progress, Training, adopt_weights, training_device, weights_of
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.sequential._config import HSTUConfig, SASRecConfig, SequenceConfig
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential._sasrec import SASRecNetwork
from koinon.recommenders.sequential.cached import HistoryCache
from koinon.recommenders.sequential.histories import Histories, batch_of, history_of, ordered
from koinon.recommenders.sequential.items import CodeItems, IdItems, ItemEncoder, SumItems, TextItems
from koinon.recommenders.sequential.network import SequenceNetwork
from koinon.recommenders.sequential.side import STATE, MarkWords
from koinon.recommenders.sequential.trainer import fit_histories
from koinon.space import Space
from koinon.space.codebook import Codebook, CodebookConfig, fit_codebook
from koinon.space.semantic_ids import semantic_ids

__all__ = ["HSTU", "SASRec", "SequenceRecommender"]

Scores = NDArray[np.float32]
ROWS_AT_ONCE = 256
ENDS = {"epochs", "patience", "checkpoint_seconds"}
"""Settings of when a training ends, and of how often it is kept."""
BESIDE = frozenset({"popularity", "timed", "codebook", "paths", "centre"}) | STATE
"""What the state holds beside the network's."""


class SequenceRecommender(Ranked):
    """Scores by the product of the history's state and items' vectors: one pass for any number of candidates.

    A history is read by the rules of :mod:`koinon.recommenders.sequential.histories`; who has none left gets what is
    popular.

    Attributes
    ----------
    training
        What the last :meth:`fit` came to; ``None`` for one that was restored.
    codebook
        Where items are read as code words: set it before :meth:`fit` to use a federation's; one that is not set is
        fitted to the own catalogue.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[SequenceConfig]]

    def __init__(self, config: SequenceConfig) -> None:
        self.config = config
        self.training: Training | None = None
        self.codebook: Codebook | None = None
        self._network: SequenceNetwork | None = None
        self._popularity: Scores = np.empty(0, dtype=np.float32)
        self._paths: NDArray[np.int32] | None = None
        self._words: MarkWords | None = None

    def build(self, items: ItemEncoder, *, timed: bool) -> SequenceNetwork:
        """Return an untrained network."""
        raise NotImplementedError

    @property
    def network(self) -> SequenceNetwork:
        """The network as it stands.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        if self._network is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return self._network

    def fit(
        self,
        domain: Domain,
        space: Space | None,
        *,
        rng: np.random.Generator,
        validation: EvaluationSet | None = None,
        validate: Callable[[Self], float] | None = None,
        checkpoint: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on the domain's events.

        Parameters
        ----------
        domain, space, rng
            As for every recommender; the space gives texts their place where the settings ask for it.
        validation
            Stops early by NDCG@10 over the whole catalogue, and keeps the best weights.
        validate
            Stops early by what this gives for the recommender as it stands, in place of ``validation``.
        checkpoint
            File to keep the state in; an interrupted fit with the same arguments goes on from it.
        on_progress
            Called after every step.

        Raises
        ------
        RecommenderError
            K404 the settings ask for texts and there is no space; K470-K474 see
            :func:`koinon.recommenders.fitting.fit_network` and :func:`fit_histories`.
        """
        seed = int(rng.integers(2**63))
        self._popularity = popularity_prior(domain, None)
        self._words = MarkWords.of(domain.events, self.config.marks)
        self._network = self._prepare(domain, space, timed=domain.events.time is not None, seed=seed)
        if validate is None and validation is not None:
            validate = _ndcg(domain, validation)
        self.training = fit_histories(
            self._network,
            Histories(domain, self.config.length, self._words),
            self.config,
            seed=seed,
            device=self._device,
            validate=None if validate is None else lambda: self._validated(validate),
            checkpoint=checkpoint,
            fingerprint=self._fingerprint(domain, space, seed),
            on_progress=on_progress,
        )
        self._settle()
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``: products with items' vectors; popularity where no history counts.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        chosen = slice(None) if candidates is None else candidates
        known = self._known(requests)
        scores = np.tile(self._popularity[chosen], (len(requests), 1))
        with torch.inference_mode():
            for start in range(0, len(known), ROWS_AT_ONCE):
                rows = known[start : start + ROWS_AT_ONCE]
                states = self._states([requests[row] for row in rows])
                scores[rows] = self._held_against(states, candidates).cpu().numpy()
        return scores

    def _known(self, requests: Sequence[Request]) -> list[int]:
        """Requests of whose history something counts."""
        count, length = self.network.items.count, self.config.length
        return [row for row, r in enumerate(requests) if len(ordered(r.history, None, count, length)[0])]

    def _states(self, requests: Sequence[Request]) -> Tensor:
        """``[requests, width]``: what the network makes of histories, none of them empty."""
        network = self.network
        read = [
            history_of(request, network.items.count, self.config.length, timed=network.timed, words=self._words)
            for request in requests
        ]
        batch = batch_of(read, self._device, timed=network.timed, own_clock=network.own_clock)
        states: Tensor = network(batch).index_select(0, batch.layout.last)
        return states

    def _held_against(self, states: Tensor, candidates: NDArray[np.int32] | None) -> Tensor:
        """``[requests, candidates]``: scores of states."""
        table = self._table if candidates is None else self._table[torch.from_numpy(candidates).long()]
        return states @ table.T

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned, as named arrays."""
        beside = {"popularity": self._popularity, "timed": np.array([self.network.timed])}
        if self.codebook is not None and self._paths is not None:
            beside |= {"codebook": self.codebook.centroids, "paths": self._paths}
            if self.codebook.centre is not None:
                beside["centre"] = self.codebook.centre
        if self._words is not None:
            beside |= self._words.state()
        return {**weights_of(self.network), **beside}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned on ``domain``'s catalogue."""
        if "codebook" in state:
            centre = np.asarray(state["centre"], dtype=np.float32) if "centre" in state else None
            self.codebook = Codebook(np.asarray(state["codebook"], dtype=np.float32), centre is not None, centre)
            self._paths = np.asarray(state["paths"], dtype=np.int32)
        self._words = MarkWords.of_state(state)
        network = self._prepare(domain, space, timed=bool(state["timed"][0]), seed=0, paths=self._paths)
        adopt_weights(network, {name: array for name, array in state.items() if name not in BESIDE})
        self._popularity = np.asarray(state["popularity"], dtype=np.float32)
        self._network = network
        self._settle()
        return self

    def _prepare(
        self, domain: Domain, space: Space | None, *, timed: bool, seed: int, paths: NDArray[np.int32] | None = None
    ) -> SequenceNetwork:
        self._device = training_device(self.config.device)
        width, parts = self.config.width, self.config.items
        vectors = None
        if parts != "ids":
            if space is None:
                raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
            vectors = np.asarray(space.encode(domain.texts), dtype=np.float32)
        if vectors is not None and "codes" in parts:
            if self.codebook is None:
                codebook = CodebookConfig(levels=self.config.code_levels, codes=self.config.code_words)
                self.codebook = fit_codebook(vectors, codebook, seed=seed)
            self.codebook = self.codebook.around(vectors)
            if paths is None:
                paths = semantic_ids(self.codebook.encode(vectors), first=domain.item_counts).paths
        self._paths = paths
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            items: list[ItemEncoder] = []
            if "ids" in parts:
                items.append(IdItems(domain.n_items, width))
            if vectors is not None and "texts" in parts:
                items.append(TextItems(torch.from_numpy(vectors), width))
            if self.codebook is not None and paths is not None:
                items.append(CodeItems(torch.from_numpy(paths), self.codebook.codes, width))
            network = self.build(items[0] if len(items) == 1 else SumItems(*items), timed=timed)
            if self._words is not None:
                network.tell_marks(self._words.size)
            return network.to(self._device)

    def _validated(self, validate: Callable[[Self], float]) -> float:
        self._settle()
        return validate(self)

    def _settle(self) -> None:
        """Make ready to score with the weights as they stand."""
        self.network.eval()
        with torch.inference_mode():
            self._table = self.network.table()

    def _fingerprint(self, domain: Domain, space: Space | None, seed: int) -> str:
        """SHA-256 over everything that a training's course depends on; not over when it ends, so that it can go on."""
        settings = self.config.model_dump_json(exclude=ENDS)
        digest = hashlib.sha256(f"{self.name} {seed} {settings}".encode())
        digest.update("\n".join(domain.items["item_id"].to_list()).encode())
        digest.update((space.fingerprint if space is not None and self.config.items != "ids" else "").encode())
        digest.update(b"" if self._paths is None else self._paths.tobytes())
        for array in (domain.events.user, domain.events.item, domain.events.time):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        if self._words is not None:
            told = json.dumps([self._words.kinds, self._words.context])
            digest.update(told.encode() + self._words.levels.tobytes())
            digest.update(self._words.read(domain.events.marks, len(domain.events)).tobytes())
        return digest.hexdigest()


class SASRec(SequenceRecommender):
    """SASRec (Kang and McAuley 2018) with a choice of losses; no item is predicted from padding, as there is none."""

    name: ClassVar[str] = "sasrec"
    config_type: ClassVar[type[SequenceConfig]] = SASRecConfig

    def __init__(self, config: SASRecConfig | None = None) -> None:
        super().__init__(config or SASRecConfig())

    def build(self, items: ItemEncoder, *, timed: bool) -> SequenceNetwork:
        """Return an untrained network."""
        assert isinstance(self.config, SASRecConfig)
        return SASRecNetwork(self.config, items, timed=timed)


class HSTU(SequenceRecommender):
    """HSTU (Zhai et al. 2024): retrieval by product, and with a trained head target-aware scoring of candidates."""

    name: ClassVar[str] = "hstu"
    config_type: ClassVar[type[SequenceConfig]] = HSTUConfig

    def __init__(self, config: HSTUConfig | None = None) -> None:
        super().__init__(config or HSTUConfig())

    def build(self, items: ItemEncoder, *, timed: bool) -> SequenceNetwork:
        """Return an untrained network."""
        assert isinstance(self.config, HSTUConfig)
        return HSTUNetwork(self.config, items, timed=timed)

    def remember(self, request: Request) -> HistoryCache:
        """Read a history once, to score many candidates or to go on with as events arrive.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        assert isinstance(self.network, HSTUNetwork)
        return HistoryCache(self.network, request, self._device, self._words)

    def score_state(self, cache: HistoryCache, time: int | None = None) -> Scores:
        """``float32[items]``: what :meth:`score` gives, from a cache; popularity where the history is empty."""
        if not len(cache):
            return self._popularity.copy()
        with torch.inference_mode():
            state = torch.from_numpy(cache.state(time)).to(self._device)
            scores: Scores = (self._table @ state).cpu().numpy()
        return scores


def _ndcg(domain: Domain, validation: EvaluationSet) -> Callable[[SequenceRecommender], float]:
    """NDCG@10 over the whole catalogue of the main users."""
    # evaluation imports the protocol of this package: not at the top
    from koinon.evaluation import evaluate

    return lambda recommender: evaluate(recommender, domain, validation, slices=("all",)).mean()
