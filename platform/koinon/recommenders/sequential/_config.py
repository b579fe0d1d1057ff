"""Settings of sequence recommenders and of their training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.recommenders.sequential.losses import Loss
from koinon.recommenders.sequential.side import Marked

__all__ = ["GenerativeConfig", "HSTUConfig", "SASRecConfig", "SequenceConfig", "TrainingConfig"]


ItemKind = Literal["ids", "texts", "codes", "ids+texts", "ids+codes", "texts+codes", "ids+texts+codes"]


class TrainingConfig(Config):
    """How a network is trained."""

    epochs: int = Field(default=100, ge=1)
    """Passes over all users at most."""
    batch_users: int = Field(default=128, ge=1)
    """Users per step; a partner with fewer trains on all of them at once."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of AdamW with β = (0.9, 0.98)."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    patience: int = Field(default=10, ge=1)
    """Validations without a better figure after which training stops."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation to the next."""
    precision: Literal["float32", "bf16"] = "float32"
    """``bf16``: products in bfloat16, weights and sums in float32."""
    compile: bool = False
    """Fuse what treats rows one by one with ``torch.compile`` (needs a C++ compiler on a CPU)."""
    device: str = "auto"
    """``auto``: the first GPU where there is one, else the CPU; or a torch device."""
    checkpoint_seconds: float = Field(default=300.0, ge=0.0)
    """At least so long from one checkpoint to the next; the last state is always kept."""


class SequenceConfig(TrainingConfig):
    """What all sequence recommenders share."""

    length: int = Field(default=200, ge=1)
    """Events of a history that count, the newest; also the constant n of pointwise attention."""
    width: int = Field(default=50, ge=1)
    """Of a row between blocks, and of an item's vector."""
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    items: ItemKind = "ids"
    """An item is a free vector; its text's place in the space, projected; its code words; or a sum of these."""
    code_levels: int = Field(default=3, ge=1, le=8)
    """Code words of an item, where no codebook is given and one is fitted to the own catalogue."""
    code_words: int = Field(default=256, ge=2, le=4096)
    """Code words to choose from on each level, likewise."""
    gaps: bool = False
    """Tell every event how long it came after the one before, by a small embedding of the time gap's bucket."""
    marks: Marked = Field(default="none", exclude_if=lambda told: told == "none")
    """Tell every event's kind, its weight (rating, plays), its contexts (device, place), or several of these, by a
    vector for each kind, each level of weight and each value of a context. Left out of what is written where it is
    ``none``, so that what was kept before it was there stays valid."""
    loss: Loss = "sampled"
    negatives: int = Field(default=128, ge=1)
    """Items drawn for each row, for ``sampled`` and ``bce``."""
    unit: bool = True
    """Compare directions: rows and items are scaled to length 1."""
    temperature: float = Field(default=0.05, gt=0.0)

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError("heads must divide width")
        return self


class SASRecConfig(SequenceConfig):
    """Settings of :class:`SASRec`."""

    feedforward: int = Field(default=1, ge=1)
    """The inner layer is so many times as wide as a row (1 in the paper)."""


class HSTUConfig(SequenceConfig):
    """Settings of :class:`HSTU`. The defaults are the published base model on ML-1M."""

    qk_width: int | None = Field(default=None, ge=1)
    """Of a head's queries and keys; ``None``: ``width / heads``."""
    v_width: int | None = Field(default=None, ge=1)
    """Of a head's values and gates; ``None``: ``width / heads``."""
    time_bias: bool = True
    """Bias attention by time gaps; without effect where there are no times."""
    clock: Literal["request", "event"] = "request"
    """The time a row is asked at: when the next event happens, the last row when the request is made (the paper's); or
    the row's own time."""
    ranking_negatives: int = Field(default=0, ge=0)
    """Also train a target-aware head that tells the next item from so many drawn ones, each placed after the history;
    0: none."""
    ranking_places: int = Field(default=4, ge=1)
    """Places of every sequence at which it is told, drawn for each step."""
    ranking_weight: float = Field(default=0.2, gt=0.0)
    """Of that head's loss beside the next-item loss."""


class GenerativeConfig(HSTUConfig):
    """Settings of :class:`Generative`. Every token is told from all that may follow: ``loss``, ``negatives`` and the
    target-aware head have no part in it.
    """

    items: ItemKind = "codes"
    """What a history's items are read as; ``codes`` must be among it, the next item is told by them."""
    beam: int = Field(default=50, ge=1)
    """Paths that are followed at once, at least as many as are wanted."""

    @model_validator(mode="after")
    def _speaks(self) -> Self:
        if "codes" not in self.items:
            raise ValueError("items must be told by codes, alone or beside others")
        if self.ranking_negatives:
            raise ValueError("there is no target-aware head: leave ranking_negatives at 0")
        return self
