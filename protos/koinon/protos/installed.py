"""Which Koinon is installed: what both sides compare before a partner lets a federation's code near its data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import koinon

__all__ = ["code_sha256"]


def code_sha256() -> str:
    """Return the SHA-256 (hex) of the installed ``koinon`` packages.

    Covers every file, source and data, by its path below ``koinon/`` and its content, in the order of the paths; where
    the package lies, and in how many folders, makes no difference. Left out is what Python and editors make: byte
    code, hidden files, backups.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_files()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files() -> list[tuple[str, Path]]:
    found = []
    for root in map(Path, koinon.__path__):
        for path in root.rglob("*"):
            name = path.relative_to(root)
            made = any(part == "__pycache__" or part.startswith(".") for part in name.parts)
            if not made and path.suffix != ".pyc" and not path.name.endswith("~") and path.is_file():
                found.append((name.as_posix(), path))
    return found
