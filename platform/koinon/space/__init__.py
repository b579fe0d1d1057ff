"""The shared semantic space: encoders named by URI, a vector cache, shared and private adapters."""

from koinon.space.space import Space

__all__ = ["Space"]
