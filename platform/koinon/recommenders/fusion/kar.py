"""Feature engineering: a language model's knowledge of items and people as features of a conventional recommender."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from koinon.config import Config
from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.base import build_base
from koinon.recommenders.conventional import encode_wishes
from koinon.recommenders.fusion.knowledge import Knowledge, KnowledgeConfig, knowledge_of
from koinon.recommenders.fusion.place import Place
from koinon.recommenders.protocol import Request
from koinon.recommenders.ranking import Ranked
from koinon.recommenders.store import Storable
from koinon.space import Space
from koinon.space.generating import Writer

__all__ = ["KAR", "KARConfig", "SecondView"]

Vectors = NDArray[np.float32]
CLICKS = ("deepfm", "dcnv2", "autoint")
VIEWS = ("semantic-ease", "text-similarity", "sasrec", "hstu")


class KARConfig(Config):
    """Settings of :class:`KAR`."""

    base: Literal["deepfm", "dcnv2", "autoint", "semantic-ease", "text-similarity", "sasrec", "hstu"] = "dcnv2"
    """A click network, which takes knowledge of people and items as fields; or a recommender over the space, for which
    an item's knowledge is a second view of its text."""
    base_settings: dict[str, Any] = Field(default_factory=dict)
    """Its settings; what is not named has its default."""
    knowledge: KnowledgeConfig = KnowledgeConfig()
    """Who writes, of whom and of what."""
    share: float = Field(default=0.3, ge=0.0, le=1.0)
    """Second view: weight of the knowledge's vector beside the text's own, ``1 - share``."""


class SecondView:
    """A space in which items' texts stand where their own words and what is known of them meet.

    Any other text keeps its place.

    Parameters
    ----------
    space
        The space.
    texts, told
        Item texts, and ``float32[texts, d]`` what is known of each; zeros for nothing.
    share
        Weight of what is known.
    """

    def __init__(self, space: Space, texts: Sequence[str], told: Vectors, share: float) -> None:
        self._space, self._share = space, np.float32(share)
        self._told = {text: row for text, row in zip(texts, told, strict=True) if row.any()}
        digest = hashlib.sha256(f"{space.fingerprint} {share} ".encode())
        digest.update(np.ascontiguousarray(told).tobytes())
        self._fingerprint = digest.hexdigest()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._space.dimension

    @property
    def fingerprint(self) -> str:
        """Hash of the space, of what is known and of its share."""
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return ``float32[texts, dimension]``, rows of L2 norm 1, in the order given."""
        known = [place for place, text in enumerate(texts) if text in self._told]
        # only item texts may stay in a cache; anything else here is what people typed
        if len(known) == len(texts):
            vectors = np.array(self._space.encode(texts), dtype=np.float32)
        else:
            vectors = np.array(encode_wishes(self._space, texts), dtype=np.float32)
        if known:
            told = np.stack([self._told[texts[place]] for place in known])
            both = (1 - self._share) * vectors[known] + self._share * told
            vectors[known] = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-9)
        return vectors


class KAR(Ranked):
    """A conventional recommender with a language model's knowledge as features.

    The language model writes before any request and takes no part in serving. A click network gets a field for what is
    said of the person and one for what is said of the item, by a hybrid-expert adaptor; a recommender over the space
    gets item vectors between text and knowledge. Who is not treated has no knowledge and is served as ever.

    Parameters
    ----------
    config
        Settings.
    writer
        Who writes, instead of the model that the settings name.
    knowledge
        Knowledge at hand; nothing is written.

    Attributes
    ----------
    knowledge
        What is known; ``None`` before :meth:`fit`.
    """

    name: ClassVar[str] = "kar"
    config_type: ClassVar[type[KARConfig]] = KARConfig
    place: ClassVar[Place] = Place("feature engineering", "frozen", with_conventional=True)

    def __init__(
        self, config: KARConfig | None = None, *, writer: Writer | None = None, knowledge: Knowledge | None = None
    ) -> None:
        self.config = config or KARConfig()
        self.base: Storable = build_base(self.config.base, self.config.base_settings, (*CLICKS, *VIEWS))
        self.knowledge = knowledge
        self._writer = writer

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Have knowledge written, unless it is at hand, and fit the base with it.

        Raises
        ------
        RecommenderError
            K404 without a space, K488 no language model is named; as the base's.
        SpaceError
            K300-K313, K342-K344 the model cannot be read or asked.
        """
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        if self.knowledge is None:
            self.knowledge = knowledge_of(domain, space, self.config.knowledge, self._writer)
        self.base.fit(domain, self._given(domain, space), rng=rng)
        return self

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Vectors:
        """Return ``float32[requests, candidates]``.

        Raises
        ------
        RecommenderError
            K400 not fitted; as the base's.
        """
        if self.knowledge is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        return np.asarray(self.base.score(requests, candidates), dtype=np.float32)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return what the base learned, and the knowledge as vectors."""
        if self.knowledge is None:
            raise RecommenderError("K400", "The recommender is not fitted.", "Call fit first.")
        learned = {f"base.{name}": array for name, array in self.base.state().items()}
        return {**learned, "items": self.knowledge.items, "people": self.knowledge.people}

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender kept; no language model is needed."""
        items, people = (cast(Vectors, state[name].astype(np.float32)) for name in ("items", "people"))
        self.knowledge = Knowledge(items, people)
        learned = {name.removeprefix("base."): array for name, array in state.items() if name.startswith("base.")}
        self.base = self.base.restore(learned, domain, self._given(domain, space))
        return self

    def _given(self, domain: Domain, space: Space | None) -> Space | None:
        """Hand the knowledge to the base: as fields, or within the space."""
        assert self.knowledge is not None
        if self.config.base in CLICKS:
            cast(Any, self.base).told = (self.knowledge.people, self.knowledge.items)
            return space
        return space and SecondView(space, domain.texts, self.knowledge.items, self.config.share)
