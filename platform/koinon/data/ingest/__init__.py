"""From a partner's files and databases to raw tables, and from raw tables to the vault.

Every reader gives each row its place in the source, sets rows that cannot be read apart instead of failing on them,
and fails with one clear error when the source as a whole cannot be used.
"""

from koinon.data.ingest.raw import RawTable
from koinon.data.ingest.sources import list_columns, read_source

__all__ = ["RawTable", "list_columns", "read_source"]
