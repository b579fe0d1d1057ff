"""Which category a wish means, by a language model's likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a shop without a language model starts without torch
    from koinon.space.language import LanguageModel

__all__ = ["CategoryJudge"]

_OPENING = "Somebody asks a shop for something, and the shop names the category that is meant.\n"
_WISH = 300


class CategoryJudge:
    """How much likelier the name of a category becomes by a wish: ``log P(name | wish) - log P(name | no wish)``.

    Nothing is written and nothing is parsed; a wish that gives orders to the model is one more wish.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._begun = model.read(_OPENING)
        self._nothing = model.read("Wish: -\nCategory:", after=self._begun)
        self._alone: dict[str, float] = {}

    def gains(self, wish: str, names: Sequence[str]) -> NDArray[np.float64]:
        """``float64[names]``, nats."""
        from koinon.recommenders.llm_as_rs.prompted import clean

        read = self._model.read(f"Wish: {clean(wish, _WISH)}\nCategory:", after=self._begun)
        texts = [f" {name}\n" for name in names]
        new = [text for text in dict.fromkeys(texts) if text not in self._alone]
        self._alone |= {
            text: float(found.sum())
            for text, found in zip(new, self._model.likelihoods(self._nothing, new), strict=True)
        }
        told = [float(found.sum()) for found in self._model.likelihoods(read, texts)]
        return np.array([after - self._alone[text] for after, text in zip(told, texts, strict=True)], dtype=np.float64)
