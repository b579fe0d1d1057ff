"""A partner's privacy account: what was charged, on the partner's own disk, before anything leaves.

The file holds every charge ever made, each with the hash of the one before it. A charge is on the disk before its
release is even computed, so a kill in between loses budget and never the other way round. What has left names its
charge in the egress log; an account that does not hold a charge of which that log tells was rolled back.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koinon.config import write_atomically
from koinon.errors import PrivacyError
from koinon.privacy.budget.accounting import Event, spent
from koinon.privacy.budget.config import PrivacyConfig
from koinon.privacy.canonical import canonical

__all__ = ["ACCOUNT_FILE", "Account", "Charge"]

ACCOUNT_FILE = Path("federation", "privacy.json")
"""Within a partner's folder."""

_VERSION = 1
_START = "0" * 64


@dataclass(frozen=True)
class Charge:
    """One entry of an account.

    Attributes
    ----------
    number
        From 1.
    time
        ISO 8601 UTC.
    purpose
        For people, e.g. ``federated_gram round 1``.
    key
        Names the release, e.g. ``<run>/federated_gram/1``.
    events
        What it cost.
    noise
        Standard deviation of each tensor's noise, as it was added.
    before, hash
        SHA-256 of the charge before, and of this one.
    """

    number: int
    time: str
    purpose: str
    key: str
    events: tuple[Event, ...]
    noise: Mapping[str, float]
    before: str
    hash: str = field(default="")

    def sealed(self) -> Charge:
        """The same with its hash."""
        return Charge(**{**self._fields(), "hash": self.digest()})

    def digest(self) -> str:
        """SHA-256 over everything but ``hash``."""
        said = {**self.plain(), "hash": ""}
        return hashlib.sha256(canonical(said)).hexdigest()

    def plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {**self._fields(), "events": [asdict(event) for event in self.events], "noise": dict(self.noise)}

    def named(self) -> dict[str, Any]:
        """What names it elsewhere, e.g. in a log of what left under it."""
        return {"number": self.number, "purpose": self.purpose, "hash": self.hash}

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Charge:
        """Read it back."""
        return cls(**{**said, "events": tuple(Event(**event) for event in said["events"])})

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Account:
    """The account in a partner's folder.

    Parameters
    ----------
    folder
        The partner's folder.
    witness
        Hash of the last charge that the egress log names, or ``None``.

    Raises
    ------
    PrivacyError
        K671 the file is damaged: unreadable, or its chain broken. K672 it was rolled back or removed: the egress log
        tells of a charge that it does not hold.
    """

    def __init__(self, folder: Path, witness: str | None = None) -> None:
        self.path = folder / ACCOUNT_FILE
        self.witness = witness
        self.charges: tuple[Charge, ...] = ()
        self.read()

    def read(self) -> None:
        """Read the file anew and verify it."""
        self.charges = _read(self.path)
        if self.witness is not None and self.witness not in {charge.hash for charge in self.charges}:
            raise PrivacyError(
                "K672",
                f"{self.path} does not hold a charge of which the egress log tells: it was rolled back or removed.",
                "Restore the newest copy; without it this partner must not send anything under a budget again.",
            )

    def find(self, key: str) -> Charge | None:
        """The last charge for a release, or ``None``."""
        return next((charge for charge in reversed(self.charges) if charge.key == key), None)

    def spent(self, delta: float) -> float:
        """ε of everything charged so far, at ``delta``."""
        return spent(self._events(), delta)

    def check(self, privacy: PrivacyConfig, events: Sequence[Event], purpose: str) -> None:
        """Ask whether the budget bears a further charge.

        Raises
        ------
        PrivacyError
            K670 with it the budget would be passed.
        """
        after = spent([*self._events(), *events], privacy.delta)
        if after > privacy.epsilon:
            raise PrivacyError(
                "K670",
                f"{purpose} would bring the spent budget to ε = {after:.4g} of {privacy.epsilon:.4g}.",
                "This partner takes no further part under this policy; `koinon partner privacy DIR` shows the account.",
            )

    def charge(
        self, privacy: PrivacyConfig, key: str, purpose: str, events: Sequence[Event], noise: Mapping[str, float]
    ) -> Charge:
        """Charge a release that is about to be made; it is on the disk when this returns.

        Raises
        ------
        PrivacyError
            K670 the budget would be passed, and nothing is charged; K671, K672 as the class.
        ResourceError
            K801 the disk is full.
        """
        with self._locked():
            self.read()
            self.check(privacy, events, purpose)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            before = self.charges[-1].hash if self.charges else _START
            made = Charge(len(self.charges) + 1, now, purpose, key, tuple(events), dict(noise), before).sealed()
            entries = [charge.plain() for charge in (*self.charges, made)]
            write_atomically(self.path, json.dumps({"version": _VERSION, "charges": entries}, indent=1) + "\n")
            _sync_folder(self.path.parent)
            self.charges = (*self.charges, made)
        return made

    def _events(self) -> list[Event]:
        return [event for charge in self.charges for event in charge.events]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> tuple[Charge, ...]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    try:
        if said["version"] != _VERSION:
            raise ValueError(f"version {said['version']}")
        charges = tuple(Charge.from_plain(entry) for entry in said["charges"])
    except (KeyError, TypeError, ValueError, PrivacyError) as error:
        raise _damaged(path, str(error)) from error
    before = _START
    for number, charge in enumerate(charges, 1):
        if (charge.number, charge.before, charge.hash) != (number, before, charge.digest()):
            raise _damaged(path, f"charge {number} is not what was written")
        before = charge.hash
    return charges


def _damaged(path: Path, why: str) -> PrivacyError:
    return PrivacyError(
        "K671",
        f"The privacy account {path} is damaged: {why}.",
        "Restore the newest copy; without it this partner must not send anything under a budget again.",
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
