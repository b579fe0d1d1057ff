"""Conventional recommenders: popularity, item neighbours, factorisations, and EASE with or without the space as prior.

:func:`solve_ease` is the closed form by itself, for Gram matrices that come from elsewhere (a federation's sum).
"""

from koinon.recommenders.conventional._bpr import BPR, BPRConfig
from koinon.recommenders.conventional._ease import EASE, EaseConfig, SemanticEASE, SemanticEaseConfig
from koinon.recommenders.conventional._ials import IALS, IALSConfig
from koinon.recommenders.conventional._knn import ItemKNN, ItemKNNConfig
from koinon.recommenders.conventional._linear import LinearConfig, LinearItemModel
from koinon.recommenders.conventional._popularity import Popularity, PopularityConfig, popularity_prior
from koinon.recommenders.conventional._prior import encode_wishes, nearest_texts, semantic_prior, text_evidence
from koinon.recommenders.conventional._similarity import TextSimilarity, TextSimilarityConfig
from koinon.recommenders.conventional._solve import (
    EaseParts,
    cold_columns,
    ease_parts,
    gram_matrix,
    item_scale,
    solve_ease,
)

__all__ = [
    "BPR",
    "EASE",
    "IALS",
    "BPRConfig",
    "EaseConfig",
    "EaseParts",
    "IALSConfig",
    "ItemKNN",
    "ItemKNNConfig",
    "LinearConfig",
    "LinearItemModel",
    "Popularity",
    "PopularityConfig",
    "SemanticEASE",
    "SemanticEaseConfig",
    "TextSimilarity",
    "TextSimilarityConfig",
    "cold_columns",
    "ease_parts",
    "encode_wishes",
    "gram_matrix",
    "item_scale",
    "nearest_texts",
    "popularity_prior",
    "semantic_prior",
    "solve_ease",
    "text_evidence",
]
