"""A partner's part in a secure sum: its state between the steps, and the mask that its tensors get at the door.

The steps are small and need neither data nor PyTorch, so the ClientApp takes them itself. What must be remembered
between two of them lies in the partner's own folder, readable by its owner alone, and is gone after the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from koinon.clients.home import Home
from koinon.clients.wire import Agreement, SecureStep
from koinon.errors import PrivacyError
from koinon.privacy.secure_sum import (
    Partner,
    Session,
    destroy_state,
    layout,
    load_state,
    rules,
    save_state,
    signed_by_member,
    verified_by,
)
from koinon.privacy.secure_sum.roll import Signer, Verifier
from koinon.privacy.signing import Verifier as LedgerKey
from koinon.recommenders.protocol import TensorSpec

__all__ = ["Masking"]


class Masking:
    """One partner in one secure sum, across the processes that take its steps.

    Parameters
    ----------
    home
        The partner.
    run
        The federation's run.
    agreement
        The policy that the partner has accepted.
    step
        What the server says of the sum.

    Raises
    ------
    PrivacyError
        K613 the policy knows of no secure sums; later K620-K634 as :mod:`koinon.privacy.secure_sum`.
    """

    def __init__(self, home: Home, run: str, agreement: Agreement, step: SecureStep) -> None:
        if not agreement.secure or step.learner not in agreement.learners:
            raise PrivacyError("K613", "A secure sum was asked for that the policy does not know.", "Ask the operator.")
        self.home = home
        self.step = step
        self.session = Session(run, step.round, agreement.sha256, f"{step.learner}/{step.attempt}")
        self.rules = rules(agreement.minimum_participants)
        self._path: Path = home.run_folder(run) / "secure" / f"{step.learner}-{step.round}-{step.attempt}.state"

    def keys(self) -> bytes:
        """Draw fresh keys for this sum; states of rounds before the last go, and those of failed attempts."""
        for old in self._path.parent.glob(f"{self.step.learner}-*.state"):
            if int(old.stem.split("-")[1]) != self.step.round - 1:
                destroy_state(old)
        partner, said = Partner.begin(self.session, self.rules, self.home.name, self._signer())
        save_state(self._path, partner.state())
        return said

    def share(self) -> bytes:
        """Learn the neighbours, and share the own seeds among them."""
        partner = self._partner()
        said = partner.share(self.step.said, self._verifier())
        save_state(self._path, partner.state())
        return said

    def mask(
        self, specs: Sequence[TensorSpec], tensors: Mapping[str, NDArray[np.generic]], users: int
    ) -> NDArray[np.uint8]:
        """Turn tensors and the number of people into masked words, ``uint8[bytes]``: noise to whoever reads them."""
        partner = self._partner()
        words = layout(specs, self.step.parties).pack(tensors, users)
        masked = partner.mask(self.step.said, words)
        save_state(self._path, partner.state())
        return np.frombuffer(masked, dtype=np.uint8)

    def agree(self) -> bytes:
        """Sign who is in the sum.

        Raises
        ------
        PrivacyError
            K635 as :mod:`koinon.privacy.secure_sum`; also where this partner has no key to sign with.
        """
        sign = self._signer()
        if sign is None:
            raise PrivacyError("K635", "This partner is no member and has nothing to sign with.", "Ask the operator.")
        partner = self._partner()
        said = partner.agree(self.step.said, sign)
        save_state(self._path, partner.state())
        return said

    def unmask(self) -> bytes:
        """Answer the server's claim with shares of seeds, once."""
        partner = self._partner()
        said = partner.unmask(self.step.said, self._verifier())
        destroy_state(self._path)
        return said

    def _signer(self) -> Signer | None:
        """A member signs its keys; partners of one machine have none to sign with."""
        if not self.home.ledger_key:
            return None
        from koinon.clients.keys import Keys

        return signed_by_member(Keys(self.home.folder).member)

    def _verifier(self) -> Verifier | None:
        """A member believes the keys of members alone, as its own copy of the ledger names them."""
        if not self.home.ledger_key:
            return None
        from koinon.clients.ledger_copy import LedgerCopy

        return verified_by(LedgerCopy(self.home.folder, LedgerKey(self.home.ledger_key)).members())

    def _partner(self) -> Partner:
        return Partner.restore(load_state(self._path))
