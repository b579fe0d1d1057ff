"""Encoders tuned to what goes together: a language model with LoRA, a compression prompt and a map, as a folder.

:class:`TextNetwork` is what is tuned, or :class:`MappedNetwork` where only the map is; :func:`save_tuned` keeps it, and
``open_encoder("tuned:<folder>")`` opens what is kept as an encoder of the space, with LoRA merged into the weights.
Tuning itself is :mod:`koinon.recommenders.serial.notellm`.
"""

from koinon.space.tuned.encoder import TunedEncoder, open_tuned
from koinon.space.tuned.folder import MANIFEST, Manifest, read_tuned, save_tuned
from koinon.space.tuned.mapped import MappedNetwork, StateMap
from koinon.space.tuned.network import Asked, TextNetwork, network_over
from koinon.space.tuned.wording import COMPRESSION, Compression, CompressionConfig

__all__ = [
    "COMPRESSION",
    "MANIFEST",
    "Asked",
    "Compression",
    "CompressionConfig",
    "Manifest",
    "MappedNetwork",
    "StateMap",
    "TextNetwork",
    "TunedEncoder",
    "network_over",
    "open_tuned",
    "read_tuned",
    "save_tuned",
]
