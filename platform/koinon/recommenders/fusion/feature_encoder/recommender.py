"""UniSRec behind the one protocol, and its pre-training on several domains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from koinon.data import Domain, EvaluationSet
from koinon.errors import RecommenderError
from koinon.recommenders.fusion.feature_encoder._config import UniSRecConfig
from koinon.recommenders.fusion.feature_encoder.adaptor import AdaptorItems
from koinon.recommenders.fusion.feature_encoder.initial import Initial
from koinon.recommenders.fusion.feature_encoder.networks import adapted_network
from koinon.recommenders.fusion.feature_encoder.pooling import pooled
from koinon.recommenders.fusion.place import Place
from koinon.recommenders.sequential import Progress, SequenceConfig, SequenceRecommender
from koinon.recommenders.sequential.items import IdItems, ItemEncoder, SumItems, TextItems
from koinon.recommenders.sequential.network import SequenceNetwork
from koinon.space import Space

__all__ = ["UniSRec", "pretrain"]


class UniSRec(SequenceRecommender):
    """A sequence network over texts, adapted by a mixture of whitenings (Hou et al. 2022, arXiv 2206.05941).

    Everything else, from how a history is read to checkpoints, is that of
    :class:`koinon.recommenders.sequential.SequenceRecommender`.

    Parameters
    ----------
    config
        Settings.
    initial
        Weights to begin with, in place of the file that the settings name.
    """

    name: ClassVar[str] = "unisrec"
    config_type: ClassVar[type[SequenceConfig]] = UniSRecConfig
    place: ClassVar[Place] = Place("feature encoder", "frozen", with_conventional=True)

    def __init__(self, config: UniSRecConfig | None = None, *, initial: Initial | None = None) -> None:
        super().__init__(config or UniSRecConfig())
        self.initial = initial

    @property
    def settings(self) -> UniSRecConfig:
        """Its settings."""
        assert isinstance(self.config, UniSRecConfig)
        return self.config

    def build(self, items: ItemEncoder, *, timed: bool) -> SequenceNetwork:
        """Return an untrained network, at the weights to begin with where there are some."""
        config = self.settings
        network = adapted_network(config, self._adapted(items), timed=timed)
        if self.initial is not None:
            self.initial.put(network)
        if config.tune == "adaptor":
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name.startswith("items."))
        return network

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
        """Train on the domain's events, as every sequence recommender.

        Raises
        ------
        RecommenderError
            K404 without a space; K492 the weights to begin with cannot be read, or only the adaptor is to learn and
            there are none; K493 they do not fit; K470-K474 see :class:`koinon.recommenders.sequential.Trainer`.
        """
        config = self.settings
        if self.initial is None and config.initial is not None:
            self.initial = Initial.load(Path(config.initial))
        if self.initial is not None and space is not None:
            self.initial.check(space, config.backbone)
        if self.initial is None and config.tune == "adaptor":
            raise RecommenderError(
                "K492",
                "Only the adaptor is to learn, and there is no sequence network to put before it.",
                "Give weights to begin with, or tune = 'all'.",
            )
        return super().fit(
            domain, space, rng=rng, validation=validation, validate=validate, checkpoint=checkpoint,
            on_progress=on_progress,
        )  # fmt: skip

    def _adapted(self, items: ItemEncoder) -> ItemEncoder:
        """The same items, their texts read through an adaptor."""
        config = self.settings
        if isinstance(items, TextItems):
            return AdaptorItems(items.texts, config.width, experts=config.experts, dropout=config.adaptor_dropout)
        if isinstance(items, SumItems):
            return SumItems(*(self._adapted(part) for part in items.parts if isinstance(part, ItemEncoder)))
        assert isinstance(items, IdItems)
        return items

    def _fingerprint(self, domain: Domain, space: Space | None, seed: int) -> str:
        own = super()._fingerprint(domain, space, seed)
        begun = "" if self.initial is None else self.initial.fingerprint
        return hashlib.sha256(f"{own} {begun}".encode()).hexdigest()


def pretrain(
    domains: Sequence[Domain],
    space: Space,
    config: UniSRecConfig | None = None,
    *,
    rng: np.random.Generator,
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Initial:
    """Learn adaptor and sequence network on several domains' training events, pooled.

    Every batch mixes the domains, so that an item is told from those of others too. Who pools must be allowed to: this
    reads all of the domains' events in one place, and weights tell of the events they come from.

    Parameters
    ----------
    domains
        Whose training events are read.
    space
        All texts' place.
    config
        As for :class:`UniSRec`; items are texts alone, and told from the batch, whatever it says. All epochs are run.
    rng, checkpoint, on_progress
        As for :meth:`UniSRec.fit`.

    Raises
    ------
    RecommenderError
        K470-K474 see :class:`koinon.recommenders.sequential.Trainer`.
    """
    asked = config or UniSRecConfig()
    settings = asked.model_copy(update={"items": "texts", "negatives_from": "batch", "tune": "all", "initial": None})
    model = UniSRec(settings)
    model.fit(pooled(domains), space, rng=rng, checkpoint=checkpoint, on_progress=on_progress)
    return Initial.of(model.network, space, settings.backbone)
