"""Runs that are due, on a clock of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from koinon.errors import FederationError
from koinon.privacy.ledger.kinds import Kind
from koinon.privacy.signing import Signer
from koinon.server.operation.runner import FIRST_WAIT, LONGEST_WAIT, Runner
from koinon.server.operation.schedule import Progress, Schedule, parse_moment
from koinon.server.state import LedgerBook, open_store

START = datetime(2027, 1, 4, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Run:
    """A run that ends when the test says how."""

    clock: Callable[[], datetime]
    started: list[datetime] = field(default_factory=list)
    code: str | None = None

    def start(self) -> None:
        self.started.append(self.clock())
        self.code = None

    def outcome(self) -> str | None:
        return self.code


@dataclass
class Hosted:
    """A federation's folder with a runner that can be started again, as a host is."""

    folder: Path
    book: LedgerBook
    clock: Clock
    run: Run
    there: int = 3

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        how = {"minimum": lambda: 2, "connected": lambda: self.there, "clock": self.clock}
        self.runner = Runner(self.folder, self.run, self.book, "shops", **how)  # type: ignore[arg-type]

    def at(self, moment: datetime, code: str | None = "") -> int:
        """Look at a moment, let the run that goes on end (``None``: it does not); how many were ever started."""
        self.clock.now = moment
        self.runner.follow()
        if code is not None:
            self.run.code = code
            self.runner.follow()
        return len(self.run.started)


@pytest.fixture
def hosted(tmp_path: Path) -> Hosted:
    book = LedgerBook(open_store(tmp_path / "state.db"), Signer.open(tmp_path / "server.key"))
    book.begin("shops", "a" * 64)
    clock = Clock()
    return Hosted(tmp_path, book, clock, Run(clock=clock))


def weekly(folder: Path, **changes: object) -> None:
    Schedule.model_validate({"every": "7d", "since": START, **changes}).save(folder)


def test_nothing_runs_without_a_schedule(hosted: Hosted) -> None:
    assert hosted.at(START + 30 * DAY) == 0


def test_a_run_starts_when_it_is_due_and_once(hosted: Hosted) -> None:
    weekly(hosted.folder)
    assert hosted.at(START) == 0
    assert hosted.at(START + 7 * DAY - timedelta(seconds=1)) == 0
    assert hosted.at(START + 7 * DAY) == 1
    assert hosted.at(START + 8 * DAY) == 1
    assert hosted.at(START + 14 * DAY) == 2


def test_daily_means_a_time_of_day_in_utc(hosted: Hosted) -> None:
    Schedule(every="daily 03:00", since=START).save(hosted.folder)
    assert hosted.at(START + timedelta(hours=14)) == 0
    three = datetime(2027, 1, 5, 3, 0, tzinfo=UTC)
    assert hosted.at(three) == 1
    assert hosted.at(three + timedelta(hours=23)) == 1
    assert hosted.at(three + DAY) == 2


def test_what_was_missed_is_caught_up_with_once(hosted: Hosted) -> None:
    weekly(hosted.folder)
    assert hosted.at(START + 7 * DAY) == 1
    hosted.restart()  # after five weeks without a host
    assert hosted.at(START + 43 * DAY) == 2
    assert hosted.at(START + 44 * DAY) == 2
    assert hosted.at(START + 49 * DAY) == 3


def test_never_two_at_once(hosted: Hosted) -> None:
    weekly(hosted.folder)
    assert hosted.at(START + 7 * DAY, None) == 1
    assert hosted.at(START + 14 * DAY, None) == 1
    assert hosted.at(START + 15 * DAY, "") == 1  # now it has ended; the slot of day 14 is due
    assert hosted.at(START + 15 * DAY, "") == 2


def test_a_host_that_was_killed_under_a_run_starts_it_again(hosted: Hosted) -> None:
    weekly(hosted.folder)
    hosted.at(START + 7 * DAY, None)
    hosted.restart()
    assert hosted.at(START + 7 * DAY + timedelta(minutes=1)) == 2
    assert hosted.at(START + 8 * DAY) == 2


def test_a_failed_run_is_tried_again_with_patience_and_on_record(hosted: Hosted) -> None:
    weekly(hosted.folder)
    now = START + 7 * DAY
    assert hosted.at(now, "K704") == 1
    waits = []
    for attempt in range(2, 10):
        progress = Progress.of(hosted.folder)
        assert progress.failures == attempt - 1
        assert progress.not_before is not None
        waits.append(progress.not_before - now)
        assert hosted.at(progress.not_before - timedelta(seconds=1)) == attempt - 1
        now = progress.not_before
        assert hosted.at(now, "K704") == attempt
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    refused = hosted.book.entries(kind=Kind.REFUSAL)
    assert [(e.subject, e.body["action"], e.body["code"]) for e in refused] == [("shops", "scheduled_run", "K704")] * 9
    again = Progress.of(hosted.folder).not_before
    assert again is not None
    assert hosted.at(again, "") == 10
    assert Progress.of(hosted.folder) == Progress(slot=START + 7 * DAY)
    assert hosted.at(again + timedelta(hours=1)) == 10


def test_patience_outlives_a_restart(hosted: Hosted) -> None:
    weekly(hosted.folder)
    hosted.at(START + 7 * DAY, "K704")
    hosted.restart()
    assert hosted.at(START + 7 * DAY + FIRST_WAIT / 2) == 1
    assert hosted.at(START + 7 * DAY + FIRST_WAIT) == 2


def test_it_waits_for_members_and_says_so_once(hosted: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    weekly(hosted.folder, at_least=5)
    with caplog.at_level(logging.INFO, logger="koinon.host"):
        for minute in range(10):
            assert hosted.at(START + 7 * DAY + timedelta(minutes=minute)) == 0
    assert sum("3 are connected, 5 are needed" in line for line in caplog.messages) == 1
    assert Progress.of(hosted.folder).failures == 0
    hosted.there = 5
    assert hosted.at(START + 8 * DAY) == 1


def test_nothing_is_due_from_the_end_on(hosted: Hosted) -> None:
    weekly(hosted.folder, until=START + 14 * DAY)
    assert hosted.at(START + 7 * DAY) == 1
    assert hosted.at(START + 14 * DAY) == 1
    assert hosted.at(START + 70 * DAY) == 1


def test_a_new_schedule_and_off_hold_from_the_next_look_on(hosted: Hosted) -> None:
    weekly(hosted.folder)
    Schedule(every="12h", since=START).save(hosted.folder)
    assert hosted.at(START + timedelta(hours=12)) == 1
    Schedule.file(hosted.folder).unlink()
    assert hosted.at(START + timedelta(hours=24)) == 1


def test_a_clock_that_was_set_back_starts_nothing_twice(hosted: Hosted) -> None:
    weekly(hosted.folder)
    assert hosted.at(START + 14 * DAY) == 1
    assert hosted.at(START + 8 * DAY) == 1
    assert hosted.at(START + 14 * DAY) == 1


def test_a_damaged_schedule_is_said_once_and_mended(hosted: Hosted, caplog: pytest.LogCaptureFixture) -> None:
    Schedule.file(hosted.folder).write_text("every = 7")
    for day in range(3):
        assert hosted.at(START + (7 + day) * DAY) == 0
    assert sum("K103" in line for line in caplog.messages) == 1
    weekly(hosted.folder)
    assert hosted.at(START + 10 * DAY) == 1


@pytest.mark.parametrize("every", ["", "7", "0d", "1m", "4m", "daily 24:00", "daily 3:00", "7 d", "-1d", "monthly"])
def test_what_is_no_schedule_is_refused(every: str) -> None:
    with pytest.raises(FederationError, match="K797"):
        Schedule(every=every, since=START)


def test_moments_are_utc_unless_they_say_otherwise() -> None:
    assert parse_moment("2027-01-31") == datetime(2027, 1, 31, tzinfo=UTC)
    assert parse_moment("2027-01-31T03:00+01:00") == datetime(2027, 1, 31, 2, tzinfo=UTC)
    with pytest.raises(FederationError, match="K797"):
        parse_moment("soon")


def test_the_next_slot() -> None:
    weekly = Schedule(every="7d", since=START, until=START + 14 * DAY)
    assert weekly.next_due(START - DAY) == START + 7 * DAY
    assert weekly.next_due(START + 7 * DAY) is None
    daily = Schedule(every="daily 03:00", since=START)
    assert daily.next_due(START) == datetime(2027, 1, 5, 3, tzinfo=UTC)
