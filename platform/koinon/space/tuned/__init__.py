"""Encoders tuned to what goes together: a language model with LoRA, a compression prompt and a projection, as a folder.

:class:`TextNetwork` is what is tuned, :func:`save_tuned` keeps it, and ``open_encoder("tuned:<folder>")`` opens what is
kept as an encoder of the space, with LoRA merged into the weights. Tuning itself is
:mod:`koinon.recommenders.serial.notellm`.
"""

from koinon.space.tuned.encoder import TunedEncoder, open_tuned
from koinon.space.tuned.folder import MANIFEST, Manifest, read_tuned, save_tuned
from koinon.space.tuned.network import Asked, TextNetwork
from koinon.space.tuned.wording import COMPRESSION, Compression, CompressionConfig

__all__ = [
    "COMPRESSION",
    "MANIFEST",
    "Asked",
    "Compression",
    "CompressionConfig",
    "Manifest",
    "TextNetwork",
    "TunedEncoder",
    "open_tuned",
    "read_tuned",
    "save_tuned",
]
