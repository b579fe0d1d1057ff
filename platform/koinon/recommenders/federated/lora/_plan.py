"""The server's half of federated LoRA: asks for weighted changes of ``B``, and takes their mean as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from koinon.errors import PrivacyError
from koinon.recommenders.federated.averaging import ServerStep
from koinon.recommenders.federated.lora._config import FederatedLoraConfig
from koinon.recommenders.protocol import Catalogue, Measure, Release, Task, TensorSpec, Total
from koinon.space import Space

__all__ = ["UP", "LoraPlan"]

UP = "up"
"""The one shared tensor: the entries of every layer's ``B``, layers in the order of their names."""


class LoraPlan:
    """Each round sums ``w_p (B_p - B)`` and ``w_p`` over the partners; the quotient is the mean change of ``B``.

    ``A`` is the same at all partners and never changes, so ``(Σ w_p B_p / Σ w_p) A = Σ w_p (B_p A) / Σ w_p``: the mean
    of what partners send gives the mean of what they have learned, layer by layer, and nothing but sums is needed. Each
    layer's ``B`` is in the same tensor, so that names do not depend on the encoder; its length does.
    """

    name: ClassVar[str] = "federated_lora"
    config_type: ClassVar[type[FederatedLoraConfig]] = FederatedLoraConfig
    weight: ClassVar[str] = "weight"
    """Name of the tensor that holds what a partner's change was multiplied by."""
    measures: ClassVar[Mapping[str, Measure]] = {weight: Measure(norm=1.0), UP: Measure(fresh=True)}

    def __init__(self, config: FederatedLoraConfig | None = None) -> None:
        self.config = config or FederatedLoraConfig()
        self.rounds: int = self.config.rounds
        self._step = ServerStep(self.config.server, self.config.server_rate)

    def initial(self, catalogues: Sequence[Catalogue], space: Space | None, *, rng: np.random.Generator) -> Release:
        """Begin with ``B = 0``, the encoder as it came; ``catalogues`` are not used, nobody's items are compared.

        Raises
        ------
        RecommenderError
            K487 there is no space, or its encoder cannot be tuned.
        """
        from koinon.recommenders.federated.lora._network import open_two_loras

        seed = int(rng.integers(2**31))
        size = open_two_loras(space, self.config.model_copy(update={"private_rank": 0}), seed).size
        return Release(0, self.name, {UP: np.zeros(size, dtype=np.float32)}, {"clip": self.config.clip, "seed": seed})

    def shares(self) -> NoReturn:
        """There is no privacy budget under which this learner may run.

        Raises
        ------
        PrivacyError
            K675 always: every step mixes many people's pairs, so no bound holds for one person's.
        """
        raise PrivacyError(
            "K675",
            f"{self.name} bounds what a partner sends, not what one person adds to it: it can promise no budget.",
            "Leave it out under a budget; secure aggregation hides each partner's part.",
        )

    def task(self, release: Release, round_: int) -> Task:
        """Ask for the change of ``B`` and its weight."""
        return Task(
            round_,
            (
                TensorSpec(self.weight, (1,), "float32", "sum", 1.0),
                TensorSpec(UP, release.arrays[UP].shape, "float32", "sum", self.config.clip),
            ),
        )

    def aggregate(self, release: Release, total: Total) -> Release:
        """Step along the mean change; where nobody had anything to learn from the release stays."""
        weight = float(total.arrays[self.weight][0])
        held = release.arrays[UP].astype(np.float64)
        mean = total.arrays[UP] / weight if weight > 0 else np.zeros(held.shape)
        up = (held + self._step(UP, mean)).astype(np.float32)
        return Release(release.number + 1, self.name, {UP: up}, release.info)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return Adam's moments."""
        return self._step.state()

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take them back."""
        self._step.restore(state)
