"""Settings of UniSRec."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.recommenders.sequential import HSTUConfig, SASRecConfig, SequenceConfig

__all__ = ["UniSRecConfig"]


class UniSRecConfig(SequenceConfig):
    """Settings of :class:`UniSRec`; those of the sequence network under it are among them."""

    items: Literal["texts", "ids+texts"] = "texts"
    """``texts``: an item is its text, whoever has taken it or not (the paper's inductive setting); ``ids+texts``: and a
    free vector of its own beside it (transductive)."""
    backbone: Literal["sasrec", "hstu"] = "sasrec"
    """The network that reads the sequence."""
    experts: int = Field(default=8, ge=1, le=64)
    """Whitening maps that are mixed for every item."""
    adaptor_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of a text vector's entries that are left out in training."""
    negatives_from: Literal["catalogue", "batch"] = "catalogue"
    """What the next item is told from: the catalogue, as ``loss`` says; or what the others of the batch took next, over
    domains where several are pooled (the paper's pre-training)."""
    sequence_weight: float = Field(default=0.0, ge=0.0)
    """Of the sequence-sequence loss beside it: a sequence and the same with events left out are told from the batch's
    others. The paper has 0.001 in pre-training; every step then reads the sequences twice."""
    event_drop: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of events that are left out there."""
    tune: Literal["all", "adaptor"] = "all"
    """What learns: everything, or what makes items' vectors alone; the sequence network then stays as it was given."""
    initial: str | None = None
    """A file of weights to begin with (:meth:`Initial.save`), unless they are given to the recommender itself."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.marks != "none":
            raise ValueError("marks differ from domain to domain: leave them at none")
        return self

    @property
    def network_settings(self) -> SASRecConfig | HSTUConfig:
        """Settings of the sequence network by itself."""
        shared = {name: getattr(self, name) for name in SequenceConfig.model_fields}
        return SASRecConfig(**shared) if self.backbone == "sasrec" else HSTUConfig(**shared)
