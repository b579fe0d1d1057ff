"""A round in the open: the server sees each partner's tensors, and can hold them against each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.numpy import load_file

from koinon.errors import FederationError
from koinon.recommenders.protocol import Contribution
from koinon.server.aggregation import Gate, Robustness, aggregate, anomalies
from koinon.server.checkpoints import save_arrays
from koinon.server.exchange import Exchange, Outcome
from koinon.server.gathering.gathered import Asked, Gathered
from koinon.server.wire import contribution_of

__all__ = ["Contributions", "OpenGathering"]


class Contributions(Mapping[str, Contribution]):
    """Partners' contributions, kept on disk and read when asked for: a sum needs only one in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._people: dict[str, tuple[int, Mapping[str, float]]] = {}

    def put(self, partner: str, contribution: Contribution) -> None:
        """Write one contribution down."""
        save_arrays(self._folder / partner, contribution.arrays)
        self._people[partner] = (contribution.n_users, contribution.metrics)

    @property
    def metrics(self) -> dict[str, Mapping[str, float]]:
        """The figures that came with them, by partner."""
        return {partner: metrics for partner, (_, metrics) in self._people.items()}

    def __getitem__(self, partner: str) -> Contribution:
        users, metrics = self._people[partner]
        return Contribution(load_file(self._folder / partner), users, metrics)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._people))

    def __len__(self) -> int:
        return len(self._people)


STALE = "K790"
"""An answer to another round."""
OUTVOTED = "K796"
"""The rule has left a partner out: farthest from the others, guilty or not."""


class OpenGathering:
    """Gathers rounds in the open.

    Parameters
    ----------
    exchange
        The way to the partners.
    scratch
        Folder for what waits to be added up.
    gate
        What refuses contributions that cannot be true.
    rule
        How the others are added up (:mod:`koinon.server.aggregation`).
    robustness
        Settings of the rule.
    """

    def __init__(self, exchange: Exchange, scratch: Path, gate: Gate, rule: str, robustness: Robustness) -> None:
        self.exchange = exchange
        self.scratch = scratch
        self.gate = gate
        self.rule = rule
        self.robustness = robustness

    def gather(self, asked: Asked) -> Gathered:
        """Ask every member once, refuse what cannot be true, add up the rest, and say who stands out."""
        folder = self.scratch / f"{asked.learner}-{asked.task.round}"
        contributions, left_out = Contributions(folder), dict[str, str]()
        for outcome in self.exchange.ask(asked.order, "train.contribute", asked.members, deadline=asked.deadline):
            asked.heard(outcome.partner, outcome.code)
            code = self._put(outcome, asked, contributions)
            if code:
                left_out[outcome.partner] = code
        self.gate.save()
        specs = asked.task.specs
        total = aggregate(self.rule, specs, contributions, asked.cells, self.robustness)
        left_out |= dict.fromkeys(set(contributions) - set(total.partners), OUTVOTED)
        found = anomalies(specs, contributions, asked.cells, self.robustness)
        shutil.rmtree(folder, ignore_errors=True)
        return Gathered(total, left_out, contributions.metrics, tuple(found))

    def _put(self, outcome: Outcome, asked: Asked, contributions: Contributions) -> str:
        """Take an answer; ``""``, or the code for which the partner is left out."""
        if outcome.answer is None:
            return outcome.code
        task = asked.task
        if outcome.answer.reply.round != task.round:
            return STALE
        try:
            contribution = contribution_of(outcome.answer, task.specs)
            self.gate.check(outcome.partner, asked.learner, task.round, contribution, task.specs, asked.cells)
        except FederationError as error:
            return error.code
        contributions.put(outcome.partner, contribution)
        return ""
