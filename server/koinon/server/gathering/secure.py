"""A round as a secure sum: partners mask what they send for each other, and the server learns the total alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import numpy as np

from koinon.errors import FederationError
from koinon.privacy.secure_sum import BITS, Server, Session, layout, rules, verified_by
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.protocol import Total
from koinon.server.exchange import Exchange, Outcome
from koinon.server.gathering.gathered import Asked, Gathered
from koinon.server.wire import Answer, Order, Steps

__all__ = ["SecureGathering"]

ATTEMPTS = 2
"""A sum that too many have left while it ran is tried again, with fresh keys."""
_BROKEN_OFF = frozenset({"K740", "K741", "K742"})

Take = Callable[[str, Answer], None]


class SecureGathering:
    """Gathers rounds as secure sums.

    A sum takes four exchanges, and one more among members who do not all see each other. The first two, keys and
    shares, need nothing of the round, so they travel beside the last two of the round before; only where somebody has
    come or gone since are they asked for by themselves.

    Parameters
    ----------
    exchange
        The way to the partners.
    policy
        What the members agreed on.
    deadline
        Seconds that partners have for the protocol's own steps, which need no data.
    members
        SHA-256 of the members' keys by name, where partners have joined with keys of their own: who takes part has
        signed for it.
    """

    def __init__(
        self, exchange: Exchange, policy: wire.Policy, *, deadline: float, members: Mapping[str, str] | None = None
    ) -> None:
        self.exchange = exchange
        self.policy = policy
        self.deadline = deadline
        self.verify = verified_by(members) if members else None
        self._prepared: _Sum | None = None

    def gather(self, asked: Asked) -> Gathered:
        """Run one secure sum; who drops out on the way is named.

        Raises
        ------
        FederationError
            K740 fewer partners than the policy's minimum, K741 too few neighbours of somebody left, K742 wrong
            shares; each after a second try.
        """
        prepared, self._prepared = self._prepared, None
        for attempt in range(1, ATTEMPTS + 1):
            ready = prepared is not None and prepared.serves(asked)
            current = prepared if prepared and ready else _Sum(self, asked, asked.task.round)
            following = None if asked.last else _Sum(self, asked, asked.task.round + 1)
            try:
                if not ready:
                    current.prepare(asked)
                gathered = current.run(asked, following)
            except FederationError as error:
                if error.code in _BROKEN_OFF and attempt < ATTEMPTS:
                    prepared = None
                    continue
                raise _explained(error, current.left_out) from error
            self._prepared = following
            return gathered
        raise AssertionError


class _Sum:
    """One attempt at a round's sum."""

    def __init__(self, gathering: SecureGathering, asked: Asked, round_: int) -> None:
        self.exchange = gathering.exchange
        self.policy = gathering.policy
        self.deadline = gathering.deadline
        self.run_name, self.policy_sha256 = asked.run, asked.policy_sha256
        self.learner, self.round = asked.learner, round_
        # drawn, so that no attempt's messages fit another, restarts included
        self.attempt = 1 + secrets.randbelow(2**31 - 1)
        session = Session(asked.run, round_, asked.policy_sha256, f"{asked.learner}/{self.attempt}")
        self.server = Server(session, rules(gathering.policy.minimum_participants), gathering.verify)
        self.cohorts: Mapping[str, bytes] = {}
        self.shared: set[str] = set()
        self.left_out: dict[str, str] = {}
        self.metrics: dict[str, Mapping[str, float]] = {}

    def serves(self, asked: Asked) -> bool:
        """Whether everybody who is there has shared its seeds for this round, and nobody else has."""
        this = (self.run_name, self.policy_sha256, self.learner, self.round)
        wanted = (asked.run, asked.policy_sha256, asked.learner, asked.task.round)
        return this == wanted and self.shared == set(asked.members)

    def prepare(self, asked: Asked) -> None:
        """Ask for keys, then for shares, by themselves."""
        order = Order(self.run_name, self.policy, self.policy_sha256, news=asked.order.news)
        self._ask(asked, "query.keys", order, {p: (self.step(), None) for p in asked.members}, self._take_keys)
        self.cohorts = self.server.cohorts()
        told = {partner: (self.step(said), None) for partner, said in self.cohorts.items()}
        self._ask(asked, "query.share", order, told, self._take_shares)

    def run(self, asked: Asked, following: _Sum | None) -> Gathered:
        """Ask for masked words, then for what takes the masks off; prepare the sum that follows."""
        server = self.server
        words = layout(asked.task.specs, len(self.cohorts))
        beside = following.step() if following else None
        told = {p: (self.step(said), beside) for p, said in server.deliveries(words.count, BITS).items()}

        def take_masked(partner: str, answer: Answer) -> None:
            self._take_masked(partner, answer)
            if following and answer.reply.next:
                following.server.take_keys(partner, answer.reply.next)

        self._ask(asked, "train.contribute", asked.order, told, take_masked)
        order = Order(self.run_name, self.policy, self.policy_sha256)
        rolls = {partner: (self.step(said), None) for partner, said in server.rolls().items()}
        if rolls:
            self._ask(asked, "query.agree", order, rolls, lambda p, answer: server.take_assent(p, answer.reply.secure))
        claims = server.claims()
        cohorts = following.meet() if following else {}

        def take_unmask(partner: str, answer: Answer) -> None:
            server.take_unmask(partner, answer.reply.secure)
            if following and partner in cohorts and answer.reply.next:
                following.server.take_shares(partner, answer.reply.next)
                following.shared.add(partner)

        told = {
            partner: (self.step(said), following.step(cohorts[partner]) if following and partner in cohorts else None)
            for partner, said in claims.items()
        }
        self._ask(asked, "query.unmask", order, told, take_unmask)
        arrays, users = words.unpack(server.total())
        total = Total({n: a.astype(np.float64) for n, a in arrays.items()}, users, server.contributors)
        for partner in server.contributors:  # whoever was silent only when masks were taken off is in the total
            self.left_out.pop(partner, None)
        return Gathered(total, self.left_out, self.metrics)

    def meet(self) -> Mapping[str, bytes]:
        """Tell those whose keys came of each other; nobody where they are too few."""
        try:
            self.cohorts = self.server.cohorts()
        except FederationError:
            return {}
        return self.cohorts

    def step(self, said: bytes = b"") -> wire.SecureStep:
        """What a partner is told of this sum."""
        return wire.SecureStep(
            learner=self.learner, round=self.round, attempt=self.attempt, parties=len(self.cohorts), said=said
        )

    def _ask(self, asked: Asked, kind: str, order: Order, told: Mapping[str, Steps], take: Take) -> None:
        """Tell each partner its part of a step and take what it answers; who has none to give is left out."""
        members = {partner: asked.members[partner] for partner in told}
        order = order.with_steps({members[partner]: steps for partner, steps in told.items()})
        deadline = asked.deadline if kind.startswith("train") else self.deadline
        for outcome in self.exchange.ask(order, kind, members, deadline=deadline):
            if kind.startswith("train"):
                asked.heard(outcome.partner, outcome.code)
            code = _taken(outcome, take)
            if code:
                self.left_out[outcome.partner] = code

    def _take_keys(self, partner: str, answer: Answer) -> None:
        self.server.take_keys(partner, answer.reply.secure)

    def _take_shares(self, partner: str, answer: Answer) -> None:
        self.server.take_shares(partner, answer.reply.secure)
        self.shared.add(partner)

    def _take_masked(self, partner: str, answer: Answer) -> None:
        tensors = answer.tensors if answer.tensors is not None else {}
        if list(tensors) != ["masked"] or (tensors["masked"].dtype, len(tensors["masked"].shape)) != ("uint8", 1):
            raise FederationError("K703", "A partner sent something else than asked for.", "Are all on one version?")
        try:
            masked = tensors["masked"].numpy()
        except (ValueError, TypeError, EOFError) as error:
            raise FederationError("K703", "A partner's masked words cannot be read.", "Are all well?") from error
        self.server.take_masked(partner, masked.data)
        self.metrics[partner] = dict(answer.reply.metrics)


def _explained(error: FederationError, left_out: Mapping[str, str]) -> FederationError:
    """The same error, with who was left out on the way, and why."""
    named = ", ".join(f"{partner} ({code})" for partner, code in sorted(left_out.items())) or "nobody"
    return FederationError(error.code, f"{error.message} Left out: {named}.", error.remedy)


def _taken(outcome: Outcome, take: Take) -> str:
    """Take an answer; ``""``, or the code for which the partner is left out."""
    if outcome.answer is None:
        return outcome.code
    try:
        take(outcome.partner, outcome.answer)
    except FederationError as error:
        return error.code
    return ""
