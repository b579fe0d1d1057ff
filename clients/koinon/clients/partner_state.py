"""A partner's data as its learners need it: vault → split → domain and space, read once and kept warm."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from koinon.clients.home import Home
from koinon.clients.wire import Agreement
from koinon.data import Domain, Split, Vault, make_split
from koinon.errors import PrivacyError
from koinon.privacy import read_match_key
from koinon.recommenders.federated.identities import catalogue_of
from koinon.recommenders.protocol import Catalogue
from koinon.space import Space

__all__ = ["PartnerState", "Partners"]


@dataclass
class PartnerState:
    """One partner's data under one policy.

    Attributes
    ----------
    home
        The partner's folder.
    vault
        Its vault.
    agreement
        What the federation has agreed on: it decides on split and encoder.
    """

    home: Home
    vault: Vault
    agreement: Agreement

    @cached_property
    def split(self) -> Split:
        """Train, validation and test."""
        return make_split(self.home.name, self.vault.tables(), self.agreement.split)

    @property
    def domain(self) -> Domain:
        """The training domain: the only events a learner sees."""
        return self.split.train

    @cached_property
    def space(self) -> Space | None:
        """The pinned encoder over this partner's vector cache; ``None`` where the federation has none.

        Raises
        ------
        PrivacyError
            K644 the encoder installed here is not the one the policy pins.
        """
        uri, pinned = self.agreement.encoder, self.agreement.encoder_sha256
        if uri == "none":
            return None
        space = _space(uri)
        if pinned and space.fingerprint != pinned:
            raise PrivacyError(
                "K644",
                f"The encoder {uri} here ({space.fingerprint[:12]}) is not the one the policy pins ({pinned[:12]}).",
                "Fetch the very weights that the operator names; vectors of two encoders do not compare.",
            )
        return space

    @property
    def public(self) -> bool:
        """Whether the partner itself has declared its catalogue public."""
        return self.vault.config.catalogue == "public"

    @cached_property
    def key(self) -> bytes | None:
        """The partners' secret, where the federation uses keyed hashes."""
        return read_match_key(self.home.folder) if self.agreement.keyed_catalogues else None

    def catalogue(self) -> Catalogue:
        """What this partner tells of its items: every one it lists, whether or not anybody has taken it.

        The training domain's catalogue is narrowed by events; telling that one would tell of them.
        """
        items = self.vault.tables().items.sort("item_id")
        return catalogue_of(self.home.name, items, public=self.public, match_key=self.key)


@lru_cache(maxsize=2)
def _space(uri: str) -> Space:
    """Open an encoder once, however many partners of a simulation use it."""
    from koinon.space import open_space

    return open_space(uri)


class Partners:
    """Partner states kept warm by a process that serves one partner, or in the simulation several.

    Parameters
    ----------
    keep
        How many are kept; the one used longest ago makes room.
    """

    def __init__(self, keep: int = 16) -> None:
        self._keep = keep
        self._states: OrderedDict[tuple[Path, str, str], PartnerState] = OrderedDict()

    def open(self, home: Home, agreement: Agreement) -> PartnerState:
        """Return the partner's state, read anew if its vault or the policy has changed."""
        vault = Vault.open(home.folder)
        key = (home.folder, agreement.sha256, vault.fingerprint())
        for stale in [k for k in self._states if k[0] == home.folder and k != key]:
            del self._states[stale]
        state = self._states.pop(key, None) or PartnerState(home, vault, agreement)
        self._states[key] = state
        while len(self._states) > self._keep:
            self._states.popitem(last=False)
        return state
