"""What a tuned ranker may be told: which model, how it is tuned, and in which words it is asked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.config import Config
from koinon.recommenders.llm_as_rs.reranking import RerankConfig
from koinon.recommenders.llm_as_rs.tuned._asking import LikingWords
from koinon.space.lora import LoraSettings

__all__ = ["TunedConfig", "TuningConfig"]


class TuningConfig(Config):
    """How a decoder is tuned."""

    lora: LoraSettings = LoraSettings(rank=8, alpha=16, dropout=0.05, targets=("q_proj", "v_proj"))
    """TALLRec's; names of the decoder's own linear layers, or ``all-linear``."""
    layers: int | None = Field(default=8, ge=1)
    """Only the last so many blocks are tuned; what those before them make of a prompt is computed once and kept, so
    that a step costs the tuned blocks alone. ``None``: all."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    batch: int = Field(default=8, ge=1)
    epochs: int = Field(default=10, ge=1)
    """Passes over the samples at most."""
    patience: int = Field(default=3, ge=1)
    """Validations without a better AUC after which tuning ends."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation to the next."""


class TunedConfig(RerankConfig):
    """Settings of :class:`TunedRanker`."""

    candidates: int = Field(default=20, ge=2, le=1000)
    title_length: int = Field(default=48, ge=8, le=400)
    samples: int = Field(default=64, ge=2)
    """How many judgements the model is tuned on (TALLRec: 16, 64, 256), drawn from the training events."""
    validation: int = Field(default=100, ge=2)
    """Judgements of other people that tuning is stopped by, drawn from the training events too."""
    liked_from: float = 4.0
    """An event of at least this weight is a liking, one below it a disliking; without a weight it is a liking."""
    dislikes: Literal["rated", "drawn"] = "rated"
    """What is answered with no: what people rated lower, or drawn items that they have not taken (half of all)."""
    guarded: bool = True
    """Count the least that any beginning of a title brings, so that no word appended can help."""
    wording: LikingWords = LikingWords()
    tuning: TuningConfig = TuningConfig()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.base in ("prompted", "tuned"):
            raise ValueError("a language model reranks a conventional recommender, not another language model")
        return self
