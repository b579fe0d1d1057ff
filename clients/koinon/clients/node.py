"""A partner's node: Flower's SuperNode under TLS, known by the partner's key, running pinned code only.

It stays in the foreground, as a service manager wants it. A signal ends it and the partner's worker with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from koinon.clients import pinning
from koinon.clients.clock import check_clock
from koinon.clients.keys import Keys
from koinon.clients.membership import Membership
from koinon.clients.reach import check_server, split_address
from koinon.config import write_atomically
from koinon.errors import FederationError, KoinonError, PrivacyError, ResourceError
from koinon.protos.running import QUIET, free_port, is_loopback

__all__ = ["node_command", "node_environment", "run_node"]

END_SECONDS = 15.0
RETRY_SECONDS = 10.0
TRIES = 9
"""A server takes a node that was lost for connected for up to a minute (two of Flower's heartbeats), and lets no second
one in meanwhile."""
_UNKNOWN_KEY = re.compile(r"\[code: 200[14]\]|401 Unauthorized")
_KEY_IN_USE = re.compile(r"\[code: 23\]")


def run_node(
    folder: Path,
    tell: Callable[[str], None] = lambda _: None,
    *,
    max_retries: int | None = None,
    insecure: bool = False,
) -> None:
    """Run a member's node until a signal (SIGTERM, SIGINT) ends it.

    Parameters
    ----------
    folder
        The partner's folder, with ``federation/membership.toml``.
    tell
        Hears every line that the node prints; all of them are in ``federation/node.log`` too.
    max_retries
        How often a lost server is tried again; ``None``: for ever.
    insecure
        Without TLS and without the node's key: to a server on this machine's loopback interface alone.

    Raises
    ------
    FederationError
        K736 the folder belongs to no federation, K738 the node ended by itself.
    PrivacyError
        K640, K641 its key cannot be used, K642, K643 another code is installed than was accepted, K648 without TLS
        over a network.
    ResourceError
        K828 who answers cannot prove to be the federation's server, K829 this machine's clock is off.
    """
    folder = folder.resolve()
    tries = 0
    with _ending() as asked_to_end:
        while True:
            command = node_command(folder, max_retries=max_retries, insecure=insecure)
            if not insecure:
                _check_identity(Membership.of(folder))
            status, last = _serve(command, folder, tell, asked_to_end)
            if asked_to_end.is_set():
                return
            if not insecure:
                check_clock(folder)  # the server hears no node whose clock is off, and does not say why
            tries += 1
            if insecure or tries > TRIES or not _UNKNOWN_KEY.search(last) or not _is_member(folder):
                raise _ended_by_itself(status, last, folder)
            tell("The server still counts this node's earlier connection, for a minute at most; trying again.")
            if asked_to_end.wait(RETRY_SECONDS):
                return


def _serve(
    command: list[str], folder: Path, tell: Callable[[str], None], asked_to_end: threading.Event
) -> tuple[int, str]:
    """Run the node to its end, or until it is asked to; its exit status and the last it said."""
    process = subprocess.Popen(
        command,
        env=os.environ | node_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone; we end it
    )
    last: list[str] = []
    log = folder / "federation" / "node.log"
    reader = threading.Thread(target=_read, args=(process, log, tell, last), daemon=True)
    reader.start()
    try:
        while process.poll() is None and not asked_to_end.wait(0.2):
            pass
    finally:
        _end(process)
        reader.join(timeout=5)
        _wait_for_worker(folder)
    return process.returncode, "\n".join(last)


def _is_member(folder: Path) -> bool:
    """Whether the federation, asked under the member's key, calls this partner one of its own."""
    from koinon.clients.joining import Member
    from koinon.protos import joining_pb2 as wire

    try:
        return bool(Member(folder).standing().state == wire.Standing.APPROVED)
    except KoinonError:
        return False


def node_command(folder: Path, *, max_retries: int | None = None, insecure: bool = False) -> list[str]:
    """Return the command of a member's node, and write the files that it names (errors as :func:`run_node`)."""
    membership = Membership.of(folder)
    pinning.check_code(membership.code_sha256)
    pinning.check_app(membership.app_sha256)
    home = folder / "federation"
    shutil.rmtree(home / "flower" / "apps", ignore_errors=True)  # Flower does not look twice at what lies there
    write_atomically(home / "node.toml", _node_config(folder, membership))
    command = [sys.executable, "-m", "koinon.clients.supernode", str(folder)]
    command += ["--superlink", membership.fleet_address]
    command += ["--host", "127.0.0.1", "--port", str(free_port())]
    command += ["--node-config", str(home / "node.toml")]
    if max_retries is not None:
        command += ["--max-retries", str(max_retries)]
    if insecure:
        host, _ = split_address(membership.fleet_address)
        if not is_loopback(host):
            raise PrivacyError(
                "K648",
                f"{membership.fleet_address} is not on this machine: without TLS anybody on the way reads along.",
                "Leave `--insecure` out.",
            )
        return [*command, "--insecure"]
    write_atomically(home / "ca.pem", membership.ca_certificate)
    keys = Keys(folder)
    return [*command, "--root-certificates", str(home / "ca.pem"), "--auth-supernode-private-key", str(keys.node_file)]


def node_environment(folder: Path) -> dict[str, str]:
    """Return what is set for a node's processes: no telemetry, nothing installed, a Flower home of its own."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**QUIET, "FLWR_HOME": str(folder / "federation" / "flower"), "PATH": path}


def _check_identity(membership: Membership) -> None:
    """Refuse a server that is another one; Flower would try it for ever, as it does one that is away."""
    try:
        check_server(membership.fleet_address, membership.ca_certificate)
    except ResourceError as error:
        if error.code in ("K828", "K829"):
            raise


def _node_config(folder: Path, membership: Membership) -> str:
    """What the ClientApp reads as its own configuration: flat TOML (JSON strings are TOML strings but for DEL)."""
    said: dict[str, str | bool] = {
        "partner": membership.partner,
        "folder": str(folder),
        "policy": membership.policy_sha256,
        "code": membership.code_sha256,
        "ledger_key": membership.ledger_key,
        "worker": True,
    }
    return "".join(f"{key} = {json.dumps(value)}\n".replace("\x7f", "\\u007f") for key, value in said.items())


@contextmanager
def _ending() -> Iterator[threading.Event]:
    """An event that a signal to end sets; outside the main thread nobody sets it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield event
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _read(process: subprocess.Popen[str], log: Path, tell: Callable[[str], None], last: list[str]) -> None:
    """Pass on what the node and its children print, until the last of them has ended."""
    assert process.stdout is not None
    with process.stdout as lines, log.open("a", encoding="utf-8") as kept:
        for line in lines:
            kept.write(line)
            kept.flush()
            last.append(line)
            del last[:-50]
            tell(line.rstrip("\n"))


def _end(process: subprocess.Popen[str]) -> None:
    """End the node: politely, then for good; what it has started ends with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_worker(folder: Path) -> None:
    """Wait until the partner's worker, which watches the node, has ended too."""
    deadline = time.monotonic() + END_SECONDS
    with (folder / "federation" / "worker.lock").open("a") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            else:
                return


def _ended_by_itself(status: int, last: str, folder: Path) -> FederationError:
    if status == 0 or _UNKNOWN_KEY.search(last):  # Flower ends without an error when its server stops hearing it
        said = "The federation does not know this node's key, or does not hear it any more"
        remedy = f"`koinon partner standing {folder}` says why."
    elif _KEY_IN_USE.search(last):
        said, remedy = "A node with this key is connected already", "End the other one: one node for each partner."
    else:
        said, remedy = f"The node ended by itself (status {status})", "See the log; start it again."
    return FederationError("K738", f"{said}; see {folder / 'federation' / 'node.log'}.", remedy)
