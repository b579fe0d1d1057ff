"""The data contract: items, events, users; how they are read, checked, kept and divided.

A partner is a folder with a ``partner.toml`` and a vault of canonical Parquet. Files enter through
:mod:`koinon.data.ingest`, faults are named and quarantined, and everything later reads a :class:`Domain`.
"""

from koinon.data.domain import Domain, Interactions
from koinon.data.marks import Context, Marks
from koinon.data.partner import PartnerConfig
from koinon.data.split import EvaluationSet, Split, SplitConfig
from koinon.data.splitting import global_clock, make_split
from koinon.data.tables import Tables
from koinon.data.vault import Vault

__all__ = [
    "Context",
    "Domain",
    "EvaluationSet",
    "Interactions",
    "Marks",
    "PartnerConfig",
    "Split",
    "SplitConfig",
    "Tables",
    "Vault",
    "global_clock",
    "make_split",
]
