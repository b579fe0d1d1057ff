"""One question to many partners: push, poll, match, and never wait for ever.

Flower's own ``send_and_receive`` polls every three seconds, waits without end by default and drops silent nodes
without a word. This loop polls often, holds a deadline, and names everyone who has not answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from koinon.errors import FederationError
from koinon.server.wire import Answer, Order, read_answer

__all__ = ["LATE", "VANISHED", "Exchange", "Outcome"]

LATE = "K701"
"""A partner has not answered by the deadline."""
VANISHED = "K702"
"""A partner's node is gone."""

_AWAY = frozenset({3, 4, 5})
"""Flower's error codes for a node that is not there; the others mean that its ClientApp failed."""


@dataclass(frozen=True)
class Outcome:
    """What came of asking one partner: an answer, or the code that says why there is none."""

    partner: str
    answer: Answer | None
    code: str
    seconds: float


class Exchange:
    """Asks partners over a Flower grid.

    Parameters
    ----------
    grid
        Flower's connection to the nodes.
    poll
        Seconds between looks for answers.
    """

    def __init__(self, grid: Grid, *, poll: float = 0.15) -> None:
        self.grid = grid
        self.poll = poll

    def nodes(self) -> set[int]:
        """Ids of the nodes that are there now."""
        return set(self.grid.get_node_ids())

    def ask(self, order: Order, kind: str, members: Mapping[str, int], *, deadline: float) -> Iterator[Outcome]:
        """Send an order to the members and give what comes back, as it comes.

        Every member gives exactly one outcome. An answer that a partner signed with an error's code has that code
        and no ``answer``.

        Parameters
        ----------
        order
            What they are told.
        kind
            Flower's message type, e.g. ``train.contribute``.
        members
            Partner to node.
        deadline
            Seconds after which whoever is silent is given up (K701).
        """
        started = time.monotonic()
        waiting: dict[str, str] = {}
        for partner, node in members.items():
            pushed = [m for m in self.grid.push_messages([order.to(node, kind, ttl=deadline)]) if m]
            if pushed:
                waiting[pushed[0]] = partner
            else:
                yield Outcome(partner, None, VANISHED, 0.0)
        while waiting:
            for message in self.grid.pull_messages(list(waiting)):
                asked = message.metadata.reply_to_message_id
                if asked in waiting:
                    yield _outcome(waiting.pop(asked), message, time.monotonic() - started)
            if time.monotonic() - started > deadline:
                break
            if waiting:
                time.sleep(self.poll)
        for partner in waiting.values():
            yield Outcome(partner, None, LATE, time.monotonic() - started)


def _outcome(partner: str, message: Message, seconds: float) -> Outcome:
    if message.has_error():
        code = VANISHED if message.error.code in _AWAY else "K799"
        return Outcome(partner, None, code, seconds)
    try:
        answer = read_answer(message)
    except FederationError as error:
        return Outcome(partner, None, error.code, seconds)
    return Outcome(partner, None if answer.reply.code else answer, answer.reply.code, seconds)
