"""The processes of a federation: started by us, found again whatever became of them, ended by us.

Flower's processes detach their children into sessions of their own and Ray starts a dozen more, so a process group does
not hold them together. Every process we start carries one mark in its environment, which its descendants inherit. By
that mark they are found, and their children with them (some of Ray's write over their environment), and ended by id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from koinon.errors import FederationError, ResourceError

__all__ = ["MARK", "Processes", "end_marked", "marked"]

MARK = "KOINON_FEDERATION_RUN"
"""Environment variable that marks our processes."""


def marked(mark: str) -> set[psutil.Process]:
    """Living processes, other than this one, that carry a mark or descend from one that does."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.update((process, *process.children(recursive=True)))
        except (psutil.Error, OSError):
            continue
    return {process for process in found if _alive(process)}


def end_marked(mark: str, *, grace: float = 2.0) -> None:
    """End every process that carries a mark and what they have started: first politely, then for good.

    Raises
    ------
    FederationError
        K731 some would not end.
    """
    started = time.monotonic()
    known: set[psutil.Process] = set()
    asked: set[psutil.Process] = set()
    while alive := {process for process in known | marked(mark) if _alive(process)}:
        known |= alive
        waited = time.monotonic() - started
        for process in alive if waited > grace else alive - asked:
            _signal(process, signal.SIGKILL if waited > grace else signal.SIGTERM)
        asked |= alive
        if waited > 10 * grace:
            pids = ", ".join(str(process.pid) for process in alive)
            raise FederationError("K731", f"Processes {pids} could not be ended.", "End them by hand.")
        time.sleep(0.05)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(process: psutil.Process, what: signal.Signals) -> None:
    try:
        process.send_signal(what)
    except (psutil.Error, OSError):
        return


class Processes:
    """Starts a federation's processes with one environment and one mark.

    Parameters
    ----------
    mark
        Marks them all.
    logs
        Folder for their output.
    environment
        Added to this process's own.
    """

    def __init__(self, mark: str, logs: Path, environment: Mapping[str, str]) -> None:
        self.mark = mark
        self.logs = logs
        here = str(Path(sys.executable).parent)
        path = os.pathsep.join([here, os.environ.get("PATH", "")])
        self.environment = {**os.environ, **environment, "PATH": path, MARK: mark}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that Ctrl-C reaches us first.

        Raises
        ------
        ResourceError
            K803 the program is not installed.
        """
        target = log or self.logs / f"{name}.log"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise ResourceError("K803", f"{command[0]} is not installed.", "Install Koinon anew.") from error
        self.running[name] = process
        return process

    def run(self, command: Sequence[str]) -> str:
        """Run a short command to its end and return what it printed.

        Raises
        ------
        FederationError
            K730 it failed.
        """
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[-400:]
            raise FederationError("K730", f"`{' '.join(command[:2])}` failed: {said}", f"See {self.logs}.")
        return done.stdout

    def ended(self) -> Iterator[str]:
        """Names of processes that have ended."""
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                yield name

    def end(self) -> None:
        """End them all, and all that they have started."""
        end_marked(self.mark)
        for process in self.running.values():
            process.wait(timeout=10)
        self.running.clear()
