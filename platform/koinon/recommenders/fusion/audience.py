"""Who would take what nobody has taken: pseudo-events, and the judges that they come from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from koinon.config import write_atomically
from koinon.data import Domain, Interactions
from koinon.data.marks import PSEUDO, Marks
from koinon.errors import RecommenderError
from koinon.recommenders.llm_as_rs.prompted import PromptedConfig, said
from koinon.recommenders.llm_as_rs.prompted._config import LANGUAGES
from koinon.recommenders.llm_as_rs.prompted._judging import Pointwise
from koinon.space import Space
from koinon.space.language import LanguageModel, open_language_model

if TYPE_CHECKING:
    from koinon.recommenders.fusion.pseudo import PseudoConfig

__all__ = ["Judge", "Likelihoods", "PseudoEvents", "Similarities", "audience", "takers_of"]

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class PseudoEvents:
    """Events that never happened, kept apart from those that did.

    Attributes
    ----------
    user, item
        ``int32[n]``, rows of a domain's people and items; an item here has no event of its own.
    score
        ``float32[n]``: how well the item fits the person beside the other people asked, in standard deviations.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    score: Scores

    @classmethod
    def none(cls) -> PseudoEvents:
        """No event at all."""
        nobody = np.empty(0, dtype=np.int32)
        return cls(nobody, nobody, np.empty(0, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.user)

    def matrix(self, domain: Domain) -> csr_matrix:
        """Binary ``float32[users, items]``."""
        return self.interactions().matrix(domain.n_users, domain.n_items)

    def counts(self, domain: Domain) -> NDArray[np.int64]:
        """``int64[items]``: pseudo-takers of each item."""
        return np.bincount(self.item, minlength=domain.n_items).astype(np.int64)

    def interactions(self) -> Interactions:
        """As interactions, each marked as kind ``pseudo``, sorted by user; without times, since nothing happened."""
        order = np.lexsort((self.item, self.user))
        kind = np.zeros(len(self), dtype=np.int16)
        marks = Marks(kind, np.full(len(self), np.nan, dtype=np.float32), (PSEUDO,))
        return Interactions(self.user[order], self.item[order], None, marks)

    def frame(self, domain: Domain) -> pl.DataFrame:
        """To look at: ``user_id, item_id, title, score``, kind ``pseudo``."""
        return pl.DataFrame(
            {
                "user_id": [domain.user_ids[user] for user in self.user],
                "item_id": domain.items["item_id"].gather(self.item),
                "title": domain.items["title"].gather(self.item),
                "kind": [PSEUDO] * len(self),
                "score": self.score,
            }
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As named arrays."""
        return {"user": self.user, "item": self.item, "score": self.score}


class Judge(Protocol):
    """Says how well things fit a person."""

    def judge(self, domain: Domain, history: NDArray[np.int32], items: NDArray[np.int32]) -> Scores:
        """``float32[items]``: the more, the better the item fits whoever has this history (oldest first)."""
        ...


class Similarities:
    """Cosine of an item's text to the mean of the history's texts."""

    def __init__(self, domain: Domain, space: Space) -> None:
        self._vectors = np.asarray(space.encode(domain.texts), dtype=np.float32)

    def judge(self, domain: Domain, history: NDArray[np.int32], items: NDArray[np.int32]) -> Scores:
        """``float32[items]`` cosines."""
        mean = self._vectors[history].mean(axis=0)
        scores: Scores = self._vectors[items] @ (mean / max(float(np.linalg.norm(mean)), 1e-9))
        return scores


class Likelihoods:
    """How much likelier a title becomes once the history is known, by a language model (see :class:`Pointwise`).

    Only creators and titles are read, cleaned and cut; nothing appended to a title can raise its figure.

    Parameters
    ----------
    model
        A decoder.
    config
        Wording, lengths and the folder that judgements are kept in.
    """

    def __init__(self, domain: Domain, model: LanguageModel, config: PseudoConfig) -> None:
        self._said = said(domain.items, config.title_length)
        words = config.wording or LANGUAGES[config.language]
        settings = PromptedConfig(history=config.history, title_length=config.title_length, wording=words)
        self._model, self._config = model, settings
        self._asking: Pointwise | None = None
        self._record = None if config.record is None else Path(config.record)

    def judge(self, domain: Domain, history: NDArray[np.int32], items: NDArray[np.int32]) -> Scores:
        """``float32[items]``: pointwise mutual information, the least of any beginning of the title."""
        titles = [self._said[item] for item in history[-self._config.history :]]
        texts = [self._said[item] for item in items]
        kept = None if self._record is None else self._record / f"{self._key(titles, texts)}.npy"
        if kept is not None and (found := _read(kept, len(items))) is not None:
            return found
        if self._asking is None:
            self._asking = Pointwise(self._model, self._config, [])
        scores = self._asking.ask("", titles, texts)
        if kept is not None:
            content = io.BytesIO()
            np.save(content, scores)
            write_atomically(kept, content.getvalue(), private=True)
        return scores

    def _key(self, titles: Sequence[str], texts: Sequence[str]) -> str:
        parts = (self._model.fingerprint, self._config.words.opening, *titles, "", *texts)
        return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()


def audience(domain: Domain, space: Space | None, config: PseudoConfig, judge: Judge | None = None) -> PseudoEvents:
    """Find each cold item's pseudo-takers among a sample of people.

    Raises
    ------
    RecommenderError
        K404 a similarity is asked for without a space, K488 no language model is named.
    SpaceError
        K300-K313 the model cannot be read or asked.
    """
    cold = np.flatnonzero(domain.item_counts == 0)[: config.items].astype(np.int32)
    able = np.flatnonzero(np.diff(domain.matrix.indptr) >= config.least_history)
    if not len(cold) or not len(able):
        nothing = np.empty(0, dtype=np.int32)
        return PseudoEvents(nothing, nothing, np.empty(0, dtype=np.float32))
    rng = np.random.default_rng(config.seed)
    people = rng.permutation(able)[: config.people].astype(np.int32)  # a larger sample begins with the smaller one
    asked = judge or _judge(domain, space, config)
    fits = np.stack([asked.judge(domain, domain.history(int(person)), cold) for person in people])
    return takers_of(fits, people, cold, config.takers)


def takers_of(fits: Scores, people: NDArray[np.int32], items: NDArray[np.int32], takers: int) -> PseudoEvents:
    """Take the people whom each item fits best, ``float32[people, items]``.

    What a person's history does to all items, and an item to all people, is taken off first: a history that makes
    anything likelier says nothing of one item.
    """
    apart = fits - fits.mean(axis=1, keepdims=True)
    apart = apart - apart.mean(axis=0, keepdims=True)
    apart = apart / np.maximum(apart.std(axis=0, keepdims=True), 1e-9)
    best = np.argsort(-apart, axis=0, kind="stable")[:takers]
    column = np.broadcast_to(np.arange(len(items)), best.shape)
    return PseudoEvents(
        people[best].ravel().astype(np.int32),
        items[column].ravel().astype(np.int32),
        apart[best, column].ravel().astype(np.float32),
    )


def _judge(domain: Domain, space: Space | None, config: PseudoConfig) -> Judge:
    if config.judge == "similarity":
        if space is None:
            raise RecommenderError("K404", "Similarities need a semantic space.", "Open one with koinon.space.")
        return Similarities(domain, space)
    if config.model is None:
        raise RecommenderError(
            "K488", "No language model is named.", "Set `model`, e.g. `gguf:SmolLM2-135M-Instruct.Q4_1.gguf`."
        )
    return Likelihoods(domain, open_language_model(config.model), config)


def _read(path: Path, items: int) -> Scores | None:
    """Judgements that were kept; a damaged file counts as none."""
    try:
        found: Scores = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (items,) and found.dtype == np.float32 else None
