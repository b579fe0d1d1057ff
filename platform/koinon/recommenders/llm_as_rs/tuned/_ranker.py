"""The tuned ranker behind the one protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.fitting import Progress, Training
from koinon.recommenders.llm_as_rs.reranking import Reranker
from koinon.recommenders.llm_as_rs.texts import clean
from koinon.recommenders.llm_as_rs.tuned._asking import Asking
from koinon.recommenders.llm_as_rs.tuned._config import TunedConfig
from koinon.recommenders.llm_as_rs.tuned._low_rank import LowRankDecoder
from koinon.recommenders.llm_as_rs.tuned._training import Asked, tune_decoder
from koinon.recommenders.llm_as_rs.tuned.samples import Samples, drawn_samples, judged_samples
from koinon.recommenders.protocol import Recommender, Request
from koinon.space import Space
from koinon.space.language import LanguageModel, open_language_model

__all__ = ["TunedRanker"]

Scores = NDArray[np.float32]

FINGERPRINT = "model"


class TunedRanker(Reranker):
    """Reranks the best of a conventional recommender by how likely a tuned language model answers yes.

    Asked is TALLRec's question (Bao et al. 2023, arXiv 2305.00447): what somebody liked and disliked, then whether they
    will like an item; told is ``log P(yes) - log P(no)`` of the answer's first token. Reads titles and creators alone.

    Parameters
    ----------
    config
        Settings.
    base
        A recommender to rerank instead of the one that the settings name; fitted or not.
    model
        A language model at hand instead of the one that the settings name; it is not changed.

    Attributes
    ----------
    training
        How tuning went; ``None`` before :meth:`fit` and after loading.
    """

    name: ClassVar[str] = "tuned"
    config_type: ClassVar[type[TunedConfig]] = TunedConfig

    def __init__(
        self, config: TunedConfig | None = None, *, base: Recommender | None = None, model: LanguageModel | None = None
    ) -> None:
        super().__init__(config or TunedConfig(), base)
        self.config: TunedConfig
        self.training: Training | None = None
        self._model = model
        self._kept: Mapping[str, NDArray[np.generic]] = {}

    def fit(
        self,
        domain: Domain,
        space: Space | None,
        *,
        rng: np.random.Generator,
        checkpoint: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Fit the base, then tune the language model on judgements drawn from the training events.

        With ``weight`` 0 the language model is never asked, so none is tuned.

        Parameters
        ----------
        domain, space, rng
            As for every recommender.
        checkpoint
            File to keep the tuning's state in, and to go on from where it exists.
        on_progress
            Called after every step.

        Raises
        ------
        RecommenderError
            K480 no model is named, K484 the events do not say what people disliked, K485 the model cannot be tuned or
            asked so; K470-K472 tuning failed or cannot be gone on with; those of the base.
        """
        self.base.fit(domain, space, rng=rng)
        if self.config.weight == 0:
            return self.adopt(domain)
        return self.tune(domain, rng=rng, checkpoint=checkpoint, on_progress=on_progress)

    def tune(
        self,
        domain: Domain,
        *,
        rng: np.random.Generator,
        checkpoint: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Self:
        """:meth:`fit` over a base that is fitted on the domain already."""
        config = self.config
        self.adopt(domain)
        train, validation = self._samples(domain, rng)
        self.__dict__.pop("_decoder", None)
        decoder, asking = self._decoder, self._asking
        fingerprint = hashlib.sha256(config.model_dump_json().encode() + decoder.model.fingerprint.encode())
        for array in (train.person, train.item, train.history, validation.item):
            fingerprint.update(np.ascontiguousarray(array).tobytes())
        self.training = tune_decoder(
            decoder,
            asking,
            Asked.of(decoder, asking, train, self._said),
            Asked.of(decoder, asking, validation, self._said),
            config.tuning,
            seed=config.seed,
            checkpoint=checkpoint,
            fingerprint=fingerprint.hexdigest(),
            on_progress=on_progress,
        )
        self._kept = self._state_of(decoder)
        return self

    def told(self, request: Request, texts: Sequence[str]) -> Scores:
        """``log P(yes) - log P(no)`` of each text, ``float32[texts]``; all 0 for a stranger without history.

        Raises
        ------
        RecommenderError
            K400 not fitted, K480 no model is named, K486 it is another one than was tuned.
        """
        if not self._kept:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        liked, disliked = self._judged(request)
        if not liked and not disliked:
            return np.zeros(len(texts), dtype=np.float32)
        asking, model = self._asking, self._language_model
        read = model.read(asking.before(liked, disliked))
        beginnings = [_beginnings(text) if self.config.guarded else [text] for text in texts]
        new = list(dict.fromkeys(asking.after(one) for row in beginnings for one in row))
        found = model.choices(read, new, [asking.words.yes, asking.words.no])
        margin = dict(zip(new, found[:, 0] - found[:, 1], strict=True))
        return np.array([min(margin[asking.after(one)] for one in row) for row in beginnings], dtype=np.float32)

    def own_state(self) -> dict[str, NDArray[np.generic]]:
        """The tuned parameters, and whose they are."""
        return dict(self._kept)

    def restore_own(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take the tuned parameters back; the model is opened when it is first asked."""
        self._kept = dict(state)
        self.__dict__.pop("_decoder", None)

    def _judged(self, request: Request) -> tuple[list[str], list[str]]:
        latest = request.history[-self.config.history :]
        weight = np.full(len(latest), np.nan) if request.marks is None else request.marks.weight[-len(latest) :]
        liked = np.isnan(weight) | (weight >= self.config.liked_from)
        said = [self._said[item] for item in latest]
        beside = [clean(text, self.config.title_length) for text in request.liked]
        likes = [text for text, one in zip(said, liked, strict=True) if one] + beside
        return likes, [text for text, one in zip(said, liked, strict=True) if not one]

    def _samples(self, domain: Domain, rng: np.random.Generator) -> tuple[Samples, Samples]:
        """Judgements to tune on, and others by other people to validate on."""
        config = self.config
        draw = judged_samples if config.dislikes == "rated" else drawn_samples
        found = draw(domain, liked_from=config.liked_from, history=config.history, rng=rng)
        people = rng.permutation(np.unique(found.person))
        validating = np.isin(found.person, people[: max(1, len(people) // 4)])
        train = found.take(~validating).shuffled(rng)
        validation = found.take(validating).shuffled(rng)
        sizes = (min(config.samples, len(train)), min(config.validation, len(validation)))
        return train.take(np.arange(sizes[0])), validation.take(np.arange(sizes[1]))

    @cached_property
    def _decoder(self) -> LowRankDecoder:
        config = self.config
        if self._model is None and config.model is None:
            raise RecommenderError(
                "K480", "No language model is named.", "Set `model`, e.g. `gguf:SmolLM2-135M-Instruct.Q4_1.gguf`."
            )
        model = self._model or open_language_model(str(config.model))
        decoder = LowRankDecoder(model, config.tuning.lora, config.tuning.layers)
        if self._kept:
            owner = self._kept[FINGERPRINT].tobytes().decode("ascii")
            if owner != model.fingerprint:
                raise RecommenderError(
                    "K486", f"`{model.uri}` is another model than was tuned.", "Name that one, or fit again."
                )
            decoder.load({name: array.astype(np.float32) for name, array in self._kept.items() if name != FINGERPRINT})
        return decoder

    @property
    def _asking(self) -> Asking:
        return Asking(self._decoder.model, self.config.wording)

    @property
    def _language_model(self) -> LanguageModel:
        return self._decoder.language_model()

    def _state_of(self, decoder: LowRankDecoder) -> dict[str, NDArray[np.generic]]:
        owner = np.frombuffer(decoder.model.fingerprint.encode("ascii"), dtype=np.uint8)
        return {**decoder.state(), FINGERPRINT: owner}


def _beginnings(text: str) -> list[str]:
    """A text's first word, its first two, and so on to all of it."""
    return list(accumulate(text.split(" "), lambda before, word: f"{before} {word}"))
