"""The shared semantic space: encoders named by URI, a vector cache, neighbours, shared and private adapters.

``open_space()`` gives texts of any language a place in one space and encodes none of them twice. Adapters and LoRA
(``koinon.space.adapters``, ``koinon.space.lora``) are imported from their modules, as they bring in torch.
"""

from koinon.space.cached import CachedSpace, open_space
from koinon.space.encoders import DEFAULT_ENCODER, Encoder, open_encoder
from koinon.space.evened import EvenedSpace
from koinon.space.neighbours import nearest
from koinon.space.space import Space
from koinon.space.view import SpaceView

__all__ = [
    "DEFAULT_ENCODER",
    "CachedSpace",
    "Encoder",
    "EvenedSpace",
    "Space",
    "SpaceView",
    "nearest",
    "open_encoder",
    "open_space",
]
