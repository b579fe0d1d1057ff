"""Feature encoder: frozen text vectors enter a sequence recommender through an adaptor learned over several domains.

:class:`UniSRec` is a sequence recommender whose item encoder is a mixture of whitening maps (:class:`AdaptorItems`).
:func:`pretrain` learns adaptor and sequence network on several domains at once; the weights (:class:`Initial`) are
where another domain begins, with all of it going on to learn or the adaptor alone.
"""

from koinon.recommenders.fusion.feature_encoder._config import UniSRecConfig
from koinon.recommenders.fusion.feature_encoder.adaptor import AdaptorItems
from koinon.recommenders.fusion.feature_encoder.initial import Initial
from koinon.recommenders.fusion.feature_encoder.pooling import pooled
from koinon.recommenders.fusion.feature_encoder.recommender import UniSRec, pretrain

__all__ = ["AdaptorItems", "Initial", "UniSRec", "UniSRecConfig", "pooled", "pretrain"]
