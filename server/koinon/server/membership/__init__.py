"""Who belongs to a federation: its keys, its invitations, its members, and the service by which they come and go."""

from koinon.server.membership.authority import Authority
from koinon.server.membership.home import Address, FederationHome, HostConfig, draft
from koinon.server.membership.policy import change_policy, open_registry
from koinon.server.membership.records import Invited, Member, State
from koinon.server.membership.registry import Registry

__all__ = [
    "Address",
    "Authority",
    "FederationHome",
    "HostConfig",
    "Invited",
    "Member",
    "Registry",
    "State",
    "change_policy",
    "draft",
    "open_registry",
]
