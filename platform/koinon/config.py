"""What every configuration shares: frozen pydantic models, TOML in and out, whole files or none."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from koinon.errors import ConfigError, ResourceError

__all__ = ["Config", "atomic_path", "sweep", "write_atomically", "write_new_private"]

_PART = ".part-"


class Config(BaseModel):
    """Base of every configuration: frozen, refuses unknown keys, read from TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises
        ------
        ConfigError
            K101 the file is missing or unreadable, K102 it is no TOML, K103 a key is wrong (names the key).
        """
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "K101", f"Cannot read {path}: {error}.", "Check the path and the file's rights."
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("K102", f"{path} is not valid TOML: {error}.", "Mend the line it names.") from error
        return cls.from_dict(raw, source=str(path))

    @classmethod
    def from_dict(cls, raw: dict[str, object], *, source: str = "the configuration") -> Self:
        """Validate a plain dictionary; ``source`` names it in errors."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                "K103",
                f"{source}: key `{key}`: {first['msg']} (value: {first.get('input')!r}).",
                "Correct the key; `--help` and docs/ list the keys and their ranges.",
            ) from error

    def to_toml(self) -> str:
        """Write as TOML, without what is ``None`` or the default; :meth:`from_toml` reads it back."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude_defaults=True))


@contextmanager
def atomic_path(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``target``; on success it is synced and renamed onto it, on failure removed.

    A ``private`` file can be read by its owner alone, at every moment.

    Raises
    ------
    ResourceError
        K801 when the disk is full or the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_PART}{target.name}.", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o600 if private else 0o644)
        temporary.replace(target)
    except OSError as error:
        raise ResourceError(
            "K801", f"Cannot write {target}: {error.strerror or error}.", "Free disk space or choose another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(target: Path, content: bytes | str, *, private: bool = False) -> None:
    """Write a whole file or nothing (see :func:`atomic_path`)."""
    with atomic_path(target, private=private) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_new_private(target: Path, content: bytes) -> None:
    """Write a file that only its owner can read, unless it is there: of several writers the first one's stays.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_PART}{target.name}.")  # made with mode 600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, target)  # unlike a rename it does not replace what another process has made meanwhile
    except FileExistsError:
        pass
    finally:
        Path(name).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed outright have left half-written beneath a folder; nobody may write there."""
    for path in folder.rglob(f"{_PART}*"):
        path.unlink(missing_ok=True)
