"""Settings of federated HSTU."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from koinon.recommenders.conventional import SemanticEaseConfig
from koinon.recommenders.federated.averaging import Weighting
from koinon.recommenders.sequential import HSTUConfig
from koinon.recommenders.sequential._config import ItemKind

__all__ = ["FederatedHSTUConfig"]


class FederatedHSTUConfig(HSTUConfig):
    """Settings of federated HSTU.

    The federation agrees on the network and on how rounds go; ``epochs``, ``blend`` and ``own`` are each partner's own,
    chosen on its validation users.
    """

    length: int = Field(default=50, ge=1)
    width: int = Field(default=64, ge=1)
    items: ItemKind = "ids+texts"
    """What stands for a text or a code word is shared, ``ids`` are private: with ``ids+texts`` every partner has a
    private correction of each of its items beside the shared projection of its text. Where there are ``codes``, the
    partners first fit one codebook (``code_levels``, ``code_words``), in rounds of its own."""
    rounds: int = Field(default=20, ge=1)
    """Rounds of the network."""
    local_steps: int = Field(default=24, ge=1)
    """Steps a partner takes in a round at most."""
    local_passes: int = Field(default=1, ge=1)
    """Passes over its people a partner takes in a round at most: a small one does not run away from the release."""
    proximal: float = Field(default=0.0, ge=0)
    """Weight of half the squared distance of the shared part from the release in every step's loss (FedProx)."""
    control: bool = Field(default=False, exclude_if=lambda on: not on)
    """Correct the slope of every step by control variates, the mean slope of all partners less the partner's own
    (SCAFFOLD); twice as much is sent. Left out of what is written where it is off."""
    weighting: Weighting = "root"
    """What a partner's change counts in the average: its people with two events or more, the root of their number, or
    the same for all."""
    clip: float = Field(default=10.0, gt=0)
    """Bound on the L2 norm of a partner's change of a round, all tensors together."""
    server: Literal["average", "adam"] = "average"
    """What the server does with the mean change: take it, or treat it as a gradient of Adam (FedAdam)."""
    server_rate: float = Field(default=1.0, gt=0)
    """The step: 1 for the plain average; for ``adam`` about 0.01."""
    epochs: int = Field(default=10, ge=0)
    """Passes of private fine-tuning after the last round, at most."""
    patience: int = Field(default=2, ge=1)
    blend: float = Field(default=0.0, ge=0, le=1)
    """Weight of the partner's own closed-form model (``own``) in its scores."""
    own: SemanticEaseConfig | None = None
    """Settings of that model."""
