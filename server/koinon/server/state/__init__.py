"""What a federation's server remembers: its database, the ledger, the releases, and copies of them for a bad day."""

from koinon.server.state.ledger_book import LedgerBook, read_book
from koinon.server.state.store import Base, Store, open_store

__all__ = ["Base", "LedgerBook", "Store", "open_store", "read_book"]
