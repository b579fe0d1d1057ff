"""Federated LoRA: one encoder tuned by partners that show each other neither their items nor who took what.

Every layer's change is ``B A``. **Frozen and common**: ``A``, drawn from the federation's seed with orthonormal rows.
**Shared**: ``B``, of all layers in one tensor. Since ``A`` is the same everywhere, the mean of the partners' ``B``
gives exactly the mean of their products ``B A`` (Sun et al. 2024, "Improving LoRA in privacy-preserving federated
learning", arXiv 2403.12313), and a mean of sums is what a secure sum can give; averaging ``A`` and ``B`` apart gives
another product. **Private**: a second LoRA beside it, the loss's temperature, and the pairs of items that go together;
they stay in the partner's folder. After the last round a partner reads its catalogue through the tuned encoder and
takes that into its closed-form model as far as its validation users favour it.
"""

from koinon.recommenders.federated.lora._config import FederatedLoraConfig
from koinon.recommenders.federated.lora._network import AdaptedSpace, TwoLoras
from koinon.recommenders.federated.lora._partner import FederatedLora
from koinon.recommenders.federated.lora._plan import UP, LoraPlan

__all__ = ["UP", "AdaptedSpace", "FederatedLora", "FederatedLoraConfig", "LoraPlan", "TwoLoras"]
