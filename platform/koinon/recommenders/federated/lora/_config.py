"""Settings of federated LoRA."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.recommenders.conventional import SemanticEaseConfig
from koinon.recommenders.federated.averaging import Weighting

__all__ = ["FederatedLoraConfig"]


class FederatedLoraConfig(SemanticEaseConfig):
    """Settings of federated LoRA.

    The federation agrees on the tuning; ``mix``, ``private``, ``finish`` and those of the closed-form model on top are
    each partner's own, chosen on its validation users.
    """

    rank: int = Field(default=8, ge=1, le=256)
    """Of the shared part."""
    alpha: int = Field(default=16, ge=1)
    """Both parts are scaled by ``alpha`` over their rank."""
    private_rank: int = Field(default=4, ge=0, le=256)
    """Of the part that stays at home; 0: none."""
    first_layer: int = Field(default=0, ge=0)
    """Blocks below it are not tuned."""
    text_tokens: int = Field(default=32, ge=4, le=8192)
    """Tokens read of a text."""
    pairs_per_item: int = Field(default=10, ge=1)
    """Items that an item is learned to lie near to, those it goes with most often."""
    batch_pairs: int = Field(default=48, ge=2)
    """Pairs of a step; all other texts of the batch are its negatives."""
    learning_rate: float = Field(default=5e-4, gt=0.0)
    temperature: float = Field(default=0.2, gt=0.0)
    """At the beginning; each partner learns its own."""
    rounds: int = Field(default=8, ge=1)
    local_steps: int = Field(default=8, ge=1)
    """Steps a partner takes in a round."""
    weighting: Weighting = "root"
    """What a partner's change counts in the mean: its people with two events or more, the root of their number, or the
    same for all."""
    clip: float = Field(default=10.0, gt=0)
    """Bound on the L2 norm of a partner's change of a round."""
    server: Literal["average", "adam"] = "average"
    """What the server does with the mean change."""
    server_rate: float = Field(default=1.0, gt=0)
    """The step: 1 for the plain average; for ``adam`` about 0.001."""
    finish: int = Field(default=8, ge=0)
    """Steps of the private part alone after the last round."""
    mix: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the tuned encoder in the likeness of two texts; the rest is the encoder as it came."""
    private: bool = True
    """Whether texts are read with the private part too."""

    @model_validator(mode="after")
    def _as_it_came(self) -> Self:
        if self.evenness is not None:
            raise ValueError("vectors are read as the encoder gives them: leave evenness out")
        return self
