"""Scoring: what texts say counts where events say little.

:class:`Gated` adds a score of texts (the space's similarity, or a language model's likelihood) to a conventional
recommender's, by a weight that falls with the candidate's and the person's events (:class:`Gate`). :func:`tune_gate`
finds the gate on validation; where none is worth it the weight is 0, and nobody reads a text.
"""

from koinon.recommenders.fusion.scoring._config import Gate, GatedConfig
from koinon.recommenders.fusion.scoring.gated import Gated
from koinon.recommenders.fusion.scoring.sources import Evidence, Likelihood, Similarity, Source
from koinon.recommenders.fusion.scoring.tuning import TunedGate, tune_gate

__all__ = ["Evidence", "Gate", "Gated", "GatedConfig", "Likelihood", "Similarity", "Source", "TunedGate", "tune_gate"]
