"""Which Koinon is installed: what both sides compare before a partner lets a federation's code near its data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import koinon

__all__ = ["code_sha256"]


def code_sha256() -> str:
    """Return the SHA-256 (hex) of all Python source of the installed ``koinon`` packages.

    Covers every ``.py`` file by its path below ``koinon/`` and its content, in the order of the paths; where the
    package lies, and in how many folders, makes no difference.
    """
    files = {
        path.relative_to(root).as_posix(): path
        for root in map(Path, koinon.__path__)
        for path in root.rglob("*.py")
        if "__pycache__" not in path.parts
    }
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0".encode() + hashlib.sha256(files[name].read_bytes()).digest())
    return digest.hexdigest()
