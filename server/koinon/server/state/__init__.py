"""What a federation's server remembers: its database, the ledger, the releases, and copies of them for a bad day."""

from koinon.server.state.store import Base, Store, open_store

__all__ = ["Base", "Store", "open_store"]
