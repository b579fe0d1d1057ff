"""Generative retrieval behind the one protocol: the next item is said in code words, and only what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from koinon.data import Domain
from koinon.recommenders.conventional import popularity_prior
from koinon.recommenders.protocol import Recommendation, Request
from koinon.recommenders.ranking import best
from koinon.recommenders.sequential._config import GenerativeConfig, SequenceConfig
from koinon.recommenders.sequential._generative import GenerativeNetwork
from koinon.recommenders.sequential.items import ItemEncoder
from koinon.recommenders.sequential.network import SequenceNetwork
from koinon.recommenders.sequential.recommender import ROWS_AT_ONCE, SequenceRecommender
from koinon.recommenders.sequential.trie import Trie
from koinon.space import Space
from koinon.space.semantic_ids import semantic_ids

__all__ = ["Generative"]

Scores = NDArray[np.float32]


class Generative(SequenceRecommender):
    """Semantic ids generated token by token (Rajput et al. 2023), from the states of an HSTU.

    :meth:`score` gives the log-probability of items' paths, over the catalogue a distribution; :meth:`recommend` finds
    the likeliest unseen ones by beam search in the catalogue's trie. Who has no history gets what is popular.
    """

    name: ClassVar[str] = "generative"
    config_type: ClassVar[type[SequenceConfig]] = GenerativeConfig

    def __init__(self, config: GenerativeConfig | None = None) -> None:
        super().__init__(config or GenerativeConfig())
        self.config: GenerativeConfig
        self._domain: Domain | None = None

    def build(self, items: ItemEncoder, *, timed: bool) -> SequenceNetwork:
        """Return an untrained network over the catalogue's trie."""
        assert self.codebook is not None
        assert self._paths is not None
        last = int(self._paths[:, -1].max(initial=0)) + 1
        sizes = (*(self.codebook.codes,) * self.codebook.levels, last)
        return GenerativeNetwork(self.config, items, Trie(self._paths, sizes, self._device), timed=timed)

    def recommend(self, requests: Sequence[Request], k: int) -> list[list[Recommendation]]:
        """Return the ``k`` likeliest unseen items per request, as far as a beam of ``max(beam, k)`` paths finds them.

        Items of equal log-probability come in catalogue order. Lists are shorter where fewer items are unseen.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        lists: list[list[Recommendation]] = [[] for _ in requests]
        network = self._generative()
        known = self._known(requests)
        with torch.inference_mode():
            for start in range(0, len(known), ROWS_AT_ONCE):
                rows = known[start : start + ROWS_AT_ONCE]
                exhausted = network.trie.exhausted([self._seen(requests[row]) for row in rows])
                states = self._states([requests[row] for row in rows])
                found = network.generate(states, exhausted, max(self.config.beam, k))
                items, scores = (tensor.cpu().numpy() for tensor in found)
                for place, row in enumerate(rows):
                    order = np.lexsort((items[place], -scores[place]))
                    order = order[np.isfinite(scores[place][order])][:k]
                    lists[row] = [Recommendation(int(items[place, at]), float(scores[place, at])) for at in order]
        for row in set(range(len(requests))) - set(known):
            lists[row] = best(self._popularity[None], [requests[row]], k)[0]
        return lists

    def serve(self, domain: Domain, space: Space) -> Self:
        """Go on with another catalogue of the same partner: new items are told by their texts, gone ones are not said.

        Items are known again by their ids. Those whose code words are still the same keep their last tokens; a token
        that was never trained is as likely as any other of the kind.

        Parameters
        ----------
        domain
            The catalogue as it is now, and the events that say what is popular.
        space
            As :meth:`fit`.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        before, learned = self._domain, self.network.state_dict()
        assert before is not None
        assert self._paths is not None
        assert self.codebook is not None
        place = {item: row for row, item in enumerate(before.items["item_id"].to_list())}
        row = np.array([place.get(item, -1) for item in domain.items["item_id"].to_list()], dtype=np.int64)
        words = self.codebook.encode(np.asarray(space.encode(domain.texts), dtype=np.float32))
        same = (row >= 0) & (self._paths[row, :-1] == words).all(axis=1)
        kept = np.where(same, self._paths[row, -1], -1).astype(np.int32)
        paths = semantic_ids(words, first=domain.item_counts, kept=kept).paths
        network = self._prepare(domain, space, timed=self.network.timed, seed=0, paths=paths)
        rows = torch.from_numpy(row).to(self._device)
        for name, value in network.state_dict().items():
            old = learned[name]
            if name.endswith("vectors"):
                value.copy_(torch.where(rows[:, None] >= 0, old[rows.clamp(min=0)], torch.zeros_like(value)))
            elif name.endswith("last"):
                value.zero_()
                fit = min(len(old), len(value))
                value[:fit] = old[:fit]
            else:
                value.copy_(old)
        self._network, self._domain = network, domain
        self._popularity = popularity_prior(domain, None)
        self._settle()
        return self

    def _held_against(self, states: Tensor, candidates: NDArray[np.int32] | None) -> Tensor:
        network = self._generative()
        items = torch.arange(len(self._popularity)) if candidates is None else torch.from_numpy(candidates).long()
        return network.log_probabilities(states, items.to(self._device))

    def _prepare(
        self, domain: Domain, space: Space | None, *, timed: bool, seed: int, paths: NDArray[np.int32] | None = None
    ) -> SequenceNetwork:
        self._domain = domain
        return super()._prepare(domain, space, timed=timed, seed=seed, paths=paths)

    def _seen(self, request: Request) -> NDArray[np.int32]:
        """The history's items that the catalogue holds."""
        history = request.history
        return history[(history >= 0) & (history < len(self._popularity))]

    def _generative(self) -> GenerativeNetwork:
        assert isinstance(self.network, GenerativeNetwork)
        return self.network
