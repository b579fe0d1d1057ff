"""Fusion: a language model takes part in one stage of a conventional recommender's pipeline.

There is one working example for each stage. Every one states its place (:mod:`koinon.recommenders.fusion.place`) as the
class variable ``place``, obeys the one protocol and is imported from its own module.
"""

from koinon.recommenders.fusion.place import PLACES, Place, Where

__all__ = ["PLACES", "Place", "Where"]
