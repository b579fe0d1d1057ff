"""The ledger's format: what an entry is, how it is hashed, chained and signed, and how a ledger is verified.

Server, partners and auditors share it. Where the server keeps its ledger is :mod:`koinon.server.state`'s affair, where
a partner keeps its copy :mod:`koinon.clients.ledger_copy`'s.
"""

from koinon.privacy.ledger.entry import GENESIS, Entry, read_lines
from koinon.privacy.ledger.members import member_keys
from koinon.privacy.ledger.verifying import Fault, Findings, verify

__all__ = ["GENESIS", "Entry", "Fault", "Findings", "member_keys", "read_lines", "verify"]
