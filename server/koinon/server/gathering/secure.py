"""A round as a secure sum: partners mask what they send for each other, and the server learns the total alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import numpy as np
from google.protobuf.message import DecodeError

from koinon.errors import FederationError
from koinon.privacy.secure_sum import BITS, Server, Session, layout, rules
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.protocol import Total
from koinon.server.exchange import Exchange, Outcome
from koinon.server.gathering.gathered import Asked, Gathered
from koinon.server.wire import Answer, Order

__all__ = ["SecureGathering"]

ATTEMPTS = 2
"""A sum that too many have left while it ran is tried again, with fresh keys."""
_BROKEN_OFF = frozenset({"K740", "K741", "K742"})

Take = Callable[[str, Answer], None]


class SecureGathering:
    """Gathers rounds as secure sums.

    Parameters
    ----------
    exchange
        The way to the partners.
    policy
        What the members agreed on.
    deadline
        Seconds that partners have for the protocol's own steps, which need no data.
    """

    def __init__(self, exchange: Exchange, policy: wire.Policy, *, deadline: float) -> None:
        self.exchange = exchange
        self.policy = policy
        self.deadline = deadline

    def gather(self, asked: Asked) -> Gathered:
        """Run one secure sum; who drops out on the way is named.

        Raises
        ------
        FederationError
            K740 fewer partners than the policy's minimum, K741 too few neighbours of somebody left, K742 wrong
            shares; each after a second try.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _Sum(self, asked).run()
            except FederationError as error:
                if error.code not in _BROKEN_OFF or attempt == ATTEMPTS:
                    raise
        raise AssertionError


class _Sum:
    """One attempt at a round."""

    def __init__(self, gathering: SecureGathering, asked: Asked) -> None:
        self.asked = asked
        self.exchange = gathering.exchange
        self.policy = gathering.policy
        self.deadline = gathering.deadline
        # drawn, so that no attempt's messages fit another, restarts included
        self.attempt = 1 + secrets.randbelow(2**31 - 1)
        session = Session(asked.run, asked.task.round, asked.policy_sha256, f"{asked.learner}/{self.attempt}")
        self.server = Server(session, rules(gathering.policy.minimum_participants))
        self.left_out: dict[str, str] = {}
        self.metrics: dict[str, Mapping[str, float]] = {}

    def run(self) -> Gathered:
        server, everybody = self.server, dict.fromkeys(self.asked.members, b"")
        self._step("query.keys", everybody, lambda p, a: server.take_keys(p, a.reply.secure))
        cohorts = server.cohorts()
        self._step("query.share", cohorts, lambda p, a: server.take_shares(p, a.reply.secure), len(cohorts))
        words = layout(self.asked.task.specs, len(cohorts))
        deliveries = server.deliveries(words.count, BITS)
        self._step("train.contribute", deliveries, self._take_masked, len(cohorts), self.asked.order)
        claims = server.claims()
        self._step("query.unmask", claims, lambda p, a: server.take_unmask(p, a.reply.secure), len(cohorts))
        arrays, users = words.unpack(server.total())
        total = Total({n: a.astype(np.float64) for n, a in arrays.items()}, users, server.contributors)
        for partner in server.contributors:  # whoever was silent only when masks were taken off is in the total
            self.left_out.pop(partner, None)
        return Gathered(total, self.left_out, self.metrics)

    def _step(
        self, kind: str, told: Mapping[str, bytes], take: Take, parties: int = 0, order: Order | None = None
    ) -> None:
        """Tell each partner its part of a step and take what it answers."""
        asked = self.asked
        said = {
            asked.members[partner]: wire.SecureStep(
                learner=asked.learner, round=asked.task.round, attempt=self.attempt, parties=parties, said=message
            )
            for partner, message in told.items()
        }
        order = (order or Order(asked.run, self.policy, asked.policy_sha256)).with_steps(said)
        deadline = asked.deadline if kind.startswith("train") else self.deadline
        members = {partner: asked.members[partner] for partner in told}
        for outcome in self.exchange.ask(order, kind, members, deadline=deadline):
            if kind == "train.contribute":
                asked.heard(outcome.partner, outcome.code)
            code = _taken(outcome, take)
            if code:
                self.left_out[outcome.partner] = code

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


def _taken(outcome: Outcome, take: Take) -> str:
    """Take an answer; ``""``, or the code for which the partner is left out."""
    if outcome.answer is None:
        return outcome.code
    try:
        take(outcome.partner, outcome.answer)
    except FederationError as error:
        return error.code
    except DecodeError:
        return "K703"
    return ""
