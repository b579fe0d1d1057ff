"""Settings of click models, of their training and of the alignment with a language model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.config import Config

__all__ = [
    "AlignmentConfig",
    "AutoIntConfig",
    "DCNv2Config",
    "DeepFMConfig",
    "ExpertsConfig",
    "LogisticConfig",
    "NetworkConfig",
    "TreesConfig",
]


class AlignmentConfig(Config):
    """CTRL's first stage: rows as a click network reads them are held against the same rows in words."""

    encoder: str = "minilm-english"
    """The language model, as :func:`koinon.space.open_space` names it; frozen, a linear map on top is
    learned. What opens a space by it is ``koinon click``; a model takes the space that it is given."""
    liked: bool = True
    """A person's words also say which items they liked and which not, in training rows."""
    liked_by: bool = True
    """An item's words also say who liked it and who did not, in training rows, and what these people like else."""
    width: int = Field(default=128, ge=1)
    """Of the common space."""
    parts: int = Field(default=4, ge=1)
    """Sub-spaces that are aligned apart (fine-grained); they divide ``width``."""
    temperature: float = Field(default=0.7, gt=0.0)
    epochs: int = Field(default=1, ge=1)
    """Passes over the training rows."""
    batch_rows: int = Field(default=512, ge=2)
    """Rows per step; each is told from all others of the step."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=1e-2, ge=0.0)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.width % self.parts:
            raise ValueError("parts must divide width")
        return self


class ExpertsConfig(Config):
    """The hybrid-expert adaptor between vectors of knowledge and a network's fields (KAR)."""

    shared: int = Field(default=2, ge=0)
    """Experts that what is known of people and of items share."""
    own: int = Field(default=2, ge=1)
    """Experts of each of the two."""
    hidden: int = Field(default=64, ge=1)
    """Width of an expert's one layer."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Of the vectors' columns."""


class LogisticConfig(Config):
    """Settings of :class:`LogisticClicks`."""

    inverse_ridge: float = Field(default=0.1, gt=0.0)
    """scikit-learn's ``C``."""


class TreesConfig(Config):
    """Settings of :class:`TreeClicks`."""

    learning_rate: float = Field(default=0.1, gt=0.0)
    leaves: int = Field(default=31, ge=2)
    """Of a tree at most."""
    trees: int = Field(default=300, ge=1)
    """At most; validation rows say when to stop."""
    patience: int = Field(default=20, ge=1)
    """Trees without a better validation loss after which training stops."""


class NetworkConfig(Config):
    """What DeepFM, DCNv2 and AutoInt share. The defaults of sizes and steps are CTRL's protocol."""

    width: int = Field(default=32, ge=1)
    """Of a field's vector."""
    hidden: tuple[int, ...] = (256, 128, 64)
    """Layers of the perceptron that stands beside the network's own part."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """After each of these layers."""
    unknown: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of training rows in which an id is shown as unknown, drawn for person and item apart, so that unknown
    people and items have a trained vector; 0: never, as the published protocol."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the training rows at most."""
    batch_rows: int = Field(default=2048, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of Adam."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled (AdamW)."""
    negatives: int = Field(default=4, ge=1)
    """Items drawn for every event where the network serves as a recommender: events tell no dislikes."""
    patience: int = Field(default=2, ge=1)
    """Epochs without a better AUC on validation after which training stops."""
    precision: Literal["float32", "bf16"] = "float32"
    """``bf16``: products in bfloat16 while training; weights, sums and chances in float32."""
    device: str = "auto"
    """``auto``: the first GPU where there is one, else the CPU; or a torch device."""
    checkpoint_seconds: float = Field(default=60.0, ge=0.0)
    """At least so long from one checkpoint to the next; the last state is always kept."""
    alignment: AlignmentConfig | None = None
    """CTRL: align with a language model first; ``None``: the network alone."""
    experts: ExpertsConfig = ExpertsConfig()
    """KAR: how vectors of knowledge enter, where the data hold any."""


class DeepFMConfig(NetworkConfig):
    """Settings of :class:`DeepFM`."""


class DCNv2Config(NetworkConfig):
    """Settings of :class:`DCNv2`."""

    crosses: int = Field(default=2, ge=1)
    """Cross layers."""


class AutoIntConfig(NetworkConfig):
    """Settings of :class:`AutoInt`."""

    layers: int = Field(default=3, ge=1)
    """Of self-attention among fields."""
    heads: int = Field(default=2, ge=1)
    head_width: int = Field(default=16, ge=1)
