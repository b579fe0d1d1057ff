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

__all__ = ["CHANGED", "IMPOSTOR", "INTRODUCTION", "LATE", "VANISHED", "Exchange", "Outcome"]

INTRODUCTION = "query.catalogue"
"""The first question: whoever answers it says its name; in all others it answers under the name it was asked by."""
LATE = "K701"
"""A partner has not answered by the deadline."""
VANISHED = "K702"
"""A partner's node is gone."""
IMPOSTOR = "K769"
"""A node speaks for another partner than the one that was asked."""
CHANGED = "K726"
"""A partner's tables are no longer those of the catalogue that it told."""

_SPARE = 5.0
"""Seconds that Flower keeps a message beyond the deadline: one that it drops would look like a node that is gone."""
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

    def ask(
        self,
        order: Order,
        kind: str,
        members: Mapping[str, int],
        *,
        deadline: float,
        at_once: int | None = None,
    ) -> Iterator[Outcome]:
        """Send an order to the members and give what comes back, as it comes.

        Every member gives exactly one outcome. An answer that a partner signed with an error's code has that code
        and no ``answer``; one under another partner's name counts as none (K769).

        Parameters
        ----------
        order
            What they are told.
        kind
            Flower's message type, e.g. ``train.contribute``.
        members
            Partner to node.
        deadline
            Seconds after which whoever is silent is given up (K701), counted from when it was asked.
        at_once
            Ask no more than so many at a time, the next when one has answered; ``None``: all. Partners that share a
            machine would only hold the message in memory while they wait for their turn.
        """
        queue = list(members)
        waiting: dict[str, tuple[str, float]] = {}
        while queue or waiting:
            while queue and (at_once is None or len(waiting) < at_once):
                partner = queue.pop(0)
                message = order.to(members[partner], kind, ttl=deadline + _SPARE)
                pushed = [number for number in self.grid.push_messages([message]) if number]
                if pushed:
                    waiting[pushed[0]] = partner, time.monotonic()
                else:
                    yield Outcome(partner, None, VANISHED, 0.0)
            for reply in self.grid.pull_messages(list(waiting)) if waiting else ():
                if reply.metadata.reply_to_message_id in waiting:
                    partner, asked = waiting.pop(reply.metadata.reply_to_message_id)
                    yield _outcome(partner, kind, reply, time.monotonic() - asked)
            for number, (partner, asked) in list(waiting.items()):
                if time.monotonic() - asked > deadline:
                    del waiting[number]
                    yield Outcome(partner, None, LATE, time.monotonic() - asked)
            if waiting:
                time.sleep(self.poll)


def _outcome(partner: str, kind: str, message: Message, seconds: float) -> Outcome:
    if message.has_error():
        code = VANISHED if message.error.code in _AWAY else "K799"
        return Outcome(partner, None, code, seconds)
    try:
        answer = read_answer(message)
    except FederationError as error:
        return Outcome(partner, None, error.code, seconds)
    if kind != INTRODUCTION and answer.reply.partner != partner:
        return Outcome(partner, None, IMPOSTOR, seconds)
    return Outcome(partner, None if answer.reply.code else answer, answer.reply.code, seconds)
