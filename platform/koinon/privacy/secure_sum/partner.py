"""The partner's half of a secure sum: four answers, each given once, and a state that fits in a file between them."""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel, Field, ValidationError

from koinon.errors import PrivacyError
from koinon.privacy.secure_sum.masks import (
    SEED_BYTES,
    Words,
    add_masks,
    agree,
    derive,
    private_key,
    public_bytes,
    word_type,
)
from koinon.privacy.secure_sum.messages import (
    Assent,
    Claim,
    Cohort,
    Delivery,
    Keys,
    Member,
    Message,
    Roll,
    Share,
    Shares,
    Unmask,
    blank_masked,
)
from koinon.privacy.secure_sum.roll import Signer, Verifier, check_assents, check_roll, roll_bytes
from koinon.privacy.secure_sum.rules import Graph, Rules, Session
from koinon.privacy.secure_sum.sharing import SHARE_BYTES, seal, split, unseal

__all__ = ["Partner"]


class _Held(BaseModel):
    """The shares of one owner's two seeds."""

    model_config = Message.model_config

    own_mask: Share
    mask_key: Share


class _State(BaseModel):
    """All a partner must remember. Empty bytes and maps stand for what is not there yet or is gone for good."""

    model_config = Message.model_config

    run: str
    round: int
    policy_sha256: str
    purpose: str
    minimum: int
    quorum: float
    density: float
    name: str
    phase: Literal["keys", "shares", "masked", "agreed", "done"]
    channel: Annotated[bytes, Field(max_length=32)] = b""
    own_seed: Annotated[bytes, Field(max_length=SEED_BYTES)] = b""
    key_seed: Annotated[bytes, Field(max_length=SEED_BYTES)] = b""
    size: int = 0
    index: int = 0
    neighbours: tuple[Member, ...] = ()
    held: dict[str, _Held] = {}
    roll: tuple[str, ...] = ()


class Partner:
    """One partner in one secure sum. Made by :meth:`begin`, or from its :meth:`state` by :meth:`restore`.

    Every step is taken once. A step that raises leaves the state as it was and tells nobody anything; the partner may
    then be given the right message, or stay away, which counts as having dropped out.

    Between steps ``state()`` may be kept (:func:`koinon.privacy.secure_sum.save_state`). It must be kept *before* the
    step's answer is sent, and be destroyed before the answer of :meth:`unmask` is: a partner put back to an earlier
    state could be asked twice.
    """

    def __init__(self, state: _State) -> None:
        self._state = state
        self.session = Session(state.run, state.round, state.policy_sha256, state.purpose)
        self.rules = Rules(state.minimum, state.quorum, state.density)

    @classmethod
    def begin(cls, session: Session, rules: Rules, name: str, sign: Signer | None = None) -> tuple[Self, bytes]:
        """Draw fresh keys; give the partner and its ``keys`` message.

        Parameters
        ----------
        session, rules
            The sum, as the partner itself knows it from the policy it has accepted.
        name
            The partner's, unique in the federation.
        sign
            Signs the public keys, so that nobody can play this partner.
        """
        partner = cls(
            _State(
                run=session.run,
                round=session.round,
                policy_sha256=session.policy_sha256,
                purpose=session.purpose,
                minimum=rules.minimum,
                quorum=rules.quorum,
                density=rules.density,
                name=name,
                phase="keys",
                channel=X25519PrivateKey.generate().private_bytes_raw(),
                own_seed=os.urandom(SEED_BYTES),
                key_seed=os.urandom(SEED_BYTES),
            )
        )
        state, digest = partner._state, session.digest
        keys = Keys(
            session=digest,
            partner=name,
            channel=public_bytes(X25519PrivateKey.from_private_bytes(state.channel)),
            mask=public_bytes(private_key(state.key_seed, digest)),
            commitment=derive(state.own_seed, "commitment", digest, name),
        )
        if sign is not None:
            keys = keys.model_copy(update={"signature": sign(keys.signed())})
        return partner, keys.to_bytes()

    @property
    def phase(self) -> str:
        """The last step taken: ``keys``, ``shares``, ``masked``, ``agreed`` or ``done``."""
        return self._state.phase

    def state(self) -> bytes:
        """Give all there is to remember. It holds secrets: keep it where only its owner can read it."""
        return self._state.model_dump_json().encode()

    @classmethod
    def restore(cls, state: bytes) -> Self:
        """Take up what :meth:`state` gave.

        Raises
        ------
        PrivacyError
            K634 it is damaged.
        """
        try:
            return cls(_State.model_validate_json(bytes(state)))
        except (ValidationError, PrivacyError) as error:
            raise PrivacyError(
                "K634", "The kept state of a secure sum is damaged.", "This round goes on without the partner."
            ) from error

    def share(self, cohort: bytes, verify: Verifier | None = None) -> bytes:
        """Learn the neighbours' keys and share the own seeds among them; give the ``shares`` message.

        Parameters
        ----------
        cohort
            The server's message.
        verify
            Checks who has signed a neighbour's keys. Without it the server could play every neighbour.

        Raises
        ------
        PrivacyError
            K626, K627 the message cannot be read or is another's, K628 it comes out of turn, K629 a neighbour's keys
            are not its own, twice the same or degenerate, K631 these are not the neighbours the graph gives.
        """
        self._expect("keys")
        said = Cohort.read(cohort, self.session)
        self._mine(said.receiver)
        state, name = self._state, self._state.name
        self._check_keys(said, verify)
        graph = self._graph(said)
        own = {said.index: name}
        holders = [({m.index: m.keys.partner for m in said.neighbours} | own)[h] for h in graph.holders(said.index)]
        threshold = self.rules.threshold(said.size)
        pairs = zip(
            split(state.own_seed, threshold, len(holders)), split(state.key_seed, threshold, len(holders)), strict=True
        )
        shares = dict(zip(holders, pairs, strict=True))
        kept = shares.pop(name)
        boxes = {
            m.keys.partner: seal(
                self._channel_key(m.keys, outgoing=True),
                b"".join(shares[m.keys.partner]),
                self.session.digest,
                name,
                m.keys.partner,
            )
            for m in said.neighbours
        }
        self._become(
            phase="shares",
            size=said.size,
            index=said.index,
            neighbours=said.neighbours,
            held={name: _Held(own_mask=kept[0], mask_key=kept[1])},
        )
        return Shares(session=self.session.digest, partner=name, boxes=boxes).to_bytes()

    def mask(self, delivery: bytes, words: Words) -> bytearray:
        """Open the neighbours' shares and mask the own words; give the ``masked`` message.

        What the words were masked with is forgotten here: afterwards the partner itself could not unmask them.

        Parameters
        ----------
        delivery
            The server's message.
        words
            ``uint32`` or ``uint64``, one dimension; left as they are.

        Raises
        ------
        PrivacyError
            K622 these are no words, K626, K627, K628 as :meth:`share`, K630 a share was not sealed by its sender for
            this partner in this round, K631 a sender is no neighbour, K633 too few neighbours are there.
        """
        self._expect("shares")
        bits = 8 * words.dtype.itemsize
        if words.dtype != word_type(bits):
            raise PrivacyError("K622", f"Values of {words.dtype} are no words of a ring.", "Pack them by a WordLayout.")
        said = Delivery.read(delivery, self.session)
        self._mine(said.receiver)
        state, digest = self._state, self.session.digest
        members = {m.keys.partner: m for m in state.neighbours}
        if not said.boxes.keys() <= members.keys():
            raise _not_neighbours()
        self._enough(1 + len(said.boxes))
        held = dict(state.held)
        key_pair = private_key(state.key_seed, digest)
        plus = [own_mask_key(state.own_seed, self.session, state.name)]
        minus: list[bytes] = []
        for sender, box in said.boxes.items():
            member = members[sender]
            content = unseal(self._channel_key(member.keys, outgoing=False), box, digest, sender, state.name)
            if len(content) != 2 * SHARE_BYTES:
                raise PrivacyError("K630", f"{sender} has sealed no shares.", "Ask the operator to leave it out.")
            held[sender] = _Held(own_mask=content[:SHARE_BYTES], mask_key=content[SHARE_BYTES:])
            secret = agree(key_pair, member.keys.mask)
            key = pair_mask_key(secret, self.session, (state.index, state.name), (member.index, sender))
            (plus if state.index < member.index else minus).append(key)
        message, masked = blank_masked(self.session, state.name, len(words), bits)
        masked[:] = words
        add_masks(masked, plus, minus)
        self._become(phase="masked", held=held, neighbours=(), channel=b"", own_seed=b"", key_seed=b"")
        return message

    def agree(self, roll: bytes, sign: Signer) -> bytes:
        """Sign who is in the sum, once; give the ``assent`` message. Asked for on a sparse graph among members.

        Parameters
        ----------
        roll
            The server's message.
        sign
            Signs with the member's key.

        Raises
        ------
        PrivacyError
            K626, K627, K628 as :meth:`share`, K633 too few neighbours are on the list, K635 a list that may not be
            signed.
        """
        self._expect("masked")
        said = Roll.read(roll, self.session)
        self._mine(said.receiver)
        check_roll(said.names, self._state.name, self.rules)
        self._enough(len(self._state.held.keys() & set(said.names)))
        signature = sign(roll_bytes(self.session, said.names))
        self._become(phase="agreed", roll=said.names)
        return Assent(session=self.session.digest, partner=self._state.name, signature=signature).to_bytes()

    def unmask(self, claim: bytes, verify: Verifier | None = None) -> bytes:
        """Answer who is alive and who has dropped with the shares that go with it, once; give the ``unmask`` message.

        Parameters
        ----------
        claim
            The server's message.
        verify
            Checks members' signatures. With it, a partner that does not see all others asks that enough of them have
            signed the list that it has signed itself.

        Raises
        ------
        PrivacyError
            K626, K627, K628 as :meth:`share` (a second claim is K628), K632 the claim calls somebody both alive and
            dropped, leaves out or adds a neighbour, calls this partner dropped, or says something else than the list
            that was signed, K633 too few have answered, K635 too few are known to have signed the same list.
        """
        self._expect("masked" if verify is None or not self.rules.sparse(self._state.size) else "agreed")
        said = Claim.read(claim, self.session)
        self._mine(said.receiver)
        alive, dropped, held = set(said.alive), set(said.dropped), self._state.held
        whole = len(alive) + len(dropped) == len(said.alive) + len(said.dropped) == len(held)
        listed = alive == held.keys() & set(self._state.roll) or self._state.phase == "masked"
        if not whole or not listed or alive | dropped != held.keys() or self._state.name not in alive:
            raise PrivacyError(
                "K632",
                "The server's claim does not call each neighbour either alive or dropped, and this partner alive, as"
                " the list of contributors does.",
                "Nothing is answered; if it happens again, ask the operator.",
            )
        self._enough(len(alive))
        if verify is not None and self._state.phase == "agreed":
            check_assents(
                said.assents,
                session=self.session,
                names=self._state.roll,
                around=held.keys(),
                least=self.rules.minimum,
                least_around=self.rules.needed(self._state.size),
                verify=verify,
            )
        answer = Unmask(
            session=self.session.digest,
            partner=self._state.name,
            alive={name: held[name].own_mask for name in sorted(alive)},
            dropped={name: held[name].mask_key for name in sorted(dropped)},
        )
        self._become(phase="done", held={}, roll=())
        return answer.to_bytes()

    def _expect(self, phase: str) -> None:
        if self._state.phase != phase:
            raise PrivacyError(
                "K628",
                f"The message comes out of turn: the partner has taken the step `{self._state.phase}`.",
                "Every step of a secure sum is taken once.",
            )

    def _mine(self, receiver: str) -> None:
        if receiver != self._state.name:
            raise PrivacyError("K627", f"The message is for {receiver}.", "It is not used.")

    def _become(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)

    def _graph(self, said: Cohort) -> Graph:
        if said.index >= said.size or said.size < self.rules.minimum:
            raise _not_neighbours()
        graph = Graph(self.session, said.size, self.rules.degree(said.size))
        named = sorted([(m.index, m.keys.partner) for m in said.neighbours] + [(said.index, self._state.name)])
        if tuple(index for index, _ in named) != graph.holders(said.index) or named != sorted(named, key=_name):
            raise _not_neighbours()
        return graph

    def _check_keys(self, said: Cohort, verify: Verifier | None) -> None:
        digest, keys = self.session.digest, [m.keys for m in said.neighbours]
        public = [key for k in keys for key in (k.channel, k.mask)]
        names = {k.partner for k in keys} | {self._state.name}
        if len(names) != len(keys) + 1 or len(set(public)) != len(public) or any(k.session != digest for k in keys):
            raise PrivacyError(
                "K629", "Two neighbours have one name or one key, or keys of another round.", "Ask the operator."
            )
        for k in keys:
            if verify is not None and not verify(k.partner, k.signed(), k.signature):
                raise PrivacyError(
                    "K629",
                    f"The keys that came as {k.partner}'s are not signed by it.",
                    "Somebody else may play this partner; ask the operator.",
                )

    def _channel_key(self, other: Keys, *, outgoing: bool) -> bytes:
        own = X25519PrivateKey.from_private_bytes(self._state.channel)
        ends = (self._state.name, other.partner) if outgoing else (other.partner, self._state.name)
        return derive(agree(own, other.channel), "shares", self.session.digest, *ends)

    def _enough(self, alive: int) -> None:
        if alive < self.rules.needed(self._state.size):
            raise PrivacyError(
                "K633",
                f"Of this partner and its neighbours {alive} are left, {self.rules.needed(self._state.size)} are"
                " needed, so that no total over too few is formed.",
                "The round cannot be summed; the next one may.",
            )


def own_mask_key(seed: bytes, session: Session, name: str) -> bytes:
    """Key of the mask that a partner adds alone."""
    return derive(seed, "own mask", session.digest, name)


def pair_mask_key(secret: bytes, session: Session, one: tuple[int, str], other: tuple[int, str]) -> bytes:
    """Key of the mask that of two neighbours (number, name) the lower adds and the higher takes away."""
    (_, low), (_, high) = sorted((one, other))
    return derive(secret, "pair mask", session.digest, low, high)


def _name(numbered: tuple[int, str]) -> str:
    return numbered[1]


def _not_neighbours() -> PrivacyError:
    return PrivacyError(
        "K631",
        "The server names other neighbours than the graph of this round gives.",
        "Are all on one policy and one version of Koinon?",
    )
