"""Federated adapters: a projection of the semantic space and factors of known works, learned by all, used by each.

Three parts. **Shared, over the space**: a projection under which texts are near whose items people take together;
learned from sums over all partners, it reads any text, so it serves cold items and other languages. **Shared, over
works**: factors of the works that several partners list, learned by federated orthogonal iteration. **Private**: the
partner's own co-occurrence, its creators and editions, and how much it takes from the shared parts, chosen on its own
validation users. The parts meet in one closed form (EASE with a prior), in which the own events of an item outweigh
what others and texts say of it in proportion to their number.
"""

from koinon.recommenders.federated.adapters._config import AdaptersConfig
from koinon.recommenders.federated.adapters._partner import FederatedAdapters
from koinon.recommenders.federated.adapters._plan import AdaptersPlan

__all__ = ["AdaptersConfig", "AdaptersPlan", "FederatedAdapters"]
