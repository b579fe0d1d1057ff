"""The Flower app of a federation: it names two modules of the installed package, and holds no code.

A SuperLink sends an app's bundle to its nodes, and a node runs what the bundle holds. So the bundle is part of the
contract: a partner's node compares what it is sent with what its own installed Koinon says the app is.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
import zlib
from collections.abc import Iterable

import tomli_w

__all__ = ["APP_ID", "APP_VERSION", "THIN_APP", "app_sha256", "bundle_sha256"]

APP_ID = "koinon/koinon-federation"
APP_VERSION = "1.0.0"

THIN_APP = f"""[project]
name = "{APP_ID.rpartition("/")[2]}"
version = "{APP_VERSION}"
description = "Names the two apps of the installed koinon package; holds no code."
license = "Apache-2.0"

[tool.flwr.app]
publisher = "{APP_ID.partition("/")[0]}"

[tool.flwr.app.components]
serverapp = "koinon.server.app:app"
clientapp = "koinon.clients.app:app"

[tool.flwr.app.config]
federation = ""
out = ""
events = ""
simulated = ""
home = ""
"""
"""``pyproject.toml`` of the app: the only file in its folder."""

_LARGEST = 1 << 20
_MANIFEST = ".info/CONTENT"
"""Flower's own list of the files' hashes; it is checked and dropped by Flower before anything is installed."""


def app_sha256() -> str:
    """Return the SHA-256 (hex) of the app's files, as :func:`bundle_sha256` finds it in a bundle that Flower built."""
    return _digest([("pyproject.toml", tomli_w.dumps(tomllib.loads(THIN_APP)).encode())])


def bundle_sha256(bundle: bytes) -> str:
    """Return the SHA-256 (hex) over the names and contents of a bundle's files; ``""`` for what is no such bundle.

    How the archive was packed makes no difference; a file more, a file twice, or another byte does.

    Parameters
    ----------
    bundle
        A Flower app bundle (a ZIP archive) as a node receives it; more than 1 MiB of content is none of ours.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > _LARGEST:
                return ""
            return _digest((e.filename, archive.read(e)) for e in entries if e.filename != _MANIFEST)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError):
        return ""


def _digest(files: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(files):
        digest.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()
