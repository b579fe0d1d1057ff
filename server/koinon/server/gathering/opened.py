"""A round in the open: the server sees each partner's tensors, and can hold them against each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.numpy import load_file

from koinon.errors import FederationError
from koinon.recommenders.federated.totals import add_up
from koinon.recommenders.protocol import Contribution
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


class OpenGathering:
    """Gathers rounds in the open.

    Parameters
    ----------
    exchange
        The way to the partners.
    scratch
        Folder for what waits to be added up.
    """

    def __init__(self, exchange: Exchange, scratch: Path) -> None:
        self.exchange = exchange
        self.scratch = scratch

    def gather(self, asked: Asked) -> Gathered:
        """Ask every member once and add up what came."""
        folder = self.scratch / f"{asked.learner}-{asked.task.round}"
        contributions, left_out = Contributions(folder), dict[str, str]()
        for outcome in self.exchange.ask(asked.order, "train.contribute", asked.members, deadline=asked.deadline):
            asked.heard(outcome.partner, outcome.code)
            code = _put(outcome, asked, contributions)
            if code:
                left_out[outcome.partner] = code
        total = add_up(asked.task.specs, contributions)
        shutil.rmtree(folder, ignore_errors=True)
        return Gathered(total, left_out, contributions.metrics)


def _put(outcome: Outcome, asked: Asked, contributions: Contributions) -> str:
    """Take an answer; ``""``, or the code for which the partner is left out."""
    if outcome.answer is None:
        return outcome.code
    try:
        contributions.put(outcome.partner, contribution_of(outcome.answer, asked.task.specs))
    except FederationError as error:
        return error.code
    return ""
