"""Starts a federation's runs when they are due, one at a time; a failed one is tried again, ever more patiently."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from koinon.errors import KoinonError
from koinon.privacy.ledger.kinds import Kind
from koinon.server.operation.schedule import Progress, Schedule
from koinon.server.processes import Processes
from koinon.server.state import LedgerBook

__all__ = ["ProcessRun", "Runner", "Started", "utc_now"]

FIRST_WAIT = timedelta(minutes=5)
LONGEST_WAIT = timedelta(hours=6)
LOOK_FOR_MEMBERS = timedelta(seconds=30)
_LOG = logging.getLogger("koinon.host")


class Started(Protocol):
    """A run under way."""

    def start(self) -> None:
        """Start it."""

    def outcome(self) -> str | None:
        """``None`` while it goes on, then its error's code; empty: it ended well."""


class Runner:
    """Follows a federation's schedule.

    Parameters
    ----------
    folder
        The federation's folder.
    run
        Runs the federation once.
    book
        Where failures go on record.
    federation
        Its name.
    minimum
        Members that a run needs, where the schedule does not say.
    connected
        How many approved members' nodes are connected now.
    clock
        The present, UTC.
    """

    def __init__(
        self,
        folder: Path,
        run: Started,
        book: LedgerBook,
        federation: str,
        *,
        minimum: Callable[[], int],
        connected: Callable[[], int],
        clock: Callable[[], datetime],
    ) -> None:
        self.folder = folder
        self.run = run
        self.book = book
        self.federation = federation
        self.minimum = minimum
        self.connected = connected
        self.clock = clock
        self._going = False
        self._look_again: datetime | None = None
        self._said = ""

    def follow(self) -> None:
        """Look once: has a run ended, is one due, may it start? What cannot be read is said once, and waited for."""
        try:
            self._follow()
        except KoinonError as error:
            self._say(logging.ERROR, f"the schedule cannot be followed: {error}")

    def _follow(self) -> None:
        if self._going:
            code = self.run.outcome()
            if code is not None:
                self._going = False
                self._ended(code)
            return
        schedule, progress, now = Schedule.of(self.folder), Progress.of(self.folder), self.clock()
        if schedule is None:
            return
        slot = schedule.last_due(now)
        if slot is None or (progress.slot is not None and slot <= progress.slot):
            return
        if progress.not_before is not None and now < progress.not_before:
            return
        if self._enough(schedule, now):
            Progress(slot=progress.slot, running=slot, failures=progress.failures, code=progress.code).save(self.folder)
            _LOG.info("scheduled run of %s starts", _said(slot))
            self.run.start()
            self._going, self._said = True, ""

    def _enough(self, schedule: Schedule, now: datetime) -> bool:
        if self._look_again is not None and now < self._look_again:
            return False
        needed, there = schedule.at_least or self.minimum(), self.connected()
        if there >= needed:
            self._look_again = None
            return True
        self._look_again = now + LOOK_FOR_MEMBERS
        self._say(logging.WARNING, f"a scheduled run waits for members: {there} are connected, {needed} are needed")
        return False

    def _ended(self, code: str) -> None:
        progress, now = Progress.of(self.folder), self.clock()
        if not code:
            Progress(slot=progress.running).save(self.folder)
            _LOG.info("scheduled run ended well")
            return
        failures = progress.failures + 1
        wait = min(FIRST_WAIT * 2 ** min(failures - 1, 10), LONGEST_WAIT)
        Progress(slot=progress.slot, failures=failures, not_before=now + wait, code=code).save(self.folder)
        self.book.append(Kind.REFUSAL, self.federation, action="scheduled_run", code=code)
        _LOG.error("scheduled run failed (%s), attempt %d; the next one in %s", code, failures, wait)

    def _say(self, level: int, what: str) -> None:
        """Say something in the log once, not at every look."""
        if what != self._said:
            _LOG.log(level, "%s", what)
            self._said = what


class ProcessRun:
    """A run in a process of its own, which ends with the host's others.

    Parameters
    ----------
    processes
        The host's.
    folder
        The federation's folder.
    """

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.said = folder / "logs" / "scheduled-run.code"

    def start(self) -> None:
        """Start it; its output is in ``logs/scheduled-run.log``."""
        self.said.unlink(missing_ok=True)
        command = [sys.executable, "-m", "koinon.server.operation.once", str(self.folder), str(self.said)]
        self.processes.start("scheduled-run", command)

    def outcome(self) -> str | None:
        """``None`` while it goes on, then its error's code; empty: it ended well."""
        process = self.processes.running["scheduled-run"]
        if process.poll() is None:
            return None
        try:
            return self.said.read_text(encoding="ascii")
        except OSError:
            return "K707"


def utc_now() -> datetime:
    """The present."""
    return datetime.now(UTC)


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
