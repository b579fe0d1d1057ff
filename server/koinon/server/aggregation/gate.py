"""What a server refuses to add up: a partner's door holds its sums against the policy, and this holds the partner.

A contribution that fails is left out of the round and named by the code; the round goes on. So are this partner's
later ones to the same learner: a learner's rounds build on each other, and sums of pairs from people whose counts are
missing do more harm than both. What passes can be true of so many people with this catalogue; whether it *is* true is
for the rules and for the anomalies to say.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koinon.config import write_atomically
from koinon.errors import FederationError
from koinon.recommenders.protocol import Contribution, TensorSpec
from koinon.server.aggregation.cells import Cells

__all__ = ["REFUSALS", "Gate"]

REFUSALS = frozenset({"K785", "K786", "K787", "K788", "K789", "K790", "K791"})
"""Codes under which a contribution is refused for what it holds."""

SLACK = 1.0 + 1e-4
"""Sums of float32 are not exact."""
TELLING = 16
"""Tensors with fewer values above 0 may be equal by chance."""
TAIL = 9.0
"""Standard deviations that no noise exceeds."""


class Gate:
    """Checks contributions, one at a time, over all rounds of a run.

    Parameters
    ----------
    memory
        File that keeps what must be known again after a restart: the people each partner has claimed, who was refused,
        and digests of what was sent.
    run
        The run it belongs to; what another run has left is forgotten.
    largest_partner
        People one partner may speak for; ``None``: as many as its first answer says.
    """

    def __init__(self, memory: Path, run: str, *, largest_partner: int | None = None) -> None:
        self.memory = memory
        self.run = run
        self.largest_partner = largest_partner
        kept = _kept(memory, run)
        self.people: dict[str, int] = kept.get("people", {})
        self.refused: dict[str, dict[str, str]] = kept.get("refused", {})
        """By learner and partner the code for which it is out."""
        self.seen: dict[str, list[str]] = kept.get("seen", {})

    def check(
        self,
        partner: str,
        learner: str,
        round_: int,
        contribution: Contribution,
        specs: Sequence[TensorSpec],
        cells: Cells,
    ) -> None:
        """Let a contribution pass, or say why not.

        Parameters
        ----------
        partner
            Whose it is.
        learner, round_
            What it is for.
        contribution, specs
            What came and what was asked for; names, shapes and dtypes agree already.
        cells
            Who can speak of what.

        Raises
        ------
        FederationError
            K786 a value is not finite; K787 more than its people can come to, in one cell or on the whole; K788 more
            people than approved or first claimed; K789 figures for works it does not list; K791 the bytes of an earlier
            round, or another partner's.
        """
        refused = self.refused.setdefault(learner, {})
        if partner in refused:
            raise _refused(refused[partner], f"{partner} was refused in an earlier round of {learner}")
        try:
            self._check_people(partner, contribution.n_users)
            for spec in specs:
                self._check_values(partner, contribution, spec, cells)
            self._check_new(partner, f"{learner} {round_}", contribution, specs, cells)
        except FederationError as error:
            refused[partner] = error.code
            raise

    def save(self) -> None:
        """Write down what must be known after a restart."""
        kept = {"run": self.run, "people": self.people, "refused": self.refused, "seen": self.seen}
        write_atomically(self.memory, json.dumps(kept))

    def _check_people(self, partner: str, people: int) -> None:
        allowed = self.people.setdefault(partner, people) if self.largest_partner is None else self.largest_partner
        if people > allowed:
            raise _refused("K788", f"{partner} speaks for {people} people, at most {allowed} are allowed it")

    def _check_values(self, partner: str, contribution: Contribution, spec: TensorSpec, cells: Cells) -> None:
        array = contribution.arrays[spec.name]
        measure, deviation = cells.measure(spec), cells.noise.get(spec.name, 0.0)
        units = cells.units(partner, spec, contribution) if spec.aggregation == "sum" else 1
        norm = float(np.linalg.norm(array.astype(np.float64, copy=False).ravel()))
        if not math.isfinite(norm):
            raise _refused("K786", f"{partner} sent {spec.name} with a value that is not finite")
        room = TAIL * deviation + 1e-4 * units
        allowed = _times(cells.norm_bound(spec), units) * SLACK + deviation * (math.sqrt(array.size) + TAIL)
        least, most = _times(measure.least, units) - room, _times(measure.most, units) + room
        if norm > allowed or array.min(initial=0.0) < least or array.max(initial=0.0) > most:
            raise _refused("K787", f"{partner} sent more in {spec.name} than {units} can come to")
        if deviation == 0 and measure.rows is not None and array[~cells.held(partner, spec)].any():
            raise _refused("K789", f"{partner} sent {spec.name} of works it does not list")

    def _check_new(
        self, partner: str, round_: str, contribution: Contribution, specs: Sequence[TensorSpec], cells: Cells
    ) -> None:
        """Nobody sends another's bytes, and what depends on the release differs from round to round.

        Sums over a catalogue alone may be equal: two shops can list the same goods.
        """
        for spec in specs:
            array = contribution.arrays[spec.name]
            if cells.measure(spec).unit == "item" or np.count_nonzero(array) < TELLING:
                continue
            digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
            sender, when = self.seen.setdefault(digest, [partner, round_])
            if sender != partner or (cells.measure(spec).fresh and when != round_):
                raise _refused("K791", f"{partner} sent a copy in {spec.name}")


def _kept(memory: Path, run: str) -> dict[str, Any]:
    """What was kept of a run; nothing where there is nothing, or a file that a power cut has damaged."""
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return kept if kept.get("run") == run else {}


def _times(bound: float, units: int) -> float:
    return bound * units if units else 0.0


def _refused(code: str, why: str) -> FederationError:
    return FederationError(code, f"{why}.", "It is left out of the round; see docs/attacks.md.")
