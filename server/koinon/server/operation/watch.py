"""What a run has brought each partner, held against the run before: alarms, and releases that must go.

The server judges by declared figures alone: the partners' validation means, and two kinds of flags that each partner
raises by its own lights (``harm/<learner>``, ``drift``; see :mod:`koinon.clients.standby` and
:mod:`koinon.clients.drift`). A policy that lets no figures leave, as under a privacy budget, leaves the server nothing
to see; partners still protect themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import Field

from koinon.config import Config
from koinon.errors import FederationError

__all__ = ["DRIFT", "GAIN", "HARM", "Alarm", "History", "RunSeen", "Watch", "alarms", "gain", "harmful"]

HARM = "K712"
"""A learner's release is clearly worse on a partner's validation users than its last good one."""
GAIN = "K713"
"""What a partner deploys has lost much of its lead over the partner's own arm."""
DRIFT = "K714"
"""A partner's data have drifted since the run before."""

Figures = Mapping[str, Mapping[str, float]]
"""By partner, the figures it gave after it had fitted and chosen."""


class Watch(Config):
    """When the server acts on what partners say of a release; its own settings, no part of the policy."""

    roll_back: bool = True
    """Whether a harmful release is withdrawn without asking."""
    harmed_partners: int = Field(default=1, ge=1)
    """So many partners must be harmed. With one, a single partner can hold releases back."""
    gain_fall: float = Field(default=0.1, gt=0)
    """Alarm where a partner's relative gain has fallen by more since the run before."""


@dataclass(frozen=True)
class Alarm:
    """Something that an operator should look at."""

    partner: str
    code: str
    learner: str | None = None


@dataclass(frozen=True)
class RunSeen:
    """What came of a run.

    Attributes
    ----------
    run, time
        Which, and when it was delivered (UTC, ISO 8601).
    releases
        Numbers of its releases, by learner.
    figures
        As the partners gave them.
    left_out
        By partner, the code for which it has not adopted.
    alarms
        What stood out.
    withdrawn
        Learners whose release was withdrawn.
    """

    run: str
    time: str
    releases: Mapping[str, int]
    figures: Figures
    left_out: Mapping[str, str] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    withdrawn: tuple[str, ...] = ()


def gain(figures: Mapping[str, float]) -> float | None:
    """Return by how much what a partner deploys is ahead of its own arm, relative; ``None``: it does not say."""
    own = figures.get("ndcg@10/local_space", figures.get("ndcg@10/local"))
    deployed = figures.get("ndcg@10/federated")
    return deployed / own - 1 if own and deployed is not None else None


def alarms(now: Figures, before: Figures, watch: Watch) -> tuple[Alarm, ...]:
    """What stands out in a run, partner by partner.

    Parameters
    ----------
    now, before
        Figures of this run, and of the run before.
    watch
        The thresholds.
    """
    found = []
    for partner, figures in sorted(now.items()):
        harmed = sorted(name.removeprefix("harm/") for name in figures if name.startswith("harm/") and figures[name])
        found += [Alarm(partner, HARM, learner) for learner in harmed]
        lead, then = gain(figures), gain(before.get(partner, {}))
        if lead is not None and then is not None and then - lead > watch.gain_fall:
            found.append(Alarm(partner, GAIN))
        if figures.get("drift"):
            found.append(Alarm(partner, DRIFT))
    return tuple(found)


def harmful(seen: tuple[Alarm, ...], watch: Watch) -> tuple[str, ...]:
    """Learners whose release harms as many partners as are needed to withdraw it."""
    harmed = [alarm.learner for alarm in seen if alarm.code == HARM and alarm.learner]
    return tuple(sorted({x for x in harmed if watch.roll_back and harmed.count(x) >= watch.harmed_partners}))


class History:
    """What came of every run: ``watch.jsonl`` in the output folder, one line a run.

    Parameters
    ----------
    out
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "watch.jsonl"

    def add(self, seen: RunSeen) -> None:
        """Append a run; one that was delivered twice, because its server was killed, counts as it was last."""
        line = json.dumps(asdict(seen), ensure_ascii=False, sort_keys=True) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def runs(self) -> list[RunSeen]:
        """Return every run, the oldest first.

        Raises
        ------
        FederationError
            K710 a line is damaged.
        """
        if not self.path.is_file():
            return []
        found: dict[str, RunSeen] = {}
        *lines, _ = self.path.read_bytes().split(b"\n")  # what follows the last line's end is half a line
        for line in lines:
            try:
                said = json.loads(line)
                said["alarms"] = tuple(Alarm(**alarm) for alarm in said["alarms"])
                seen = RunSeen(**{**said, "withdrawn": tuple(said["withdrawn"])})
            except (ValueError, TypeError, KeyError) as error:
                raise FederationError(
                    "K710", f"{self.path} is damaged: {error}.", "Move it away; the next run begins a new one."
                ) from error
            found.pop(seen.run, None)
            found[seen.run] = seen
        return list(found.values())
