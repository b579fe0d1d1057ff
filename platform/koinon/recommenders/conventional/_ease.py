"""EASE, and EASE with the semantic space as its prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix

from koinon.data import Domain
from koinon.errors import RecommenderError
from koinon.recommenders.conventional._linear import LinearConfig, LinearItemModel
from koinon.recommenders.conventional._prior import encode_wishes, semantic_prior, text_evidence
from koinon.recommenders.conventional._solve import Matrix, cold_columns, gram_matrix, item_scale, rescale, solve_ease
from koinon.recommenders.protocol import Request
from koinon.space import EvenedSpace, Space

__all__ = ["EASE", "EaseConfig", "SemanticEASE", "SemanticEaseConfig"]

Scores = NDArray[np.float32]


class EaseConfig(LinearConfig):
    """Settings of :class:`EASE`."""

    lambda_: float = Field(default=100.0, gt=0.0)
    """Ridge, in events; small shops want tens, large dense ones hundreds."""
    user_power: float = Field(default=0.0, ge=0.0, le=2.0)
    """Each person's pairs are weighted by ``len ** -user_power`` in the Gram matrix; 0 counts all pairs alike."""
    item_power: float = Field(default=0.0, ge=0.0, le=1.0)
    """The Gram matrix is divided by ``(n_i n_j) ** item_power`` (events relative to the typical item's); 0: as it is,
    0.5: cosines."""
    output_power: float = Field(default=0.0, ge=0.0, le=1.0)
    """Scored items are multiplied by ``n_j ** output_power``; equal to ``item_power`` it undoes the division."""


class SemanticEaseConfig(EaseConfig):
    """Settings of :class:`SemanticEASE`."""

    beta: float = Field(default=0.3, ge=0.0)
    """Weight of the prior; 0 is plain EASE except on cold columns."""
    neighbours: int = Field(default=50, ge=1)
    """Nearest texts that make an item's prior."""
    evenness: float | None = Field(default=None, ge=0.0, le=1.0)
    """Texts are compared about the catalogue's mean, the axes of its spread divided by this power of their length (see
    :class:`koinon.space.EvenedSpace`); ``None``: as the encoder gives them."""
    cold_threshold: int = Field(default=1, ge=0)
    """Items with fewer training events are scored by the prior alone; 1: those without any; 0: none."""
    cold_weight: float | None = Field(default=None, ge=0.0)
    """Weight of the prior on such columns; ``None``: ``beta``."""
    cold_blend: float = Field(default=0.0, ge=0.0)
    """Above 0, the prior has the weight of so many events in every column."""


class EASE(LinearItemModel):
    """Embarrassingly shallow autoencoder (Steck 2019): closed form on the item-item Gram matrix."""

    name: ClassVar[str] = "ease"
    config_type: ClassVar[type[EaseConfig]] = EaseConfig

    def __init__(self, config: EaseConfig | None = None) -> None:
        super().__init__(config or EaseConfig())
        self.config: EaseConfig

    def fit(self, domain: Domain, space: Space | None, *, rng: np.random.Generator) -> Self:
        """Solve on the domain's own Gram matrix; ``rng`` is not used (the solution is unique)."""
        return self.fit_gram(domain, space, gram_matrix(domain.matrix, user_power=self.config.user_power))

    def fit_gram(self, domain: Domain, space: Space | None, gram: Matrix) -> Self:
        """Solve on a Gram matrix ``float[items, items]`` over ``domain``'s catalogue, e.g. one summed over partners."""
        divisor, multiplier = self._scales(gram)
        weights = solve_ease(_divided(gram, divisor), self.config.lambda_)
        return self.adopt(_single(rescale(weights, divisor, multiplier)), domain)

    def _scales(self, gram: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scale = item_scale(gram)
        return scale**-self.config.item_power, scale**self.config.output_power


class SemanticEASE(EASE):
    """EASE drawn towards ``βS``, the items whose texts are near: ``B = P(G + λβS)`` with a zero diagonal.

    Items with few events are scored by the prior alone. Liked texts that are not in the catalogue and wishes in words
    enter through the space.
    """

    name: ClassVar[str] = "semantic-ease"
    config_type: ClassVar[type[SemanticEaseConfig]] = SemanticEaseConfig

    def __init__(self, config: SemanticEaseConfig | None = None) -> None:
        super().__init__(config or SemanticEaseConfig())
        self.config: SemanticEaseConfig
        self.space: Space | None = None
        self.vectors: Scores = np.empty((0, 0), dtype=np.float32)

    def fit_gram(
        self, domain: Domain, space: Space | None, gram: Matrix, counts: NDArray[np.int64] | None = None
    ) -> Self:
        """Solve on a Gram matrix over ``domain``'s catalogue; ``counts`` (default: the domain's own) say what is cold.

        Raises
        ------
        RecommenderError
            K404 without a space; K401-K403 as :func:`solve_ease`.
        """
        self._enter(space, domain)
        settings = self.config
        prior = semantic_prior(self.vectors, settings.neighbours)
        divisor, multiplier = self._scales(gram)
        weights = solve_ease(_divided(gram, divisor), settings.lambda_, prior, settings.beta)
        known = domain.item_counts if counts is None else counts
        weight = settings.beta if settings.cold_weight is None else settings.cold_weight
        cold_columns(weights, prior, weight, known, settings.cold_threshold, blend=settings.cold_blend)
        return self.adopt(_single(rescale(weights, divisor, multiplier)), domain)

    def restore(self, state: Mapping[str, NDArray[np.generic]], domain: Domain, space: Space | None) -> Self:
        """Adopt what an equal recommender learned; the catalogue's vectors come from ``space``."""
        super().restore(state, domain, space)
        self._enter(space, domain)
        return self

    def evidence(self, requests: Sequence[Request]) -> csr_matrix:
        """History items, and for each liked text the catalogue's nearest texts, together weighing one item."""
        known = super().evidence(requests)
        liked = [(row, text) for row, request in enumerate(requests) for text in request.liked]
        if not liked or self.space is None:
            return known
        soft = text_evidence(encode_wishes(self.space, [text for _, text in liked]), self.vectors)
        spread = csr_matrix(
            (np.ones(len(liked), dtype=np.float32), ([row for row, _ in liked], np.arange(len(liked)))),
            shape=(len(requests), len(liked)),
        )
        return csr_matrix(known + spread @ soft)

    def score(self, requests: Sequence[Request], candidates: NDArray[np.int32] | None = None) -> Scores:
        """Return ``float32[requests, candidates]``: evidence through the weights, then what the words say.

        A query adds the cosine to it, liked texts the cosine to their mean, by their share in all that is known. A
        cosine of 1 counts as much as the best score the evidence gives; without any, popularity only breaks near-ties.
        """
        worded = [row for row, request in enumerate(requests) if request.query or request.liked]
        scores = super().score(requests, candidates)
        for row in worded:
            chosen = slice(None) if candidates is None else candidates
            factor, similar = self._heard(requests[row])
            scores[row] *= factor
            for added in similar.values():
                scores[row] += added[chosen]
        return scores

    def attribute(self, request: Request, item: int) -> dict[str, NDArray[np.float64]]:
        """As :class:`LinearItemModel`, and ``liked`` ``float64[len(liked)]`` and ``query`` ``float64[1]`` if given."""
        parts = super().attribute(request, item)
        if not (request.query or request.liked):
            return parts
        factor, similar = self._heard(request)
        parts = {name: part * factor for name, part in parts.items()}
        if request.liked and self.space is not None:
            vectors = encode_wishes(self.space, request.liked)
            soft = text_evidence(vectors, self.vectors) @ self.column(item)
            cosine = vectors @ self.vectors[item]
            total = float(cosine.sum())
            shares = cosine / total if total else np.full(len(cosine), 1.0 / len(cosine))
            parts["liked"] = soft.astype(np.float64) * factor + shares * float(similar["liked"][item])
        if request.query:
            parts["query"] = np.array([similar["query"][item]], dtype=np.float64)
        return parts

    def _heard(self, request: Request) -> tuple[np.float32, dict[str, Scores]]:
        """What the evidence's scores are multiplied by, and what the words add, ``float32[items]`` each."""
        assert self.space is not None
        similar: dict[str, Scores] = {}
        if request.liked:
            share = len(request.liked) / (len(request.liked) + len(request.history))
            middle = _unit(encode_wishes(self.space, request.liked).mean(axis=0))
            similar["liked"] = np.float32(share) * (self.vectors @ middle)
        if request.query:
            similar["query"] = self.vectors @ encode_wishes(self.space, (request.query,))[0]
        greatest = float(np.abs(super().score([request])).max(initial=0.0)) or 1.0
        evident = len(request.history) > 0 or bool(request.liked)
        return np.float32((1.0 if evident else POPULARITY_SHARE) / greatest), similar

    def _enter(self, space: Space | None, domain: Domain) -> None:
        if space is None:
            raise RecommenderError("K404", f"{self.name} needs a semantic space.", "Open one with koinon.space.")
        evenness = self.config.evenness
        self.space = space if evenness is None else EvenedSpace(space, domain.texts, evenness)
        self.vectors = np.asarray(self.space.encode(domain.texts), dtype=np.float32)


POPULARITY_SHARE = 0.05
"""What the most popular item gains, in cosine, when there is a wish in words and nothing else."""


def _divided(gram: Matrix, divisor: NDArray[np.float64]) -> Matrix:
    """``D^-p G D^-p``, a copy; the matrix itself where nothing is divided."""
    return gram if (divisor == 1.0).all() else rescale(gram.copy(), divisor, divisor)


def _single(weights: Matrix) -> Scores:
    return weights.astype(np.float32, copy=False)


def _unit(vector: Scores) -> Scores:
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if norm > 0 else vector
