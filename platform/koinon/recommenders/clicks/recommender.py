"""A click network as a recommender: every item is a row, the likeliest stand first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.clicks._config import AutoIntConfig, DCNv2Config, DeepFMConfig, NetworkConfig
from koinon.recommenders.clicks.models import NETWORKS, NetworkClicks
from koinon.recommenders.clicks.rows import ClickData, Rows, coded_items, coded_people, with_told
from koinon.recommenders.fitting import weights_of
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.space import Space

__all__ = ["AutoIntRanker", "ClickRanker", "DCNv2Ranker", "DeepFMRanker"]

Scores = NDArray[np.float32]
HELD_OUT = 0.05


class ClickRanker(Ranked):
    """Scores by a click network's logits.

    Events are likes; for each ``config.negatives`` items are drawn that the person has not had, in training alone. A
    twentieth of these rows, drawn too, is held out to stop early by. It knows a person by the row in
    ``Domain.user_ids``, not by the history: a stranger gets the scores of an unknown person.
    The id of an item without events is read as unknown.

    Attributes
    ----------
    told
        ``float32[users, d]`` and ``float32[items, d]``: what a language model said of each, or ``None``; set before
        ``fit`` or ``restore``.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[NetworkConfig]]

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self.config = config or self.config_type()
        self._model: NetworkClicks | None = None
        self._seen: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        self.told: tuple[Scores | None, Scores | None] = (None, None)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Learn from the domain's events; ``space`` is read where the settings hold an alignment.

        Raises
        ------
        RecommenderError
            K404 an alignment without a space; K470, K474 training failed.
        """
        self._seen = domain.item_counts > 0
        self._model = NETWORKS[self.name](self.config)
        data = self._told(_rows_of(domain, self.config.negatives, rng))
        self._model.fit(data, space=space, seed=int(rng.integers(2**31)))
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]`` logits.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        if self._model is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        network = self._model.network
        device = network.head.weight.device
        places = np.arange(len(self._seen)) if candidates is None else candidates
        items = torch.from_numpy(places).long().to(device)
        cold = torch.from_numpy(~self._seen[places]).to(device)
        scores = np.empty((len(requests), len(items)), dtype=np.float32)
        stranger = len(network.vectors.people) - 1
        with torch.inference_mode():
            for row, request in enumerate(requests):
                person = stranger if request.user is None else request.user
                asked = torch.full((len(items),), person, device=device)
                scores[row] = network(asked, items, (torch.zeros_like(cold), cold)).float().cpu().numpy()
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what was learned."""
        if self._model is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return {**weights_of(self._model.network), "seen": self._seen}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned on ``domain``."""
        data = self._told(_rows_of(domain, 1, np.random.default_rng(0)))
        learned = {name: array for name, array in state.items() if name != "seen"}
        self._model = NETWORKS[self.name](self.config).adopt(data, learned)
        self._seen = np.asarray(state["seen"], dtype=np.bool_)
        return self

    def _told(self, data: ClickData) -> ClickData:
        people, items = self.told
        if people is not None:  # of the last person, who is nobody, nothing is said
            people = np.concatenate([people, np.zeros_like(people[:1])])
        return with_told(data, people, items)


def _rows_of(domain: Domain, negatives: int, rng: np.random.Generator) -> ClickData:
    """Events and drawn items as rows; the last person of all is nobody, so that a stranger has a row."""
    events, items = domain.events, domain.n_items
    had = events.user.astype(np.int64) * items + events.item
    user = np.repeat(events.user, negatives)
    drawn = rng.integers(items, size=len(user)).astype(np.int32)
    free = ~np.isin(user.astype(np.int64) * items + drawn, had)
    person, item = np.concatenate((events.user, user[free])), np.concatenate((events.item, drawn[free]))
    label = np.concatenate((np.ones(len(events)), np.zeros(int(free.sum())))).astype(np.float32)
    rows = Rows(person, item, label, np.zeros(len(person), dtype=np.int64))
    held = rng.random(len(rows)) < HELD_OUT
    if not 0 < label[held].sum() < held.sum():  # too few to tell one epoch from another
        held[:] = False
    people = coded_people({"user": [*domain.user_ids, ""]}, np.arange(domain.n_users))
    things = coded_items(domain.items, np.arange(items))
    return ClickData(domain.name, people, things, rows.take(~held), rows.take(held), rows.take(slice(0, 0)))


class DeepFMRanker(ClickRanker):
    """DeepFM (Guo et al. 2017)."""

    name: ClassVar[str] = "deepfm"
    config_type: ClassVar[type[NetworkConfig]] = DeepFMConfig


class DCNv2Ranker(ClickRanker):
    """DCN v2 (Wang et al. 2021)."""

    name: ClassVar[str] = "dcnv2"
    config_type: ClassVar[type[NetworkConfig]] = DCNv2Config


class AutoIntRanker(ClickRanker):
    """AutoInt (Song et al. 2019)."""

    name: ClassVar[str] = "autoint"
    config_type: ClassVar[type[NetworkConfig]] = AutoIntConfig
