"""What is asked of a language model about one request, and how its log-probabilities become one figure a candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from koinon.recommenders.llm_as_rs.prompted._config import PromptedConfig
from koinon.recommenders.llm_as_rs.prompted._texts import LETTERS, question
from koinon.recommenders.llm_as_rs.texts import listed
from koinon.space.language import LanguageModel

__all__ = ["Chooser", "Choosing", "Pointwise", "worth"]

Scores = NDArray[np.float32]


class Chooser(Protocol):
    """What can be asked to choose: a :class:`koinon.space.language.LanguageModel`, or an :class:`Endpoint`."""

    def read(self, text: str, after: Any = None) -> Any:
        """Take in a text that questions will follow."""
        ...

    def choices(self, after: Any, texts: Sequence[str], answers: Sequence[str]) -> Scores:
        """``float32[texts, answers]``: log-probability of each answer at the end of each text."""
        ...


class Pointwise:
    """How much likelier a text becomes once the history is known.

    The score is the pointwise mutual information of text and history, with the same prompt without a history as the
    domain's own premise (Holtzman et al. 2021, *domain conditional* PMI). A text that is likely anywhere gains nothing
    by it.

    ``guarded``: over all beginnings of the text the least counts. The beginnings of a longer text hold those of a
    shorter one, so whatever is appended to a text can lower its score and cannot raise it, with any model.
    """

    def __init__(self, model: LanguageModel, config: PromptedConfig, shots: Sequence[Sequence[str]]) -> None:
        self.config = config
        self._model = model
        words = config.words
        shown = "".join(f"{listed(words.opening, titles)}\n\n" for titles in shots)
        self._begun = model.read(shown) if shown else None
        self._nothing = model.read(f"{words.opening}\n-", after=self._begun)
        self._alone: dict[str, NDArray[np.float32]] = {}

    def ask(self, premise: str, history: Sequence[str], texts: Sequence[str]) -> Scores:
        """``float32[texts]``; ``premise`` is what the request itself says."""
        told = self.tokens(premise, history, texts)
        found = [worth(*one, calibrated=self.config.calibrated, guarded=self.config.guarded) for one in told]
        return np.array(found, dtype=np.float32)

    def tokens(
        self, premise: str, history: Sequence[str], texts: Sequence[str]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """For each text, its tokens' log-probabilities with the history and without, ``float32[tokens]`` each."""
        read = self._model.read(f"{premise}{listed(self.config.words.opening, history)}\n-", after=self._begun)
        continued = [f" {text}" for text in texts]
        found = self._model.likelihoods(read, continued)
        before = self._without_history(continued) if self.config.calibrated else [np.zeros_like(one) for one in found]
        return list(zip(found, before, strict=True))

    def _without_history(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._alone]
        self._alone |= dict(zip(new, self._model.likelihoods(self._nothing, new), strict=True))
        return [self._alone[text] for text in texts]


def worth(
    after: NDArray[np.floating], alone: NDArray[np.floating], *, calibrated: bool = True, guarded: bool = True
) -> float:
    """What :class:`Pointwise` makes of one text's log-probabilities, ``float[tokens]`` each."""
    if not len(after):
        return 0.0
    so_far = np.cumsum(after - alone if calibrated else after, dtype=np.float64)
    return float(so_far.min() if guarded else so_far[-1])


class Choosing:
    """Which of a group comes next: pairwise with two, listwise with more.

    Candidates are dealt into groups ``rounds`` times and every group is asked in both orders, so that each place is
    held against its mirror. A letter's log-probability among its group's letters is taken relative to the same question
    without a history, which takes off what a place or a title's own words bring by themselves (contextual calibration,
    Zhao et al. 2021), and averaged.
    """

    def __init__(self, chooser: Chooser, config: PromptedConfig, shots: Sequence[tuple[Sequence[str], str]]) -> None:
        self.config = config
        self._chooser = chooser
        words = config.words
        shown = "".join(f"{listed(words.opening, titles)}\n\n{asked}\n\n" for titles, asked in shots)
        self._begun = chooser.read(shown) if shown else None
        self._nothing = chooser.read(f"{words.opening}\n\n", after=self._begun)

    def ask(self, premise: str, history: Sequence[str], texts: Sequence[str]) -> Scores:
        """``float32[texts]``; ``premise`` is what the request itself says."""
        words = self.config.words
        read = self._chooser.read(f"{premise}{listed(words.opening, history)}\n\n", after=self._begun)
        total, asked = np.zeros(len(texts)), np.zeros(len(texts))
        by_size: dict[int, list[NDArray[np.int64]]] = {}
        for group in self._groups(len(texts)):
            by_size.setdefault(len(group), []).append(group)
        for size, groups in by_size.items():
            questions = [question(words.question, [texts[place] for place in group], words.answer) for group in groups]
            letters = [f" {letter}" for letter in LETTERS[:size]]
            found = _centred(self._chooser.choices(read, questions, letters))
            if self.config.calibrated:
                found -= _centred(self._chooser.choices(self._nothing, questions, letters))
            for group, row in zip(groups, found, strict=True):
                total[group] += row
                asked[group] += 1
        return (total / np.maximum(asked, 1)).astype(np.float32)

    def _groups(self, texts: int) -> Iterator[NDArray[np.int64]]:
        rng = np.random.default_rng(self.config.seed)
        for _ in range(self.config.rounds):
            for group in np.array_split(rng.permutation(texts), -(-texts // self.config.group)):
                if len(group) > 1:
                    yield group
                    yield group[::-1]


def _centred(rows: Scores) -> NDArray[np.float64]:
    """Log-probabilities relative to their group's mean."""
    centred: NDArray[np.float64] = rows.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    return centred
