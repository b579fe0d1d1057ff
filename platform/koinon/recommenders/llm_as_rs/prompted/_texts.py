"""A question with lettered answers."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LETTERS", "question"]

LETTERS = "ABCDEFGHIJKLMNOPQRST"


def question(asked: str, titles: Sequence[str], answer: str) -> str:
    """A question with a letter for each title; what follows is the letter."""
    lines = [f"{letter}. {title}" for letter, title in zip(LETTERS, titles, strict=False)]
    return "\n".join([asked, *lines, answer])
