"""Sequence recommenders behind the one protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.data import Domain, EvaluationSet
from koinon.errors import RecommenderError
from koinon.recommenders.conventional import popularity_prior
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.sequential._config import HSTUConfig, SASRecConfig, SequenceConfig
from koinon.recommenders.sequential._hstu import HSTUNetwork
from koinon.recommenders.sequential._sasrec import SASRecNetwork
from koinon.recommenders.sequential.cached import HistoryCache
from koinon.recommenders.sequential.histories import Histories, batch_of, ordered
from koinon.recommenders.sequential.items import IdItems, ItemEncoder, SumItems, TextItems
from koinon.recommenders.sequential.network import SequenceNetwork
from koinon.recommenders.sequential.trainer import Progress, Trainer, Training, training_device
from koinon.space import Space

__all__ = ["HSTU", "SASRec", "SequenceRecommender"]

Scores = NDArray[np.float32]
ROWS_AT_ONCE = 256


class SequenceRecommender(Ranked):
    """Scores by the product of the history's state and items' vectors: one pass for any number of candidates.

    A history is read by the rules of :mod:`koinon.recommenders.sequential.histories`; who has none left gets what is
    popular.

    Attributes
    ----------
    training
        What the last :meth:`fit` came to; ``None`` for one that was restored.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[SequenceConfig]]

    def __init__(self, config: SequenceConfig) -> None:
        self.config = config
        self.training: Training | None = None
        self._network: SequenceNetwork | None = None
        self._popularity: Scores = np.empty(0, dtype=np.float32)

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
            K404 the settings ask for texts and there is no space; K470-K474 see :class:`Trainer`.
        """
        seed = int(rng.integers(2**63))
        self._popularity = popularity_prior(domain, None)
        self._network = self._prepare(domain, space, timed=domain.events.time is not None, seed=seed)
        if validate is None and validation is not None:
            validate = _ndcg(domain, validation)
        trainer = Trainer(
            self._network,
            Histories(domain, self.config.length),
            self.config,
            seed=seed,
            device=self._device,
            validate=None if validate is None else lambda: self._validated(validate),
            checkpoint=checkpoint,
            fingerprint=self._fingerprint(domain, space, seed),
            on_progress=on_progress,
        )
        self.training = trainer.run()
        self._settle()
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``: products with items' vectors; popularity where no history counts.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        network = self.network
        chosen = slice(None) if candidates is None else candidates
        scores = np.tile(self._popularity[chosen], (len(requests), 1))
        count, length = len(self._popularity), self.config.length
        known = [row for row, r in enumerate(requests) if len(ordered(r.history, None, count, length)[0])]
        with torch.inference_mode():
            table = self._table if candidates is None else self._table[torch.from_numpy(candidates).long()]
            for start in range(0, len(known), ROWS_AT_ONCE):
                rows = known[start : start + ROWS_AT_ONCE]
                batch = batch_of(
                    [requests[row] for row in rows], count, length, self._device, timed=network.timed,
                    own_clock=network.own_clock,
                )  # fmt: skip
                states = network(batch).index_select(0, batch.layout.last)
                scores[rows] = (states @ table.T).cpu().numpy()
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned, as named arrays."""
        learned = {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}
        return {**learned, "popularity": self._popularity, "timed": np.array([self.network.timed])}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned on ``domain``'s catalogue."""
        network = self._prepare(domain, space, timed=bool(state["timed"][0]), seed=0)
        learned = {name: torch.tensor(array) for name, array in state.items() if name not in ("popularity", "timed")}
        try:
            network.load_state_dict(learned)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from error
        self._popularity = np.asarray(state["popularity"], dtype=np.float32)
        self._network = network
        self._settle()
        return self

    def _prepare(self, domain: Domain, space: Space | None, *, timed: bool, seed: int) -> SequenceNetwork:
        self._device = training_device(self.config.device)
        width, parts = self.config.width, self.config.items
        vectors = None
        if "texts" in parts:
            if space is None:
                raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
            vectors = torch.from_numpy(np.asarray(space.encode(domain.texts), dtype=np.float32))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            items: list[ItemEncoder] = []
            if "ids" in parts:
                items.append(IdItems(domain.n_items, width))
            if vectors is not None:
                items.append(TextItems(vectors, width))
            return self.build(items[0] if len(items) == 1 else SumItems(*items), timed=timed).to(self._device)

    def _validated(self, validate: Callable[[Self], float]) -> float:
        self._settle()
        return validate(self)

    def _settle(self) -> None:
        """Make ready to score with the weights as they stand."""
        self.network.eval()
        with torch.inference_mode():
            self._table = self.network.table()

    def _fingerprint(self, domain: Domain, space: Space | None, seed: int) -> str:
        """SHA-256 over everything a training depends on."""
        digest = hashlib.sha256(f"{self.name} {seed} {self.config.model_dump_json()}".encode())
        digest.update("\n".join(domain.items["item_id"].to_list()).encode())
        digest.update((space.fingerprint if space is not None and "texts" in self.config.items else "").encode())
        for array in (domain.events.user, domain.events.item, domain.events.time):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
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
        return HistoryCache(self.network, request, self._device)

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
