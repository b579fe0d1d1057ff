"""The one error tree of Koinon.

Library code raises these; only the command line prints them. Every error carries a stable ``code`` (safe to let
cross the door to a server: it never contains data), a sentence that says what is wrong, a remedy, and an exit code.

    KoinonError
    ├── ConfigError        K1xx  exit 2   a setting or a command line that cannot be used
    ├── DataError          K2xx  exit 3   a table, file or data set that cannot be used
    ├── SpaceError         K3xx  exit 4   an encoder, a vector cache or an adapter
    ├── RecommenderError   K4xx  exit 5   fitting, scoring, loading a recommender
    ├── EvaluationError    K5xx  exit 6   an evaluation that would not be sound
    ├── PrivacyError       K6xx  exit 7   something that must not leave a partner; an unsound privacy setting
    ├── FederationError    K7xx  exit 8   rounds, releases, processes
    └── ResourceError      K8xx  exit 9   disk, memory, network, ports
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConfigError",
    "DataError",
    "EvaluationError",
    "FederationError",
    "KoinonError",
    "PrivacyError",
    "RecommenderError",
    "ResourceError",
    "SpaceError",
]


class KoinonError(Exception):
    """An error with a stable code, a sentence and a remedy.

    Parameters
    ----------
    code
        Stable, e.g. ``"K203"``; documented in ``docs/errors.md``. Holds no data.
    message
        What is wrong, naming file, row, column and value where they exist.
    remedy
        What the user can do about it, one sentence.
    """

    family: ClassVar[str] = "K0"
    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        if not code.startswith(self.family):
            raise ValueError(f"{type(self).__name__} takes codes that begin with {self.family}, not {code}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}" + (f" {self.remedy}" if self.remedy else "")

    def __reduce__(self) -> tuple[type[KoinonError], tuple[str, str, str]]:
        return type(self), (self.code, self.message, self.remedy)


class ConfigError(KoinonError):
    """A setting or a command line that cannot be used."""

    family, exit_code = "K1", 2


class DataError(KoinonError):
    """A table, file or data set that cannot be used."""

    family, exit_code = "K2", 3


class SpaceError(KoinonError):
    """An encoder, a vector cache or an adapter that cannot be used."""

    family, exit_code = "K3", 4


class RecommenderError(KoinonError):
    """A recommender that cannot be fitted, loaded or asked."""

    family, exit_code = "K4", 5


class EvaluationError(KoinonError):
    """An evaluation that would not be sound."""

    family, exit_code = "K5", 6


class PrivacyError(KoinonError):
    """Something that must not leave a partner, or an unsound privacy setting."""

    family, exit_code = "K6", 7


class FederationError(KoinonError):
    """A round, a release or a process of a federation that failed."""

    family, exit_code = "K7", 8


class ResourceError(KoinonError):
    """Disk, memory, network or ports."""

    family, exit_code = "K8", 9
