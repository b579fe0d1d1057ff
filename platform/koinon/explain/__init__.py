"""Grounded explanations: the parts of a score, named by what the request holds."""

from koinon.explain.reasons import Additive, Reason, Spatial, explain

__all__ = ["Additive", "Reason", "Spatial", "explain"]
