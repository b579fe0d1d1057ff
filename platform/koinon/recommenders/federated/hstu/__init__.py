"""Federated HSTU: one sequence network learned by partners that share no item, each with a private part of its own.

**Shared**: what reads a history (blocks, biases by position) and what turns a text of the space into an item's vector;
:mod:`koinon.recommenders.federated.hstu.parts` names it. **Private**: free vectors of the partner's own items, its bias
by time, its heads; they stay in its folder. In a round every partner takes a few steps from the release and sends the
weighted change of the shared part; sums of changes and of weights are all that the server needs. After the last round a
partner fine-tunes everything at home and mixes in its own closed-form model as far as its validation users favour it.
"""

from koinon.recommenders.federated.hstu._config import FederatedHSTUConfig
from koinon.recommenders.federated.hstu._partner import FederatedHSTU
from koinon.recommenders.federated.hstu._plan import HSTUPlan

__all__ = ["FederatedHSTU", "FederatedHSTUConfig", "HSTUPlan"]
