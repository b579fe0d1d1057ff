"""Sequence recommenders: SASRec, HSTU and generative retrieval, with training that survives being killed.

Items are free vectors, texts of the semantic space, code words, or sums of these: one item-encoder interface. Histories
are read by three rules: out of order in time is put in order, what the catalogue does not hold is skipped, the newest
``length`` count.
"""

from koinon.recommenders.fitting import Epoch, Progress, Training
from koinon.recommenders.sequential._config import (
    GenerativeConfig,
    HSTUConfig,
    SASRecConfig,
    SequenceConfig,
    TrainingConfig,
)
from koinon.recommenders.sequential.cached import HistoryCache
from koinon.recommenders.sequential.generative import Generative
from koinon.recommenders.sequential.recommender import HSTU, SASRec, SequenceRecommender
from koinon.recommenders.sequential.trainer import fit_histories

__all__ = [
    "HSTU",
    "Epoch",
    "Generative",
    "GenerativeConfig",
    "HSTUConfig",
    "HistoryCache",
    "Progress",
    "SASRec",
    "SASRecConfig",
    "SequenceConfig",
    "SequenceRecommender",
    "Training",
    "TrainingConfig",
    "fit_histories",
]
