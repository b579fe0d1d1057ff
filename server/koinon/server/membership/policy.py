"""A federation's policy over time: who opens the registry, and what happens when the operator changes the terms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from koinon.config import write_atomically
from koinon.errors import ConfigError
from koinon.privacy.ledger.kinds import Kind
from koinon.server.federation import Terms
from koinon.server.membership.home import FederationHome, in_full
from koinon.server.membership.registry import Registry
from koinon.server.state import LedgerBook

__all__ = ["change_policy", "open_registry"]


@contextmanager
def open_registry(home: FederationHome) -> Iterator[Registry]:
    """Open a federation's registry and its ledger.

    A policy file that was edited by hand goes on record here.

    Raises
    ------
    FederationError
        K770-K775 the state or the signing key cannot be used.
    """
    store = home.open_store()
    try:
        registry = Registry(LedgerBook(store, home.authority.signer()))
        _record(registry, home.terms())
        yield registry
    finally:
        store.close()


def change_policy(home: FederationHome, registry: Registry, terms: Terms) -> bool:
    """Give a federation other terms; whether its policy is another now.

    Members have pinned the old policy: until they accept the new one their nodes answer K611 and work for nobody.

    Raises
    ------
    ConfigError
        K117 the terms are those of another federation.
    """
    before = home.terms()
    if terms.name != before.name:
        raise ConfigError(
            "K117", f"These are the terms of {terms.name}, not of {before.name}.", "A federation keeps its name."
        )
    write_atomically(home.policy_file, in_full(terms))
    _record(registry, terms)
    return terms.policy_sha256() != before.policy_sha256()


def _record(registry: Registry, terms: Terms) -> None:
    """Put the policy on record, unless the last one recorded is the same."""
    now = terms.policy_sha256()
    book = registry.book
    changed = book.last(Kind.POLICY_CHANGED, terms.name)
    last = changed or book.last(Kind.FEDERATION_CREATED, terms.name)
    before = last.body["policy_sha256"] if last else now
    if before != now:
        book.append(Kind.POLICY_CHANGED, terms.name, before_sha256=before, policy_sha256=now)
