"""Keeps a created federation reachable: the SuperLink behind its front, and the joining service beside it.

What the operator decides elsewhere (``koinon federation approve`` and its like) is a change in the registry; the host
looks there once a second and brings Flower's list of node keys, and ``nodes.json``, in line with it. So it does not
matter whether the host runs at that moment.
"""

from __future__ import annotations

import fcntl
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version

import grpc

from koinon.errors import ConfigError, FederationError, KoinonError, ResourceError
from koinon.protos import joining_pb2 as joining
from koinon.protos.installed import code_sha256
from koinon.protos.running import QUIET, free_port
from koinon.protos.thin_app import app_sha256
from koinon.server.control import Control, InnerPort
from koinon.server.membership.home import FederationHome, Node, write_nodes
from koinon.server.membership.limits import Limits
from koinon.server.membership.policy import open_registry
from koinon.server.membership.records import State
from koinon.server.membership.registry import Registry
from koinon.server.membership.service import JoiningService
from koinon.server.operation.attendant import Attendant
from koinon.server.processes import Processes, end_marked

__all__ = ["Offering", "host", "serve_joining"]

START_SECONDS = 60.0
LOOK_SECONDS = 1.0
_HARD_LIMIT = 1024 * 1024
"""Bytes; what is larger gRPC itself refuses (``RESOURCE_EXHAUSTED``)."""
_LOG = logging.getLogger("koinon.host")


class Offering:
    """What a federation offers to whoever asks to join; follows the policy file.

    Parameters
    ----------
    home
        The federation.
    """

    def __init__(self, home: FederationHome) -> None:
        self.home = home
        self._fixed = joining.Offer(
            koinon_version=version("koinon"),
            flower_version=version("flwr"),
            code_sha256=code_sha256(),
            app_sha256=app_sha256(),
            fleet_address=str(home.host.fleet),
            ledger_key=home.authority.signer().key,
        )
        self._seen: tuple[int, int] | None = None
        self._offer = self._fixed

    def __call__(self) -> joining.Offer:
        """Return the offer of this moment."""
        now = self.home.policy_file.stat()
        seen = (now.st_mtime_ns, now.st_ino)
        if seen != self._seen:
            terms = self.home.terms()
            offer = joining.Offer(policy_sha256=terms.policy_sha256(), encoder_sha256=terms.encoder_sha256)
            offer.policy.CopyFrom(terms.policy())
            offer.MergeFrom(self._fixed)
            self._offer, self._seen = offer, seen
        return self._offer


@contextmanager
def serve_joining(
    home: FederationHome,
    registry: Registry,
    *,
    insecure: bool = False,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[int]:
    """Serve the joining service while the block lasts; gives the port (a free one where ``join_port`` is 0).

    Raises
    ------
    ResourceError
        K821 the port is taken.
    FederationError
        K768 the certificate or its key is missing or damaged.
    """
    service = JoiningService(registry, Offering(home), limits=limits, clock=clock)
    server = grpc.server(
        ThreadPoolExecutor(8, thread_name_prefix="joining"),
        handlers=(service.handler(),),
        maximum_concurrent_rpcs=64,
        options=[
            ("grpc.max_receive_message_length", _HARD_LIMIT),
            ("grpc.max_metadata_size", 8 * 1024),
            ("grpc.max_concurrent_streams", 16),
            ("grpc.max_connection_idle_ms", 60_000),
            ("grpc.so_reuseport", 0),
        ],
    )
    listen = home.host.listens_on
    address = f"[{listen}]:{home.host.join_port}" if ":" in listen else f"{listen}:{home.host.join_port}"
    try:
        port = server.add_insecure_port(address) if insecure else server.add_secure_port(address, _credentials(home))
    except RuntimeError as error:
        raise ResourceError(
            "K821", f"Port {home.host.join_port} of {listen} cannot be used.", "Choose another in host.toml."
        ) from error
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=2).wait()


def _credentials(home: FederationHome) -> grpc.ServerCredentials:
    home.authority.server_certificate()
    certificate, key = (path.read_bytes() for path in home.authority.server_files)
    return grpc.ssl_server_credentials([(key, certificate + home.authority.ca_file.read_bytes())])


def host(
    home: FederationHome,
    *,
    insecure: bool = False,
    stopped: threading.Event | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Host a federation until ``stopped`` is set or an exception (Ctrl-C) comes; everything started is ended.

    Parameters
    ----------
    home
        The federation.
    insecure
        Without TLS; on loopback alone.
    stopped
        Ends it.
    ready
        Called once both services answer.

    Raises
    ------
    ConfigError
        K115 insecure, but not on loopback; K116 the certificate does not fit the address, or has ended.
    FederationError
        K766 it is being hosted already, K707 the SuperLink ended.
    ResourceError
        K821 a port is taken.
    """
    _check_settings(home, insecure=insecure)
    stopped = stopped or threading.Event()
    with _alone(home) as mark, open_registry(home) as registry:
        environment = {**QUIET, "FLWR_HOME": str(home.folder / "flower")}
        processes = Processes(mark, home.logs, environment)
        inner = InnerPort(free_port(), "" if insecure else str(home.authority.ca_file))
        control = Control(inner)
        try:
            _start_superlink(home, processes, inner)
            keys = _NodeKeys(home, registry, control)
            _wait(processes, keys, home)
            inner.write(home.control_file)
            attendant = Attendant(home, registry, control, processes)
            with serve_joining(home, registry, insecure=insecure):
                if ready:
                    ready()
                while not stopped.wait(LOOK_SECONDS):
                    if "superlink" in processes.ended():
                        raise FederationError(
                            "K707", "The federation's server ended unexpectedly.", f"See {home.logs / 'superlink.log'}."
                        )
                    keys.follow()
                    attendant.follow()
        finally:
            home.control_file.unlink(missing_ok=True)
            control.close()
            processes.end()


def _check_settings(home: FederationHome, *, insecure: bool) -> None:
    settings = home.host
    if insecure:
        if not settings.fleet.loopback or settings.listens_on not in ("127.0.0.1", "::1"):
            raise ConfigError(
                "K115", f"--insecure serves loopback alone, not {settings.address}.", "Leave it out: TLS is set up."
            )
        return
    if not home.authority.stands_for(settings.address) or home.authority.days_left() < 0:
        raise ConfigError(
            "K116",
            f"The server's certificate does not stand for {settings.address}, or has ended.",
            f"`koinon federation certificate {home.folder}` makes a new one.",
        )


@contextmanager
def _alone(home: FederationHome) -> Iterator[str]:
    """Hold the federation's folder; end what a killed host has left behind."""
    with (home.folder / ".host").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FederationError("K766", f"{home.folder} is being hosted already.", "Once is enough.") from error
        lock.seek(0)
        if before := lock.read().strip():
            end_marked(before)
        mark = secrets.token_hex(16)
        lock.truncate(0)
        lock.write(mark)
        lock.flush()
        yield mark
        lock.truncate(0)


def _start_superlink(home: FederationHome, processes: Processes, inner: InnerPort) -> None:
    if not home.nodes_file.exists():
        write_nodes(home.nodes_file, {})
    command = [sys.executable, "-m", "koinon.server.superlink", "--listen", home.host.listens_on]
    command += ["--port", str(home.host.port), "--inside", str(inner.port)]
    command += ["--database", str(home.folder / "superlink.db"), "--nodes", str(home.nodes_file)]
    if inner.ca:
        certificate, key = home.authority.server_files
        command += ["--ca", inner.ca, "--certificate", str(certificate), "--key", str(key)]
    processes.start("superlink", command)


def _wait(processes: Processes, keys: _NodeKeys, home: FederationHome) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and "superlink" not in processes.ended():
        try:
            keys.align()
            return
        except FederationError:
            time.sleep(0.2)
    raise ResourceError("K821", "The SuperLink did not come up.", f"See {home.logs / 'superlink.log'}.")


class _NodeKeys:
    """Brings Flower's list of node keys in line with the registry."""

    def __init__(self, home: FederationHome, registry: Registry, control: Control) -> None:
        self.home = home
        self.registry = registry
        self.control = control
        self._aligned: object = None
        self._trouble = ""

    def follow(self) -> None:
        """Align where the registry has changed; what fails now is tried again at the next look, and said once."""
        try:
            if self._wanted() != self._aligned:
                self.align()
            trouble = ""
        except KoinonError as error:
            trouble = str(error)
            if trouble != self._trouble:
                _LOG.error("node keys could not be brought in line: %s", trouble)
        self._trouble = trouble

    def align(self) -> None:
        """Register and unregister keys, and say which node is which member.

        Raises
        ------
        FederationError
            K767 Flower refuses; every key but those refused is in line all the same.
        """
        wanted = self._wanted()
        known = dict(self.control.nodes())
        heard: dict[str, Node] = {}
        refused: FederationError | None = None
        for name, state, key in wanted:
            try:
                node = Node(key, known[key] if key in known else self.control.register(key, name))
            except FederationError as error:
                refused = error
                continue
            self.registry.bind(name, node)
            if state is State.APPROVED:
                heard[name] = node
        # first nobody hears them any more, then Flower forgets them
        write_nodes(self.home.nodes_file, heard)
        members = {key for _, _, key in wanted}
        for key, node_id in known.items():
            if key not in members:
                self.control.unregister(node_id)
        _LOG.info("heard: %s", ", ".join(sorted(heard)) or "nobody")
        if refused:
            raise refused
        self._aligned = wanted

    def _wanted(self) -> list[tuple[str, State, bytes]]:
        kept = (State.APPROVED, State.SUSPENDED)
        return [(m.name, m.state, m.node_key) for m in self.registry.members() if m.state in kept]
