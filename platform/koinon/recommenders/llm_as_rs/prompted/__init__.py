"""A language model that is prompted, not trained: it reranks what a conventional recommender puts first.

:class:`PromptedRanker` asks how much likelier each candidate becomes once the history is known (``pointwise``), or
which of a few candidates comes next (``choice``: two at a time is pairwise, more is listwise), by log-probabilities
alone.
:func:`tune_weight` finds how much that is worth beside the conventional score, on validation.
"""

from koinon.recommenders.llm_as_rs.prompted._config import PromptedConfig, Wording
from koinon.recommenders.llm_as_rs.prompted._endpoint import Endpoint
from koinon.recommenders.llm_as_rs.prompted._ranker import PromptedRanker
from koinon.recommenders.llm_as_rs.reranking import Parts
from koinon.recommenders.llm_as_rs.texts import clean, said
from koinon.recommenders.llm_as_rs.weighing import WEIGHTS, TunedWeight, tune_weight

__all__ = [
    "WEIGHTS",
    "Endpoint",
    "Parts",
    "PromptedConfig",
    "PromptedRanker",
    "TunedWeight",
    "Wording",
    "clean",
    "said",
    "tune_weight",
]
