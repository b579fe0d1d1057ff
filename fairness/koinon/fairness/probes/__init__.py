"""Counterfactual probes: change what is said of a person, nothing else, and see whether the list changes.

:mod:`~koinon.fairness.probes.similarity` compares two lists, :mod:`~koinon.fairness.probes.counterfactual` asks a
recommender with and without the attribute and holds the lists against what people really took,
:mod:`~koinon.fairness.probes.association` asks the semantic space itself whom it places near what, and
:mod:`~koinon.fairness.probes.running` runs what an audit plan says.
"""

from koinon.fairness.probes.findings import Association, Counterfactual, Probes
from koinon.fairness.probes.plan import AssociationPlan, ProbePlan, ProbesPlan
from koinon.fairness.probes.similarity import jaccard, prag, serp

__all__ = [
    "Association",
    "AssociationPlan",
    "Counterfactual",
    "ProbePlan",
    "Probes",
    "ProbesPlan",
    "jaccard",
    "prag",
    "serp",
]
