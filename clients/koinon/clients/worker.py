"""The partner's worker: keeps PyTorch, data and caches warm between the short-lived ClientApp processes.

Started on demand by the first message; ends with the node it serves, after a run's last message, or when nobody has
asked for a while.
``python -m koinon.clients.worker FOLDER WATCHED_PID``.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from koinon.clients import door
from koinon.clients.channel import Frame, receive, same_user, send, socket_path
from koinon.clients.home import Home
from koinon.config import sweep
from koinon.errors import FederationError
from koinon.recommenders.protocol import Catalogue, Contribution

if TYPE_CHECKING:
    from koinon.clients.work import Phase, Result

__all__ = ["ask_worker", "end_with", "main"]

START_SECONDS = 60.0
IDLE_SECONDS = 900.0
GRACE_SECONDS = 5.0

Arrays = Mapping[str, NDArray[np.generic]]


class WorkerError(FederationError):
    """An error of the worker: its code alone came over; the rest is in the partner's error log."""

    family = "K"

    def __init__(self, code: str) -> None:
        super().__init__(code, "The worker answered with an error.", "See federation/errors.log.")

    def __reduce__(self) -> tuple[type[WorkerError], tuple[str]]:  # type: ignore[override]
        return type(self), (self.code,)


def ask_worker(phase: Phase, home: Home, said: bytes, tensors: dict[str, NDArray[np.generic]]) -> Result:
    """Let the partner's worker compute; start it if it does not run. ``tensors`` is emptied once it is sent.

    Raises
    ------
    FederationError
        K725 the worker could not be started, K724 it ended before it answered; else the worker's own code.
    """
    with _connected(home) as connection:
        send(connection, ({"phase": phase, "home": _plain(home)}, said, tensors))
        tensors.clear()
        fields, _, arrays = receive(connection)
    return _result(fields, arrays)


def _connected(home: Home) -> socket.socket:
    path = socket_path(home.folder)
    deadline = time.monotonic() + START_SECONDS
    worker: int | None = None
    while time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            if worker is None:
                worker = _start(home)
            elif _gave_up(worker):
                break
            time.sleep(0.05)
            continue
        if same_user(connection):
            return connection
        connection.close()
        break
    raise FederationError("K725", "The partner's worker could not be started.", "See federation/errors.log.")


def _start(home: Home) -> int:
    """Start the worker in a session of its own and return its process id; nobody waits for it."""
    command = [sys.executable, "-m", "koinon.clients.worker", str(home.folder), str(os.getppid())]
    log = home.folder / "federation" / "errors.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        streams = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        return os.posix_spawn(sys.executable, command, os.environ, file_actions=[nothing, *streams], setsid=True)
    finally:
        os.close(output)


def _gave_up(worker: int) -> bool:
    """Whether a worker that was started has ended with an error (one that gives way to another ends without)."""
    try:
        ended, status = os.waitpid(worker, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == worker and os.waitstatus_to_exitcode(status) != 0


def main(folder: Path, watched: int) -> int:
    """Serve one partner until its node ends or nobody asks any more; a second worker gives way to the first."""
    folder = folder.resolve()
    lock = (folder / "federation" / "worker.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    sweep(folder / "federation")
    path = socket_path(folder)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen()
    listener.settimeout(IDLE_SECONDS)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=end_with, args=(watched,), daemon=True).start()
    try:
        _serve(listener, folder)
    finally:
        path.unlink(missing_ok=True)
    return 0


def _serve(listener: socket.socket, folder: Path) -> None:
    from koinon.clients.partner_state import Partners

    partners = Partners(keep=1)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection:
            if not same_user(connection):
                continue
            connection.settimeout(None)
            try:
                asked = receive(connection)
                done = asked[0].get("phase") == "adopt"
                send(connection, _handle(asked, folder, partners))
            except (OSError, FederationError):
                continue  # the ClientApp went away; the next one will ask again
        if done:  # a run's last message: what was kept warm would only be in the other partners' way
            return
        del asked


def _handle(frame: Frame, folder: Path, partners: Any) -> Frame:
    from koinon.clients.work import perform

    fields, said, arrays = frame
    home = _home(fields["home"])
    if home.folder.resolve() != folder:
        return {"kind": "error", "code": "K722"}, b"", {}
    try:
        return _frame(perform(fields["phase"], replace(home, folder=folder), said, arrays, partners))
    except Exception as error:
        home.note_error(error)
        return {"kind": "error", "code": door.error_code(error)}, b"", {}


def _frame(result: Result) -> Frame:
    if isinstance(result, Contribution):
        about = {"kind": "contribution", "n_users": result.n_users, "metrics": dict(result.metrics)}
        return about, b"", result.arrays
    if isinstance(result, Catalogue):
        return {"kind": "catalogue", **asdict(result)}, b"", {}
    return {"kind": "adopted", "metrics": dict(result.metrics)}, b"", {}


def _result(fields: dict[str, Any], arrays: Arrays) -> Result:
    kind = fields.pop("kind")
    if kind == "contribution":
        return Contribution(arrays, fields["n_users"], fields["metrics"])
    if kind == "catalogue":
        texts, languages = (tuple(fields[k]) if fields[k] is not None else None for k in ("texts", "languages"))
        return Catalogue(fields["partner"], tuple(fields["keys"]), texts, languages)
    if kind == "adopted":
        return door.Adopted(fields["metrics"])
    raise WorkerError(fields["code"])


def _plain(home: Home) -> dict[str, Any]:
    return {**asdict(home), "folder": str(home.folder), "places": str(home.places) if home.places else None}


def _home(fields: dict[str, Any]) -> Home:
    places = Path(fields["places"]) if fields["places"] else None
    return Home(**{**fields, "folder": Path(fields["folder"]), "places": places})


def _end(*_: object) -> None:
    """End: unwinding, so that temporary files are removed on the way out; but not for ever."""
    last = threading.Timer(GRACE_SECONDS, os._exit, (1,))
    last.daemon = True
    last.start()
    sys.exit(0)


def end_with(watched: int) -> None:
    """End this process when the watched one has ended."""
    while True:
        time.sleep(0.5)
        try:
            os.kill(watched, 0)
        except PermissionError:
            continue
        except OSError:
            os.kill(os.getpid(), signal.SIGTERM)
            return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
