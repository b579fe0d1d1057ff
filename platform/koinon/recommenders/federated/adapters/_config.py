"""Settings of federated adapters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from koinon.recommenders.conventional import SemanticEaseConfig

__all__ = ["AdaptersConfig"]


class AdaptersConfig(SemanticEaseConfig):
    """Settings of federated adapters.

    The federation agrees on ``rounds``, ``width``, ``directions``, ``clip``, ``counts_share``, ``semantic_share``,
    ``scales``, ``ridge``, ``edition`` and ``translation``; the others are each partner's own, chosen on its validation
    users.
    """

    rounds: int = Field(default=6, ge=2)
    """Rounds: the first counts and measures, the second learns the projection, all from the second on the factors."""
    width: int = Field(default=128, ge=0)
    """Factors of a work; four bytes each per work, partner and round. 0: nothing is learned of single works, and two
    rounds are all there are."""
    directions: int = Field(default=512, ge=1)
    """Directions of the space that the projection reads."""
    clip: float = Field(default=10.0, gt=0)
    """Bound on the L2 norm of what one person adds to any tensor, given the agreed scales."""
    counts_share: float = Field(default=0.1, gt=0, lt=1)
    """Part of the learner's privacy budget that the counts get."""
    semantic_share: float = Field(default=0.7, gt=0, lt=1)
    """Part that the semantic sums get; the rounds of the factors divide the rest. Without factors they get it all."""
    scales: Literal["own", "released", "even"] = "own"
    """Whose counts scale items in the semantic sums. ``own``: the partner's, which one person's events change for all
    the others, so that it is refused under a privacy budget. ``released``: the federation's, as the last release has
    them. ``even``: nobody's, every item counts alike; without factors no counts are asked for then."""
    ridge: float = Field(default=0.1, gt=0)
    """Ridge of the projection, in units of the catalogues' mean spread per direction."""
    softness: float = Field(default=0.25, gt=0, le=1)
    """Power of the projection's spectrum in item vectors: 0.5 is the least-squares metric, less evens it out."""
    edition: float = Field(default=0.8, ge=0, le=1)
    """Least cosine at which near-equal texts in one language are one work (see :func:`match_identities`)."""
    translation: float = Field(default=0.75, ge=0, le=1)
    """The same across languages."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Weight of what the others know of works that are listed here too; 0 keeps to the partner's own events."""
    cap: float | None = Field(default=10.0, ge=0)
    """The others may add at most so many times an item's own events (plus one) to it; ``None`` for no bound."""
    creator: float = Field(default=0.5, ge=0, le=1)
    """Weight of the creator's vector beside the text's in the private prior."""
    learned: float = Field(default=0.5, ge=0, le=1)
    """Weight of the shared projection's neighbours against those of the frozen encoder in the prior."""
    own_editions: bool = True
    """Whether other editions of what a person has had go to the end of the list."""

    @property
    def counted(self) -> bool:
        """Whether it is asked how often each shared work is taken."""
        return self.width > 0 or self.scales == "released"

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.counts_share + self.semantic_share >= 1:
            raise ValueError("counts_share and semantic_share leave nothing for the factors")
        if self.evenness is not None:
            raise ValueError("adapters read vectors as the encoder gives them: leave evenness out")
        return self
