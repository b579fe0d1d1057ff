"""Recommenders of every paradigm behind one protocol."""

from koinon.recommenders.protocol import (
    Catalogue,
    Contribution,
    FederatedRecommender,
    FederationPlan,
    Recommendation,
    Recommender,
    Release,
    Request,
    Task,
    TensorSpec,
)

__all__ = [
    "Catalogue",
    "Contribution",
    "FederatedRecommender",
    "FederationPlan",
    "Recommendation",
    "Recommender",
    "Release",
    "Request",
    "Task",
    "TensorSpec",
]
