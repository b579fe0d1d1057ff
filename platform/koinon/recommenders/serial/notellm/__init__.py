"""NoteLLM (Zhang et al. 2024, arXiv 2403.01744): an encoder tuned so that texts lie close whose items go together.

Pairs of items that the same people took (:func:`co_occurrences`) are pulled together by a contrastive loss, and a
decoder also learns to say an item's category or tags. What is tuned is a :class:`koinon.space.tuned.TextNetwork`; the
result is a folder that ``open_encoder("tuned:<folder>")`` opens. :func:`tune_space` does it all for one split. As a
recommender, :class:`NoteLLM` learns the map alone, over any space, from the events that it is fitted on.

The training core stands alone, for whoever shares what is tuned::

    network = TextNetwork(open_encoder("minilm-english"), CompressionConfig(text_tokens=48))
    learner = PairLearner(network, texts, LearnerConfig(learning_rate=1e-3), together=pairs.together, seed=0)
    losses = learner.steps(pairs.left, pairs.right, 20)  # mean loss of each of 20 batches of config.batch_pairs
    update = network.shared_state()  # name -> float32 array: LoRA A and B, projection, the word's embedding
    network.load_shared(update)

``left`` and ``right`` are rows of ``texts``. Optimiser and draws stay with the learner from call to call;
``learner.named_tuned()`` lists the live parameters that are trained (freeze one by ``requires_grad_(False)`` before
the learner is made).
"""

from koinon.recommenders.serial.notellm._config import LearnerConfig, MapConfig, PairConfig, TuneConfig
from koinon.recommenders.serial.notellm.learner import PairLearner
from koinon.recommenders.serial.notellm.losses import contrastive_loss
from koinon.recommenders.serial.notellm.pairs import Pairs, co_occurrences
from koinon.recommenders.serial.notellm.recall import ItemPairs, held_out_pairs, item_recall
from koinon.recommenders.serial.notellm.recommender import NoteLLM, NoteLLMConfig
from koinon.recommenders.serial.notellm.tuning import Tuned, tune_space

__all__ = [
    "ItemPairs",
    "LearnerConfig",
    "MapConfig",
    "NoteLLM",
    "NoteLLMConfig",
    "PairConfig",
    "PairLearner",
    "Pairs",
    "TuneConfig",
    "Tuned",
    "co_occurrences",
    "contrastive_loss",
    "held_out_pairs",
    "item_recall",
    "tune_space",
]
