"""Recommenders some of whose parameters are shared: their plans at the server, their halves at the partners.

A federation names them through :mod:`koinon.recommenders.federated.registry`. Federated Gram sums co-occurrence over
agreed pairs of works, federated adapters learn a shared projection of the space; both match items to works by
:mod:`koinon.recommenders.federated.identities`. A federated codebook gives items that nobody shares one vocabulary.
The names below are imported when they are first asked for.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "FederatedGram": "gram",
    "GramConfig": "gram",
    "GramPlan": "gram",
    "Identities": "identities",
    "catalogue_of": "identities",
    "match_identities": "identities",
}

__all__ = ["FederatedGram", "GramConfig", "GramPlan", "Identities", "catalogue_of", "match_identities"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
