"""The prompted ranker behind the one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.llm_as_rs.prompted._config import PromptedConfig
from koinon.recommenders.llm_as_rs.prompted._endpoint import Endpoint
from koinon.recommenders.llm_as_rs.prompted._judging import Chooser, Choosing, Pointwise
from koinon.recommenders.llm_as_rs.prompted._texts import LETTERS, clean, question, said
from koinon.recommenders.protocol import Recommender, Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.store import REGISTRY, Storable
from koinon.space import Space
from koinon.space.language import LanguageModel, open_language_model

__all__ = ["Parts", "PromptedRanker", "blend"]

Scores = NDArray[np.float32]

_CLIP = 3.0
"""Standard deviations that a likelihood counts at most, so that no text can outweigh the base without bound."""
_WISH = 300


@dataclass(frozen=True)
class Parts:
    """What is known of one request's candidates before it is weighed.

    Attributes
    ----------
    places
        ``int64[n]``: columns of the scores, the base's best first.
    base
        ``float32[n]``: the base's scores.
    told
        ``float32[n]``: the language model's; all 0 where it failed.
    """

    places: NDArray[np.int64]
    base: Scores
    told: Scores


class PromptedRanker(Ranked):
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
        self.config = config or PromptedConfig()
        self.base = base or _build(self.config)
        self.failures: list[RecommenderError] = []
        self._chooser = chooser
        self._said: list[str] = []
        self._examples: NDArray[np.int32] = np.empty((0, 0), dtype=np.int32)

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Fit the base, then :meth:`adopt` the domain.

        Raises
        ------
        RecommenderError
            As the base's.
        """
        self.base.fit(domain, space, rng=rng)
        return self.adopt(domain)

    def adopt(self, domain: Domain) -> Self:
        """Take the domain's titles, and examples from its events; the base is fitted on it already."""
        self._examples = _draw_examples(domain, self.config)
        return self._titled(domain)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted, K480 no model is named, K481-K483 an endpoint fails (unless ``on_failure`` is ``base``).
        SpaceError
            K300-K314 the model cannot be read or asked.
        """
        scores = np.array(self.base.score(requests, candidates), dtype=np.float32)
        if self.config.weight == 0:
            return scores
        for row, request in zip(scores, requests, strict=True):
            blend(row, self.parts(request, row, candidates), self.config.weight)
        return scores

    def parts(self, request: Request, row: Scores, candidates: NDArray[np.int32] | None = None) -> Parts:
        """Ask about the best of one request; ``row`` holds the base's scores ``float32[candidates]``."""
        if not self._said:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        items = np.arange(len(row), dtype=np.int32) if candidates is None else candidates
        free = np.flatnonzero(~np.isin(items, request.history) & np.isfinite(row))
        places = free[np.lexsort((free, -row[free]))][: self.config.candidates].astype(np.int64)
        history = [self._said[item] for item in request.history[-self.config.history :]]
        history += [clean(text, self.config.title_length) for text in request.liked]
        premise = f"{clean(request.query, _WISH)}\n\n" if request.query else ""
        told = np.zeros(len(places), dtype=np.float32)
        if len(places) > 1 and (history or premise):  # of a stranger without words the model has nothing to say
            try:
                told = self._judge.ask(premise, history, [self._said[items[place]] for place in places])
            except RecommenderError as error:
                if self.config.on_failure == "raise" or error.code not in ("K481", "K482"):
                    raise
                self.failures.append(error)
        return Parts(places, row[places].copy(), told)

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

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the base learned, and the examples' items."""
        learned = {f"base.{name}": array for name, array in cast(Storable, self.base).state().items()}
        return {**learned, "examples": self._examples}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal ranker kept on ``domain``'s catalogue."""
        learned = {name.removeprefix("base."): array for name, array in state.items() if name != "examples"}
        self.base = cast(Storable, self.base).restore(learned, domain, space)
        self._examples = state["examples"].astype(np.int32)
        return self._titled(domain)

    def _titled(self, domain: Domain) -> Self:
        self._said = said(domain.items, self.config.title_length)
        self.__dict__.pop("_judge", None)
        return self


def blend(row: Scores, parts: Parts, weight: float) -> None:
    """Put one request's candidates in their new order, in place; ``row`` holds the base's scores."""
    blended = _standard(parts.base) + weight * np.clip(_standard(parts.told), -_CLIP, _CLIP)
    rest = np.delete(row, parts.places)
    rest = rest[np.isfinite(rest)]
    floor = float(rest.max()) if len(rest) else 0.0
    row[parts.places] = floor + 1.0 + blended - blended.min(initial=0.0)


def _standard(values: Scores) -> NDArray[np.float64]:
    """Mean 0, standard deviation 1; all 0 where they are equal."""
    doubles = values.astype(np.float64)
    spread = doubles.std()
    return (doubles - doubles.mean()) / spread if spread > 0 else np.zeros(len(doubles))


def _build(config: PromptedConfig) -> Recommender:
    if config.base not in REGISTRY:
        raise RecommenderError("K480", f"There is no recommender {config.base!r}.", f"Known: {', '.join(REGISTRY)}.")
    module, _, kind = REGISTRY[config.base].partition(":")
    build: Any = getattr(import_module(module), kind)
    settings = build.config_type.from_dict(dict(config.base_settings), source="base_settings")
    return cast(Recommender, build(settings))


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
