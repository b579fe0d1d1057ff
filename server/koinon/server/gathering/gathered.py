"""What is asked in a round, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from koinon.recommenders.protocol import Task, Total
from koinon.server.aggregation import REFUSALS, Anomaly, Cells
from koinon.server.wire import Order

__all__ = ["Asked", "Gathered"]


@dataclass(frozen=True)
class Asked:
    """One round's question.

    Attributes
    ----------
    run, policy_sha256
        The federation's run, and what its members agreed on.
    learner, task
        What is trained, and what is asked for.
    order
        The message to every partner.
    members
        Partner to node.
    deadline
        Seconds that partners have for their work.
    cells
        Which cells of the tensors each partner can speak of.
    last
        No round of this learner follows.
    heard
        Told of each answer to the order, with the code it came with or ``""``.
    """

    run: str
    policy_sha256: str
    learner: str
    task: Task
    order: Order
    members: Mapping[str, int]
    deadline: float
    cells: Cells
    last: bool
    heard: Callable[[str, str], None]


@dataclass
class Gathered:
    """What a round's answers come to.

    Attributes
    ----------
    total
        What the plan reads.
    left_out
        Partner to the code that says why it is not in the total.
    metrics
        The figures that partners gave, by partner.
    anomalies
        How each one looks beside the others; nothing where the server sees totals alone.
    """

    total: Total
    left_out: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)
    anomalies: tuple[Anomaly, ...] = ()

    def suspicions(self) -> dict[str, set[str]]:
        """By partner the codes for which it was refused, or for which it should be looked at."""
        found = {partner: {code} for partner, code in self.left_out.items() if code in REFUSALS}
        for anomaly in self.anomalies:
            if anomaly.codes:
                found.setdefault(anomaly.partner, set()).update(anomaly.codes)
        return found
