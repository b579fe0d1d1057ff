"""How the ClientApp and the partner's worker talk: frames over a Unix socket that only the partner's user can open.

Flower starts a process for every message. Loading PyTorch, the partner's data and its caches each time would cost more
than most rounds compute, so a worker of the partner keeps them and the ClientApp stays thin.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from koinon.errors import FederationError

__all__ = ["Frame", "receive", "same_user", "send", "socket_path"]

Frame = tuple[dict[str, Any], bytes, Mapping[str, NDArray[np.generic]]]
"""Plain fields, a serialised message, named arrays."""

_HEAD = struct.Struct("!QQQ")
_LIMIT = 1 << 34
"""No frame is longer than 16 GiB; a greater length is a broken peer."""


def socket_path(folder: Path) -> Path:
    """Where a partner's worker listens: short enough for a Unix socket, in a folder of the user's own.

    Raises
    ------
    FederationError
        K723 the folder is not the user's own, or others may enter it.
    """
    private = Path(tempfile.gettempdir()) / f"koinon-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise FederationError(
            "K723", f"{private} is not a private folder of this user.", "Remove it, or set TMPDIR to a private folder."
        )
    return private / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.sock"


def same_user(connection: socket.socket) -> bool:
    """Whether the peer is run by the same user; where the system cannot tell, the folder's rights must do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(user == os.getuid())


def send(connection: socket.socket, frame: Frame) -> None:
    """Send one frame.

    Raises
    ------
    FederationError
        K724 the other side has ended.
    """
    fields, said, arrays = frame
    parts = [json.dumps(fields).encode(), said, save({n: np.ascontiguousarray(array) for n, array in arrays.items()})]
    try:
        connection.sendall(_HEAD.pack(*(len(part) for part in parts)))
        while parts:
            connection.sendall(parts.pop(0))
    except ConnectionError as error:
        raise _broken() from error


def receive(connection: socket.socket) -> Frame:
    """Receive one frame.

    Raises
    ------
    FederationError
        K724 the other side ended in the middle of a frame.
    """
    lengths = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if sum(lengths) > _LIMIT:
        raise _broken()
    fields, said, arrays = (_exactly(connection, length) for length in lengths)
    return json.loads(fields), bytes(said), load(bytes(arrays))


def _exactly(connection: socket.socket, length: int) -> bytearray:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        try:
            got = connection.recv_into(view)
        except ConnectionError as error:  # killed before it had read all that it was told
            raise _broken() from error
        if not got:
            raise _broken()
        view = view[got:]
    return buffer


def _broken() -> FederationError:
    return FederationError("K724", "The partner's worker ended before it answered.", "See federation/errors.log.")
