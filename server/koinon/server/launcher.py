"""Runs a federation once: all of it on this machine, or with the members that a host has gathered.

The app is the same either way; :mod:`koinon.server.sessions` has what differs. Whatever happens (success, an error,
Ctrl-C), everything started is ended.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from koinon.errors import FederationError
from koinon.privacy.ledger.kinds import Kind
from koinon.server.checkpoints import Checkpoints
from koinon.server.federation import FederationConfig, Mode
from koinon.server.membership.home import FederationHome, read_nodes
from koinon.server.membership.policy import open_registry
from koinon.server.processes import end_marked
from koinon.server.progress import Event, Progress
from koinon.server.sessions import HostedSession, OwnSession, Seen

__all__ = ["FederationResult", "run_federation", "run_hosted"]


@dataclass(frozen=True)
class FederationResult:
    """What a federation's run has left.

    Attributes
    ----------
    out
        The output folder.
    releases
        Folders of the releases published, by learner.
    rounds
        The ``round`` events, in order.
    adopted
        By partner, the figures it gave after it had fitted and chosen.
    left_out
        By partner, the last code for which it was left out.
    seconds
        Wall-clock time from the first process to the last.
    """

    out: Path
    mode: Mode
    releases: Mapping[str, Path]
    rounds: tuple[Event, ...]
    adopted: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, str]
    seconds: float


def run_federation(
    config: FederationConfig,
    out: Path,
    mode: Mode = "simulation",
    progress: Progress | None = None,
    *,
    record: Path | None = None,
) -> FederationResult:
    """Run a federation to its end.

    Parameters
    ----------
    config
        The federation; its partners' folders must hold a ``partner.toml``.
    out
        Output folder (see :mod:`koinon.server.checkpoints`). If it holds an unfinished run of the same policy, that
        run goes on from its last finished round.
    mode
        ``simulation`` or ``processes``.
    progress
        Called with every event as it happens.
    record
        A file for Flower's own database (runs, logs, messages under way); ``None``: it stays in memory.

    Raises
    ------
    ConfigError
        K110 a partner's folder is none.
    FederationError
        K704 too few partners, K706 another run uses the folder, K707 the server ended unexpectedly, K730 Flower
        refused the run, K731 a process could not be ended.
    ResourceError
        K801 disk, K821 the SuperLink did not come up.
    """
    config.check_folders()
    started = time.monotonic()
    out = out.resolve()
    with _alone(out), OwnSession(config, out, mode, record) as session:
        seen = session.watch(progress or (lambda _: None))
    return _result(out, mode, seen, started)


def run_hosted(home: FederationHome, progress: Progress | None = None) -> FederationResult:
    """Train once with a created federation's approved members, over the SuperLink that its host keeps.

    A run that was interrupted goes on from its last finished round, as in :func:`run_federation`.

    Parameters
    ----------
    home
        The federation's folder; ``koinon federation host`` must be running.
    progress
        Called with every event as it happens.

    Raises
    ------
    FederationError
        K765 the host does not run; K704, K706, K707, K730 as :func:`run_federation`.
    """
    started = time.monotonic()
    terms = home.terms()
    approved = read_nodes(home.nodes_file)
    if len(approved) < terms.minimum_participants:
        raise FederationError(
            "K704",
            f"{len(approved)} members are approved, at least {terms.minimum_participants} are needed.",
            "`koinon federation members` shows who is in what standing.",
        )
    config = FederationConfig.model_validate(terms.model_dump() | {"partners": {name: Path(name) for name in approved}})
    with _alone(home.out):
        _forget(home)
        with HostedSession(home, config) as session:
            seen = session.watch(progress or (lambda _: None))
    return _result(home.out, "processes", seen, started)


def _forget(home: FederationHome) -> None:
    """Drop an unfinished run if a partner that took part has left since and asked to be forgotten."""
    with open_registry(home) as registry:
        started = registry.book.last(Kind.RUN_STARTED, home.terms().name)
        left = registry.book.entries(after=started.sequence, kind=Kind.LEFT) if started else []
    if any(entry.body["forget"] for entry in left):
        Checkpoints(home.out).drop()


def _result(out: Path, mode: Mode, seen: Seen, started: float) -> FederationResult:
    return FederationResult(
        out=out,
        mode=mode,
        releases=seen.releases,
        rounds=tuple(seen.rounds),
        adopted=seen.adopted,
        left_out=seen.left_out,
        seconds=time.monotonic() - started,
    )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the output folder; end what a killed launcher has left behind in it."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FederationError(
                "K706", f"Another run is using {out}.", "Wait for it, or choose another output folder."
            ) from error
        lock.seek(0)
        before = lock.read().split()
        if len(before) == 2:
            end_marked(before[0])
            shutil.rmtree(before[1], ignore_errors=True)
        yield
