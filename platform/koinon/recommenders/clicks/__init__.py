"""Click models: how likely a person likes an item, told from fields of both; and CTRL, which lends them words.

Logistic regression, boosted trees, DeepFM, DCNv2 and AutoInt learn from :class:`ClickData`. With an
:class:`AlignmentConfig` a network is first aligned with a language model (CTRL); served is the same network. Among the
paradigms this is serial: LLM tokens to a conventional model.
"""

from koinon.recommenders.clicks._config import (
    AlignmentConfig,
    AutoIntConfig,
    DCNv2Config,
    DeepFMConfig,
    ExpertsConfig,
    LogisticConfig,
    NetworkConfig,
    TreesConfig,
)
from koinon.recommenders.clicks.models import AutoInt, ClickModel, DCNv2, DeepFM
from koinon.recommenders.clicks.rows import ClickData, Rows, Side, click_data, with_told
from koinon.recommenders.clicks.training import CLICK_MODELS, Measured, build_clicks, train_clicks

__all__ = [
    "CLICK_MODELS",
    "AlignmentConfig",
    "AutoInt",
    "AutoIntConfig",
    "ClickData",
    "ClickModel",
    "DCNv2",
    "DCNv2Config",
    "DeepFM",
    "DeepFMConfig",
    "ExpertsConfig",
    "LogisticConfig",
    "Measured",
    "NetworkConfig",
    "Rows",
    "Side",
    "TreesConfig",
    "build_clicks",
    "click_data",
    "train_clicks",
    "with_told",
]
