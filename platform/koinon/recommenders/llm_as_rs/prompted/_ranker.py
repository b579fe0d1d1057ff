"""The prompted ranker behind the one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.llm_as_rs.prompted._config import PromptedConfig
from koinon.recommenders.llm_as_rs.prompted._endpoint import Endpoint
from koinon.recommenders.llm_as_rs.prompted._judging import Chooser, Choosing, Pointwise
from koinon.recommenders.llm_as_rs.prompted._texts import LETTERS, question
from koinon.recommenders.llm_as_rs.reranking import Reranker
from koinon.recommenders.llm_as_rs.texts import clean
from koinon.recommenders.protocol import Recommender, Request
from koinon.space.language import LanguageModel, open_language_model

__all__ = ["PromptedRanker"]

Scores = NDArray[np.float32]

_WISH = 300


class PromptedRanker(Reranker):
    """Reranks the best of a conventional recommender by a language model's likelihoods; nothing is trained.

    ``score = z(base) + weight · clip(z(told), ±3)`` among a request's candidates; all else keeps its order below them.
    Reads items' titles and creators in the history, the request's own words (``liked``, ``query``), and no description.

    Parameters
    ----------
    config
        Settings.
    base
        A recommender to rerank instead of the one that the settings name; fitted or not.
    chooser
        A language model at hand, or anything else that can choose, instead of the one that the settings name.

    Attributes
    ----------
    failures
        Errors of an endpoint that were answered by the base's own order (``on_failure = "base"``).
    """

    name: ClassVar[str] = "prompted"
    config_type: ClassVar[type[PromptedConfig]] = PromptedConfig

    def __init__(
        self,
        config: PromptedConfig | None = None,
        *,
        base: Recommender | None = None,
        chooser: LanguageModel | Chooser | None = None,
    ) -> None:
        super().__init__(config or PromptedConfig(), base)
        self.config: PromptedConfig
        self.failures: list[RecommenderError] = []
        self._chooser = chooser
        self._examples: NDArray[np.int32] = np.empty((0, 0), dtype=np.int32)

    def adopt(self, domain: Domain) -> Self:
        """Take the domain's titles, and examples from its events; the base is fitted on it already."""
        self._examples = _draw_examples(domain, self.config)
        return super().adopt(domain)

    def told(self, request: Request, texts: Sequence[str]) -> Scores:
        """What the model tells of candidates by their texts, ``float32[texts]``; all 0 where it failed.

        Raises
        ------
        RecommenderError
            K480 no model is named, K481-K483 an endpoint fails (unless ``on_failure`` is ``base``).
        """
        history = self._known(request)
        premise = f"{clean(request.query, _WISH)}\n\n" if request.query else ""
        if history or premise:  # of a stranger without words the model has nothing to say
            try:
                return self._judge.ask(premise, history, texts)
            except RecommenderError as error:
                if self.config.on_failure == "raise" or error.code not in ("K481", "K482"):
                    raise
                self.failures.append(error)
        return np.zeros(len(texts), dtype=np.float32)

    @cached_property
    def _judge(self) -> Pointwise | Choosing:
        config, words = self.config, self.config.words
        chooser = self._chooser if self._chooser is not None else _open(config)
        lists = [[self._said[item] for item in row if item >= 0] for row in self._examples]
        if config.ask == "pointwise":
            if not isinstance(chooser, LanguageModel):
                raise RecommenderError(
                    "K480", "Only a language model that is at hand tells likelihoods.", "Use ask = 'choice'."
                )
            return Pointwise(chooser, config, lists)
        rng = np.random.default_rng(config.seed)
        worked = []
        for titles in lists:
            others = rng.choice(len(self._said), size=config.group - 1, replace=len(self._said) < config.group)
            right = int(rng.integers(config.group))
            offered = [self._said[item] for item in others]
            offered.insert(right, titles[-1])
            asked = question(words.question, offered, words.answer)
            worked.append((titles[:-1], f"{asked} {LETTERS[right]}"))
        return Choosing(chooser, config, worked)

    def own_state(self) -> dict[str, NDArray[np.generic]]:
        """The examples' items."""
        return {"examples": self._examples}

    def restore_own(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take the examples back."""
        self._examples = state["examples"].astype(np.int32)

    def _titled(self, domain: Domain) -> Self:
        self.__dict__.pop("_judge", None)
        return super()._titled(domain)


def _open(config: PromptedConfig) -> LanguageModel | Endpoint:
    if config.endpoint is not None:
        return Endpoint(
            config.endpoint, config.endpoint_model, timeout=config.timeout, trusted_host=config.trusted_host
        )
    if config.model is None:
        raise RecommenderError(
            "K480", "No language model is named.", "Set `model`, e.g. `gguf:SmolLM2-135M-Instruct.Q4_1.gguf`."
        )
    return open_language_model(config.model)


def _draw_examples(domain: Domain, config: PromptedConfig) -> NDArray[np.int32]:
    """``int32[shots, history + 1]``: the latest items of people who have two at least, -1 before them."""
    events = domain.events
    starts = np.searchsorted(events.user, np.arange(domain.n_users))
    ends = np.searchsorted(events.user, np.arange(domain.n_users), side="right")
    able = np.flatnonzero(ends - starts > 1)
    rng = np.random.default_rng(config.seed)
    chosen = rng.choice(able, size=min(config.shots, len(able)), replace=False) if config.shots else able[:0]
    examples = np.full((len(chosen), config.history + 1), -1, dtype=np.int32)
    for row, user in zip(examples, chosen, strict=True):
        last = events.item[starts[user] : ends[user]][-len(row) :]
        row[-len(last) :] = last
    return examples
