"""How it is asked whether somebody will like an item: one token answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from koinon.config import Config
from koinon.errors import RecommenderError
from koinon.recommenders.llm_as_rs.texts import listed
from koinon.space.language import LanguageModel

__all__ = ["Asking", "LikingWords"]


class LikingWords(Config):
    """The words around titles; ``{title}`` is the item's place. Say what the things are: ``Films that …``."""

    liked: str = "Titles that one person liked:"
    disliked: str = "Titles that the person disliked:"
    question: str = "Will the person like this title?"
    answer: str = "Answer:"
    yes: str = " Yes"
    no: str = " No"


class Asking:
    """Prompts as tokens.

    A prompt is what somebody liked and disliked (left out where there is nothing), the question, the item's text and
    ``Answer:``; the first token of ``yes`` and of ``no`` stand for the answers.

    Parameters
    ----------
    model
        Whose tokens.
    words
        The wording.
    shots
        Whole prompts with their answers that stand before every prompt.

    Raises
    ------
    RecommenderError
        K485 the two answers begin with the same token.
    """

    def __init__(self, model: LanguageModel, words: LikingWords, shots: Sequence[str] = ()) -> None:
        self.words = words
        self._model = model
        self._shown = "".join(f"{shot}\n\n" for shot in shots)
        first = [row[0] if row else -1 for row in model.tokens([words.yes, words.no])]
        if first[0] == first[1] or -1 in first:
            raise RecommenderError(
                "K485", f"`{model.uri}` cannot tell {words.yes!r} and {words.no!r} apart.", "Choose other answers."
            )
        self.yes, self.no = first

    def before(self, liked: Sequence[str], disliked: Sequence[str]) -> str:
        """What stands before an item's text: all candidates of a request share it."""
        words = self.words
        lists = [listed(words.liked, liked)] if liked else []
        lists += [listed(words.disliked, disliked)] if disliked else []
        return self._shown + "\n".join([*lists, words.question, "-"])

    def after(self, text: str) -> str:
        """An item's text, up to where the answer stands."""
        return f" {text}\n{self.words.answer}"

    def told(self, liked: Sequence[str], disliked: Sequence[str], text: str, answer: bool) -> str:
        """A whole prompt with its answer, to be shown before others."""
        said = self.words.yes if answer else self.words.no
        return self.before(liked, disliked).removeprefix(self._shown) + self.after(text) + said

    def tokens(self, prompts: Sequence[tuple[str, str]]) -> list[NDArray[np.int64]]:
        """Tokens of each pair of :meth:`before` and :meth:`after`, as they are read when the first is shared."""
        begin = self._model.files.tokenizer.bos_token_id
        first = [] if begin is None else [begin]
        befores = self._model.tokens([before for before, _ in prompts])
        afters = self._model.tokens([after for _, after in prompts])
        rows = [np.array([*first, *b, *a], dtype=np.int64) for b, a in zip(befores, afters, strict=True)]
        longest = max(map(len, rows), default=0)
        if longest >= self._model.longest:
            raise RecommenderError(
                "K485",
                f"A prompt has {longest} tokens; `{self._model.uri}` takes {self._model.longest}.",
                "Ask with a shorter history or shorter titles.",
            )
        return rows
