"""Click models: what each row's chance of a like is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from koinon.config import Config
from koinon.errors import RecommenderError
from koinon.recommenders.clicks._config import AutoIntConfig, DCNv2Config, DeepFMConfig, NetworkConfig
from koinon.recommenders.clicks.alignment import Alignment, words_of
from koinon.recommenders.clicks.networks import AutoIntNetwork, ClickNetwork, DCNv2Network, DeepFMNetwork
from koinon.recommenders.clicks.rows import ClickData, Rows
from koinon.recommenders.fitting import Course, Progress, Training, adopt_weights, fit_network, training_device
from koinon.recommenders.fitting.loop import Examples
from koinon.space import Space

__all__ = ["NETWORKS", "AutoInt", "ClickModel", "DCNv2", "DeepFM", "NetworkClicks"]

Float = NDArray[np.float32]
ROWS_AT_ONCE = 16_384
BESIDE = {"epochs", "patience", "checkpoint_seconds", "device", "negatives"}
"""Settings that a training's course does not depend on: its end, its keeping, its place, and rows drawn beforehand."""
SECOND_STAGE = {"learning_rate", "weight_decay", "batch_rows"}
"""Settings that an alignment does not depend on either: one alignment serves any way to fine-tune."""


class ClickModel(Protocol):
    """Learns from rows and gives chances."""

    name: ClassVar[str]
    config_type: ClassVar[type[Config]]

    def fit(self, data: ClickData, *, seed: int = 0) -> Self:
        """Learn from ``data.train``; ``data.validation`` may say when to stop."""
        ...

    def predict(self, rows: Rows) -> Float:
        """Return ``float32[rows]``, each between 0 and 1: the chance of label 1. Labels and times are not read."""
        ...


class NetworkClicks:
    """A click network, trained by cross-entropy; with ``config.alignment`` aligned with words first (CTRL).

    The language model and its maps are dropped after the first stage: what is served is the same network either way.

    Attributes
    ----------
    stages
        What each stage of the last :meth:`fit` came to, by name.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[NetworkConfig]]
    network_type: ClassVar[type[ClickNetwork]]

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self.config = config or self.config_type()
        self.stages: dict[str, Training] = {}
        self._network: ClickNetwork | None = None

    @property
    def network(self) -> ClickNetwork:
        """The network as it stands.

        Raises
        ------
        RecommenderError
            K400 not fitted.
        """
        if self._network is None:
            raise RecommenderError("K400", "The click model is not fitted.", "Call fit first.")
        return self._network

    def fit(
        self,
        data: ClickData,
        *,
        space: Space | None = None,
        seed: int = 0,
        folder: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on ``data.train``, stop by AUC on ``data.validation``, keep the best weights.

        Without validation rows it trains for all epochs and keeps the last.

        Parameters
        ----------
        data
            Rows and their sides.
        space
            Encodes the halves of prompts; needed for an alignment alone.
        seed
            Of first weights, orders and draws.
        folder
            Keeps a checkpoint for each stage: the same call goes on after it was interrupted.
        on_progress
            Called after every step.

        Raises
        ------
        RecommenderError
            K404 an alignment without a space; K470-K472, K474 training failed or cannot be gone on with.
        """
        config = self.config
        network = self._network = self._fresh(data, seed)
        device = network.head.weight.device
        self.stages = {}
        if config.alignment is not None:
            self.stages["alignment"] = self._align(network, data, space, seed, folder, on_progress)
        person, item = (torch.from_numpy(a).to(device).long() for a in (data.train.person, data.train.item))
        label = torch.from_numpy(data.train.label).to(device)

        def loss(chosen: Examples) -> tuple[Tensor, int]:
            rows = torch.from_numpy(chosen).to(device)
            with self._precision(device):
                logits = network(person[rows], item[rows], _hidden(len(rows), config.unknown, device))
            return F.binary_cross_entropy_with_logits(logits.float(), label[rows]), len(rows)

        self.stages["clicks"] = fit_network(
            network,
            np.arange(len(data.train)),
            loss,
            torch.optim.AdamW(
                network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            ),
            Course(config.epochs, config.batch_rows, config.patience, checkpoint_seconds=config.checkpoint_seconds),
            rows=len(data.train),
            phase="clicks",
            seed=seed,
            device=device,
            validate=self._auc(data.validation) if len(data.validation) else None,
            checkpoint=None if folder is None else folder / "checkpoint-clicks",
            fingerprint=self._fingerprint(data, space, seed, BESIDE),
            on_progress=on_progress,
        )  # fmt: skip
        return self

    def _align(
        self,
        network: ClickNetwork,
        data: ClickData,
        space: Space | None,
        seed: int,
        folder: Path | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> Training:
        told = self.config.alignment
        assert told is not None
        if space is None:
            raise RecommenderError("K404", "An alignment needs a semantic space.", "Open one with koinon.space.")
        device = network.head.weight.device
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            both = Alignment(told, network, words_of(data, space, liked=told.liked, liked_by=told.liked_by)).to(device)
        person, item = (torch.from_numpy(a).to(device).long() for a in (data.train.person, data.train.item))

        def loss(chosen: Examples) -> tuple[Tensor, int]:
            rows = torch.from_numpy(chosen).to(device)
            with self._precision(device):
                hidden = _hidden(len(rows), self.config.unknown, device)
                return both.loss(person[rows], item[rows], hidden), len(rows)

        return fit_network(
            both,
            np.arange(len(data.train)),
            loss,
            torch.optim.AdamW(both.parameters(), lr=told.learning_rate, weight_decay=told.weight_decay, fused=True),
            Course(told.epochs, told.batch_rows, told.epochs, checkpoint_seconds=self.config.checkpoint_seconds),
            rows=len(data.train),
            phase="alignment",
            seed=seed,
            device=device,
            checkpoint=None if folder is None else folder / "checkpoint-alignment",
            fingerprint=self._fingerprint(data, space, seed, BESIDE | SECOND_STAGE),
            on_progress=on_progress,
        )

    def predict(self, rows: Rows) -> Float:
        """Return ``float32[rows]`` chances.

        Raises
        ------
        RecommenderError
            K400 not fitted; K409 a person or an item that the data did not hold.
        """
        network = self.network
        vectors = network.vectors
        for places, count in ((rows.person, len(vectors.people)), (rows.item, len(vectors.items))):
            if len(places) and not 0 <= places.min() <= places.max() < count:
                raise RecommenderError(
                    "K409", f"A row names {places.max()}; {count} are known.", "Give rows of the fitted data."
                )
        device = network.head.weight.device
        chances = np.empty(len(rows), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                person, item = (torch.from_numpy(a[part]).to(device).long() for a in (rows.person, rows.item))
                chances[part] = torch.sigmoid(network(person, item)).cpu().numpy()
        return chances

    def adopt(self, data: ClickData, learned: Mapping[str, NDArray[np.generic] | Tensor]) -> Self:
        """Take the weights that an equal network learned on ``data``.

        Raises
        ------
        ValueError
            They are another network's.
        """
        network = self._fresh(data, 0)
        adopt_weights(network, learned)
        self._network = network.eval()
        return self

    def _fresh(self, data: ClickData, seed: int) -> ClickNetwork:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return self.network_type(self.config, data.people, data.items).to(training_device(self.config.device))

    def _auc(self, rows: Rows) -> Callable[[], float]:
        # evaluation imports the protocol of koinon.recommenders: not at the top
        from koinon.evaluation.clicks import auc

        return lambda: auc(rows.label, self.predict(rows))

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _fingerprint(self, data: ClickData, space: Space | None, seed: int, beside: set[str]) -> str:
        plain = data.people.told is None and data.items.told is None
        settings = self.config.model_dump_json(exclude=beside | ({"experts"} if plain else set()))
        encoder = space.fingerprint if space is not None and self.config.alignment is not None else "-"
        return hashlib.sha256(f"{self.name} {seed} {settings} {encoder} {data.fingerprint}".encode()).hexdigest()


def _hidden(rows: int, share: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whose id and which item's is read as unknown, ``bool[rows]`` each."""
    drawn = torch.rand(2, rows, device=device) < share
    return drawn[0], drawn[1]


class DeepFM(NetworkClicks):
    """DeepFM (Guo et al. 2017)."""

    name: ClassVar[str] = "deepfm"
    config_type: ClassVar[type[NetworkConfig]] = DeepFMConfig
    network_type: ClassVar[type[ClickNetwork]] = DeepFMNetwork


class DCNv2(NetworkClicks):
    """DCN v2 (Wang et al. 2021)."""

    name: ClassVar[str] = "dcnv2"
    config_type: ClassVar[type[NetworkConfig]] = DCNv2Config
    network_type: ClassVar[type[ClickNetwork]] = DCNv2Network


class AutoInt(NetworkClicks):
    """AutoInt (Song et al. 2019)."""

    name: ClassVar[str] = "autoint"
    config_type: ClassVar[type[NetworkConfig]] = AutoIntConfig
    network_type: ClassVar[type[ClickNetwork]] = AutoIntNetwork


NETWORKS: dict[str, type[NetworkClicks]] = {kind.name: kind for kind in (DeepFM, DCNv2, AutoInt)}
"""Click networks by name."""
