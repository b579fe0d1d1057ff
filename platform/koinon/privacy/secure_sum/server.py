"""The server's half of a secure sum: it routes, adds masked words as they come, and learns the total alone.

Beside one running sum it holds keys and shares, so its memory does not grow with the size of all updates together.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from koinon.errors import FederationError, PrivacyError
from koinon.privacy.secure_sum.masks import Words, add_masks, agree, derive, private_key, public_bytes, word_type
from koinon.privacy.secure_sum.messages import (
    Assent,
    Claim,
    Cohort,
    Delivery,
    Keys,
    Member,
    Roll,
    Shares,
    Unmask,
    read_masked,
)
from koinon.privacy.secure_sum.partner import own_mask_key, pair_mask_key
from koinon.privacy.secure_sum.roll import Verifier, roll_bytes
from koinon.privacy.secure_sum.rules import Graph, Rules, Session
from koinon.privacy.secure_sum.sharing import combine, number_of

__all__ = ["Server"]

Said = TypeVar("Said", Keys, Shares, Assent, Unmask)


class Server:
    """The server in one secure sum.

    The steps, in order: :meth:`take_keys` of each, :meth:`cohorts`; :meth:`take_shares` of each, :meth:`deliveries`;
    :meth:`take_masked` of each, :meth:`rolls`; where that gives any :meth:`take_assent` of each; :meth:`claims`;
    :meth:`take_unmask` of each, :meth:`total`. Whoever has not been taken
    when a step is closed has dropped out. A ``take_`` that raises has taken nothing: leave that partner out.

    Parameters
    ----------
    session, rules
        The sum; the same at every partner.
    verify
        Checks the signatures of the members' keys.
    """

    def __init__(self, session: Session, rules: Rules, verify: Verifier | None = None) -> None:
        self.session = session
        self.rules = rules
        self._verify = verify
        self._phase = "keys"
        self._keys: dict[str, Keys] = {}
        self._names: list[str] = []
        self._holders: dict[str, tuple[str, ...]] = {}
        self._boxes: dict[str, dict[str, bytes]] = {}
        self._sharers: set[str] = set()
        self._sum: Words = np.empty(0, dtype=word_type(32))
        self._contributors: set[str] = set()
        self._assents: dict[str, Assent] = {}
        self._answers: dict[str, Unmask] = {}

    @property
    def contributors(self) -> tuple[str, ...]:
        """Whose words are in the sum, by name."""
        return tuple(sorted(self._contributors))

    def take_keys(self, partner: str, said: bytes) -> None:
        """Take a partner's public keys.

        Raises
        ------
        FederationError
            K743 the message cannot be used, K744 out of turn.
        """
        self._expect("keys")
        keys = self._read(Keys, partner, said, self._keys)
        if self._verify is not None and not self._verify(partner, keys.signed(), keys.signature):
            raise _refused(partner, "its keys are not signed by it")
        taken = {key for other in self._keys.values() for key in (other.channel, other.mask)}
        if keys.channel == keys.mask or {keys.channel, keys.mask} & taken:
            raise _refused(partner, "its keys are there already")
        try:
            for key in (keys.channel, keys.mask):
                agree(X25519PrivateKey.generate(), key)
        except PrivacyError as error:
            raise _refused(partner, "its keys are degenerate") from error
        self._keys[partner] = keys

    def cohorts(self) -> dict[str, bytes]:
        """Close the keys; give each partner's ``cohort`` message.

        Raises
        ------
        FederationError
            K740 fewer partners than the rules' minimum, K744 out of turn.
        """
        self._expect("keys")
        self._at_least(len(self._keys))
        self._phase = "shares"
        names = self._names = sorted(self._keys)
        graph = Graph(self.session, len(names), self.rules.degree(len(names)))
        members = [Member(index=index, keys=self._keys[name]) for index, name in enumerate(names)]
        self._holders = {name: tuple(names[h] for h in graph.holders(index)) for index, name in enumerate(names)}
        return {
            name: Cohort(
                session=self.session.digest,
                receiver=name,
                size=len(names),
                index=index,
                neighbours=tuple(members[neighbour] for neighbour in graph.neighbours(index)),
            ).to_bytes()
            for index, name in enumerate(names)
        }

    def take_shares(self, partner: str, said: bytes) -> None:
        """Take a partner's sealed shares.

        Raises
        ------
        FederationError
            K743, K744 as :meth:`take_keys`.
        """
        self._expect("shares")
        self._known(partner, self._keys)
        shares = self._read(Shares, partner, said, self._boxes)
        if shares.boxes.keys() != set(self._holders[partner]) - {partner}:
            raise _refused(partner, "its shares are not for its neighbours")
        self._boxes[partner] = shares.boxes

    def deliveries(self, count: int, bits: int = 32) -> dict[str, bytes]:
        """Close the shares, open a sum of ``count`` words; give each partner's ``delivery`` message.

        Raises
        ------
        FederationError
            K740, K744 as :meth:`cohorts`, K741 of some partner's neighbours too few have shared.
        PrivacyError
            K622 words of neither 32 nor 64 bits.
        """
        self._expect("shares")
        self._at_least(len(self._boxes))
        self._enough_around(self._boxes.keys(), self._boxes.keys(), self.rules.needed(len(self._names)))
        self._sum = np.zeros(count, dtype=word_type(bits))
        self._phase = "masked"
        self._sharers, boxes, self._boxes = set(self._boxes), self._boxes, {}
        return {
            name: Delivery(
                session=self.session.digest,
                receiver=name,
                boxes={h: boxes[h][name] for h in self._holders[name] if h != name and h in boxes},
            ).to_bytes()
            for name in sorted(boxes)
        }

    def take_masked(self, partner: str, said: bytes | bytearray | memoryview) -> None:
        """Add a partner's masked words to the sum, where they lie; the message is not kept.

        Raises
        ------
        FederationError
            K743, K744 as :meth:`take_keys`.
        """
        self._expect("masked")
        self._known(partner, self._sharers)
        if partner in self._contributors:
            raise _refused(partner, "it has answered already")
        try:
            words = read_masked(said, self.session, partner, len(self._sum), 8 * self._sum.dtype.itemsize)
        except PrivacyError as error:
            raise _refused(partner, error.message) from error
        np.add(self._sum, words, out=self._sum)
        self._contributors.add(partner)

    def rolls(self) -> dict[str, bytes]:
        """Close the sum; give each contributor's ``roll`` message, or none where all see each other or none signs.

        Raises
        ------
        FederationError
            K740, K744 as :meth:`cohorts`, K741 of some partner's neighbours too few have answered.
        """
        self._expect("masked")
        self._enough_left(self._contributors)
        self._phase = "agreed"
        if self._verify is None or not self.rules.sparse(len(self._names)):
            return {}
        names = self.contributors
        return {name: Roll(session=self.session.digest, receiver=name, names=names).to_bytes() for name in names}

    def take_assent(self, partner: str, said: bytes) -> None:
        """Take a contributor's signature of the roll.

        Raises
        ------
        FederationError
            K743, K744 as :meth:`take_keys`.
        """
        self._expect("agreed")
        self._known(partner, self._contributors)
        assent = self._read(Assent, partner, said, self._assents)
        signed = roll_bytes(self.session, self.contributors)
        if self._verify is None or not self._verify(partner, signed, assent.signature):
            raise _refused(partner, "its list of contributors is not signed by it")
        self._assents[partner] = assent

    def claims(self) -> dict[str, bytes]:
        """Give the ``claim`` message of each contributor, where there were rolls of each that has signed its own.

        Raises
        ------
        FederationError
            K740, K744 as :meth:`cohorts`, K741 of some partner's neighbours too few have answered.
        """
        if self._phase == "masked":
            self.rolls()
        self._expect("agreed")
        signing = self._verify is not None and self.rules.sparse(len(self._names))
        asked = sorted(self._assents) if signing else self.contributors
        self._enough_left(asked)
        self._phase = "unmask"
        return {
            name: Claim(
                session=self.session.digest,
                receiver=name,
                alive=tuple(h for h in self._holders[name] if h in self._contributors),
                dropped=tuple(h for h in self._holders[name] if h in self._sharers - self._contributors),
                assents=self._assents_for(name),
            ).to_bytes()
            for name in asked
        }

    def take_unmask(self, partner: str, said: bytes) -> None:
        """Take a contributor's shares of its neighbours' seeds.

        Raises
        ------
        FederationError
            K743, K744 as :meth:`take_keys`.
        """
        self._expect("unmask")
        self._known(partner, self._contributors)
        answer = self._read(Unmask, partner, said, self._answers)
        around = set(self._holders[partner]) & self._sharers
        if answer.alive.keys() != around & self._contributors or answer.dropped.keys() != around - self._contributors:
            raise _refused(partner, "its shares are not those asked for")
        for owner, share in (answer.alive | answer.dropped).items():
            if number_of(share) != self._holders[owner].index(partner) + 1:
                raise _refused(partner, f"its share of {owner}'s seed bears another's number")
        self._answers[partner] = answer

    def total(self) -> Words:
        """Take the masks off the sum; give the total's words. The sum ends here.

        Raises
        ------
        FederationError
            K741 too few shares of somebody's seed came (more may still be taken), K742 shares do not give the seed
            they should, K744 out of turn.
        """
        self._expect("unmask")
        self._enough_around(self._secrets(), self._answers.keys(), self.rules.threshold(len(self._names)))
        digest = self.session.digest
        plus: list[bytes] = []
        minus: list[bytes] = []
        for name in self._secrets():
            seed = self._seed(name)
            if name in self._contributors:
                if derive(seed, "commitment", digest, name) != self._keys[name].commitment:
                    raise _wrong_seed(name)
                minus.append(own_mask_key(seed, self.session, name))
                continue
            key_pair = private_key(seed, digest)
            if public_bytes(key_pair) != self._keys[name].mask:
                raise _wrong_seed(name)
            index = self._names.index(name)
            for other in set(self._holders[name]) & self._contributors:
                there = self._names.index(other)
                secret = agree(key_pair, self._keys[other].mask)
                key = pair_mask_key(secret, self.session, (index, name), (there, other))
                (minus if there < index else plus).append(key)
        self._phase = "done"
        total, self._sum = self._sum, self._sum[:0]
        add_masks(total, plus, minus)
        return total

    def _assents_for(self, name: str) -> dict[str, bytes]:
        """Signatures of everybody around a partner, and of others up to the minimum."""
        around = [holder for holder in self._holders[name] if holder in self._assents]
        others = sorted(self._assents.keys() - set(around))[: max(0, self.rules.minimum - len(around))]
        return {signer: self._assents[signer].signature for signer in (*around, *others)}

    def _enough_left(self, there: Collection[str]) -> None:
        """Hold who is still there against all that the total needs."""
        self._at_least(len(there))
        self._enough_around(self._secrets(), there, self.rules.threshold(len(self._names)))
        self._enough_around(there, there, self.rules.needed(len(self._names)))

    def _secrets(self) -> list[str]:
        """Whose seeds the total needs: every contributor's, and those of the dropped with whom one has masked."""
        around = {holder for name in self._contributors for holder in self._holders[name]}
        return sorted(self._contributors | (around & self._sharers))

    def _seed(self, owner: str) -> bytes:
        kind = "alive" if owner in self._contributors else "dropped"
        shares = [getattr(self._answers[h], kind)[owner] for h in self._holders[owner] if h in self._answers]
        return combine(shares[: self.rules.threshold(len(self._names))])

    def _read(self, kind: type[Said], partner: str, said: bytes, taken: Collection[str]) -> Said:
        if partner in taken:
            raise _refused(partner, "it has answered already")
        try:
            message = kind.read(said, self.session)
        except PrivacyError as error:
            raise _refused(partner, error.message) from error
        if message.partner != partner:
            raise _refused(partner, "it speaks for another")
        return message

    def _expect(self, phase: str) -> None:
        if self._phase != phase:
            raise FederationError(
                "K744", f"A secure sum in its phase `{self._phase}` was asked for `{phase}`.", "Report this."
            )

    def _known(self, partner: str, those: Collection[str]) -> None:
        if partner not in those:
            raise _refused(partner, "it has dropped out before")

    def _at_least(self, there: int) -> None:
        if there < self.rules.minimum:
            raise FederationError(
                "K740",
                f"{there} partners are in the secure sum, at least {self.rules.minimum} are needed.",
                "No total is formed; the round may be tried again.",
            )

    def _enough_around(self, owners: Collection[str], there: Collection[str], needed: int) -> None:
        for owner in owners:
            left = sum(holder in there for holder in self._holders[owner])
            if left < needed:
                raise FederationError(
                    "K741",
                    f"Of {owner} and its neighbours {left} are left in the secure sum, {needed} are needed.",
                    "No total is formed; the round may be tried again.",
                )


def _refused(partner: str, why: str) -> FederationError:
    return FederationError(
        "K743", f"{partner} is left out of the secure sum: {why.rstrip('.')}.", "The sum goes on without it."
    )


def _wrong_seed(owner: str) -> FederationError:
    return FederationError(
        "K742",
        f"The shares of {owner}'s seed do not give it, so its mask cannot be taken off.",
        "It or a neighbour has sent wrong shares; no total is formed, the round may be tried again.",
    )
