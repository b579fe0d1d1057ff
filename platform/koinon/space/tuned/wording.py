"""What is said around a text so that a decoder compresses it into one word, and what it is asked afterwards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from koinon.config import Config
from koinon.space.lora import LoraSettings

__all__ = ["COMPRESSION", "Compression", "CompressionConfig", "Task"]

Task = Literal["category", "tags"]


class Compression(Config):
    """One language's words.

    The state that predicts the word is the text's vector. A question comes after that word, so that a text has one
    vector whichever question follows.
    """

    before: str
    """Before the text."""
    after: str
    """Between the text and the word."""
    category: str
    """Asks for the category, after the word."""
    tags: str
    """Asks for tags, after the word."""


COMPRESSION: dict[str, Compression] = {
    "en": Compression(
        before="Item: ", after='\nThe item in one word: "', category='"\nIts category:', tags='"\nIts tags:'
    ),
    "de": Compression(
        before="Artikel: ",
        after='\nDer Artikel in einem Wort: "',
        category='"\nSeine Kategorie:',
        tags='"\nSeine Schlagwörter:',
    ),
    "fr": Compression(
        before="Article : ", after="\nL'article en un mot : \"", category='"\nSa catégorie :', tags='"\nSes mots-clés :'
    ),
    "es": Compression(
        before="Artículo: ",
        after='\nEl artículo en una palabra: "',
        category='"\nSu categoría:',
        tags='"\nSus etiquetas:',
    ),
}
"""Compression prompts by language."""


class CompressionConfig(Config):
    """What makes a text's vector: prompt, length, LoRA, map."""

    language: Literal["en", "de", "fr", "es"] = "en"
    """Of the prompt; item texts may be in any language."""
    wording: Compression | None = None
    """Words of your own in place of the language's."""
    text_tokens: int = Field(default=64, ge=4, le=8192)
    """Tokens kept of a text; the prompt around it is never cut."""
    dimension: int | None = Field(default=256, ge=2, le=4096)
    """Length of a vector; ``None``: as wide as the model, without a map."""
    hidden: int = Field(default=512, ge=0, le=8192)
    """Units of a perceptron beside the linear map; 0: none."""
    members: int = Field(default=4, ge=1, le=64)
    """Maps that are learned apart and averaged."""
    lora: LoraSettings = Field(default_factory=LoraSettings)
    """What is tuned inside the model."""

    @property
    def words(self) -> Compression:
        """The prompt."""
        return self.wording or COMPRESSION[self.language]
