"""A language model tuned to say whether somebody will like an item: TALLRec's protocol, few-shot LoRA.

:mod:`~koinon.recommenders.llm_as_rs.tuned.samples` draws what somebody liked and disliked before, and what came next;
:class:`Asking` puts it into words; :class:`LowRankDecoder` is the decoder with LoRA in its last layers;
:func:`tune_decoder` trains it on the answer alone. :class:`TunedRanker` is all of it behind the one protocol.
"""

from koinon.recommenders.llm_as_rs.tuned._asking import Asking, LikingWords
from koinon.recommenders.llm_as_rs.tuned._config import TunedConfig, TuningConfig
from koinon.recommenders.llm_as_rs.tuned._low_rank import LowRankDecoder
from koinon.recommenders.llm_as_rs.tuned._ranker import TunedRanker
from koinon.recommenders.llm_as_rs.tuned._training import Asked, tune_decoder
from koinon.recommenders.llm_as_rs.tuned.samples import Samples, drawn_samples, judged_samples

__all__ = [
    "Asked",
    "Asking",
    "LikingWords",
    "LowRankDecoder",
    "Samples",
    "TunedConfig",
    "TunedRanker",
    "TuningConfig",
    "drawn_samples",
    "judged_samples",
    "tune_decoder",
]
