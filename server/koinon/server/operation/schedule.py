"""When a federation trains by itself: the operator's wish, and what has become of it so far.

Times are UTC. Runs are due at fixed moments, *slots*: every so often counted from when the schedule was set, or daily
at a time of day. Of slots that passed while no host ran only the last one is caught up with.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, Field, field_validator

from koinon.config import Config, write_atomically
from koinon.errors import FederationError

__all__ = ["Progress", "Schedule", "parse_moment"]

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EVERY = re.compile(r"([1-9]\d{0,4})([mhdw])")
_DAILY = re.compile(r"daily ([01]\d|2[0-3]):([0-5]\d)")
_SHORTEST = timedelta(minutes=5)


class Schedule(Config):
    """When runs are due: ``<federation>/schedule.toml``."""

    every: str
    """``30m``, ``12h``, ``7d``, ``2w``, or ``daily 03:00``."""
    since: AwareDatetime
    """When it was set; nothing is due before."""
    at_least: int | None = Field(default=None, ge=1)
    """Members that must be connected for a run to start; ``None``: the policy's minimum."""
    until: AwareDatetime | None = None
    """Nothing is due from then on."""

    @field_validator("every")
    @classmethod
    def _known(cls, every: str) -> str:
        _ = _daily(every) or _interval(every)
        return every

    @staticmethod
    def file(folder: Path) -> Path:
        """Where a federation's folder keeps it."""
        return folder / "schedule.toml"

    @classmethod
    def of(cls, folder: Path) -> Schedule | None:
        """Read a federation's schedule; ``None`` where it has none.

        Raises
        ------
        ConfigError
            K101-K103 the file is wrong.
        FederationError
            K797 ``every`` is none of its forms.
        """
        return cls.from_toml(cls.file(folder)) if cls.file(folder).is_file() else None

    def save(self, folder: Path) -> None:
        """Put it in force; a running host follows within a second."""
        write_atomically(self.file(folder), self.to_toml())

    def last_due(self, now: datetime) -> datetime | None:
        """Return the newest slot that is not after ``now``; ``None`` where there was none yet."""
        if self.until is not None and now >= self.until:
            now = self.until - timedelta(microseconds=1)
        found = self._at_or_before(now)
        return found if found > self.since or (found == self.since and _daily(self.every)) else None

    def next_due(self, after: datetime) -> datetime | None:
        """Return the first slot after a moment; ``None`` where there will be none."""
        after = max(after, self.since)
        found = self._at_or_before(after) + self.interval
        return found if self.until is None or found < self.until else None

    @property
    def interval(self) -> timedelta:
        """Time between two slots."""
        return timedelta(days=1) if _daily(self.every) else _interval(self.every)

    def _at_or_before(self, moment: datetime) -> datetime:
        if clock := _daily(self.every):
            hour, minute = clock
            slot = moment.astimezone(UTC).replace(hour=hour, minute=minute, second=0, microsecond=0)
            return slot if slot <= moment else slot - timedelta(days=1)
        return self.since + (moment - self.since) // self.interval * self.interval


class Progress(Config):
    """What has become of a schedule: ``<federation>/schedule.progress.toml``, written by the host alone."""

    slot: AwareDatetime | None = None
    """The newest slot that is done with: its run ended well, or a newer one has come."""
    running: AwareDatetime | None = None
    """The slot whose run was started and has not been seen to end."""
    failures: int = Field(default=0, ge=0)
    """Runs that failed since one ended well."""
    not_before: AwareDatetime | None = None
    """When a failed run is tried again."""
    code: str = ""
    """Of the last failure."""

    @staticmethod
    def file(folder: Path) -> Path:
        """Where a federation's folder keeps it."""
        return folder / "schedule.progress.toml"

    @classmethod
    def of(cls, folder: Path) -> Progress:
        """Read it; nothing has happened where there is none."""
        return cls.from_toml(cls.file(folder)) if cls.file(folder).is_file() else cls()

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(self.file(folder), self.to_toml())


def parse_moment(said: str) -> datetime:
    """Read a moment: ``2027-01-31``, ``2027-01-31T03:00``; UTC unless it says otherwise.

    Raises
    ------
    FederationError
        K797 it is none.
    """
    try:
        found = datetime.fromisoformat(said)
    except ValueError as error:
        raise FederationError("K797", f"{said!r} is no moment.", "Write 2027-01-31 or 2027-01-31T03:00.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _daily(every: str) -> tuple[int, int] | None:
    found = _DAILY.fullmatch(every)
    return (int(found[1]), int(found[2])) if found else None


def _interval(every: str) -> timedelta:
    found = _EVERY.fullmatch(every)
    interval = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if interval < _SHORTEST:
        raise FederationError(
            "K797", f"{every!r} is no schedule.", "Write 30m, 12h, 7d, 2w (no less than 5m), or `daily 03:00`."
        )
    return interval
