"""Settings of NoteLLM: pairs, learning, and the whole."""

from __future__ import annotations

from pydantic import Field

from koinon.config import Config
from koinon.space import DEFAULT_ENCODER
from koinon.space.tuned import CompressionConfig

__all__ = ["LearnerConfig", "MapConfig", "PairConfig", "TuneConfig"]


class PairConfig(Config):
    """Which items go together."""

    per_item: int = Field(default=10, ge=1)
    """Partners of an item, the strongest."""
    least: float = Field(default=0.0, ge=0.0)
    """Weaker pairs are left out."""
    most: float = Field(default=float("inf"), gt=0.0)
    """Stronger pairs are left out: what everybody takes together says little of its texts."""
    longest: int = Field(default=100, ge=2)
    """Events of a person that count: the last ones where there is an order, otherwise drawn ones."""


class LearnerConfig(Config):
    """How pairs are learned from."""

    batch_pairs: int = Field(default=64, ge=2)
    """Pairs of a batch; every other text of the batch is a negative."""
    learning_rate: float = Field(default=5e-4, gt=0.0)
    """AdamW's."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Of LoRA and projection."""
    temperature: float = Field(default=0.2, gt=0.0)
    """At the beginning; it is learned."""
    alpha: float = Field(default=0.01, ge=0.0)
    """Weight of what the model generates; 0 for contrast alone."""
    tag_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of items that are asked for tags; the others for their category."""
    answer_tokens: int = Field(default=16, ge=1)
    """Tokens of an answer that count."""
    tokens_at_once: int = Field(default=1024, ge=8)
    """Padded tokens whose activations are held at once, a text at least."""
    cached_gradients: bool = True
    """Vectors of a whole batch are computed without activations, which are made again for one part after the other
    when slopes are wanted (Gao et al. 2021, arXiv 2101.06983): memory then does not grow with ``batch_pairs``, at the
    price of one more pass. Slopes are the same."""
    keep_lower: bool = False
    """What layers below ``first_layer`` make of a text is computed once and kept in memory (its tokens × width × the
    bytes of the precision) wherever nothing is asked of it: a step then costs the tuned layers alone."""


class MapConfig(Config):
    """How the map alone is learned, before LoRA, on states of the untuned model."""

    steps: int = Field(default=3000, ge=1)
    """At most; each costs products of small matrices, no pass of the model."""
    every: int = Field(default=50, ge=1)
    """Steps from one validation to the next."""
    patience: int = Field(default=4, ge=1)
    """Validations without a better recall after which it ends."""
    batch_pairs: int = Field(default=512, ge=2)
    """Pairs of a batch; every other text of the batch is a negative."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """AdamW's."""
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Of a state's numbers. With less the map learns faster, and what it learns holds less for items not seen."""


class TuneConfig(Config):
    """Everything :func:`koinon.recommenders.serial.notellm.tune_space` needs beside the data."""

    base: str = DEFAULT_ENCODER
    """The encoder or decoder to tune: any where ``epochs`` is 0, else ``minilm-english``, ``hf:…`` or ``gguf:…``."""
    compression: CompressionConfig = Field(default_factory=CompressionConfig)
    """Prompt, length, LoRA, projection."""
    evenness: float = Field(default=0.5, ge=0.0, le=1.0)
    """The projection begins as the principal axes of the catalogue's states: 1 makes them equally long, 0 does not."""
    map: MapConfig | None = Field(default_factory=MapConfig)
    """How the projection is learned before LoRA; ``None``: it begins as the principal axes."""
    pairs: PairConfig = Field(default_factory=PairConfig)
    """Which items go together."""
    learner: LearnerConfig = Field(default_factory=LearnerConfig)
    """How pairs are learned from."""
    epoch_pairs: int = Field(default=4096, ge=2)
    """Pairs from one validation to the next, drawn anew each time."""
    epochs: int = Field(default=0, ge=0)
    """Such epochs of LoRA at most; 0: the map alone is learned, and nothing inside the model is tuned."""
    patience: int = Field(default=2, ge=1)
    """Validations without a better recall after which it ends."""
    recall_at: int | None = Field(default=None, ge=1)
    """Places that count in item-to-item recall on validation; ``None``: 100, or a twentieth of a small catalogue."""
    validation_users: int = Field(default=500, ge=1)
    """People asked on validation, three pairs of each at most."""
    validation_items: int = Field(default=2000, ge=2)
    """Items ranked on validation: those of the pairs, filled up with drawn ones to so many."""
    checkpoint_seconds: float = Field(default=300.0, ge=0.0)
    """At least so long from one checkpoint to the next."""
