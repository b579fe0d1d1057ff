"""One run of a federation's app on a SuperLink, followed to its end.

:class:`OwnSession` starts a SuperLink and all nodes on this machine, for this run alone; :class:`HostedSession` gives
the run to the SuperLink that ``koinon federation host`` keeps, whose nodes are the members' own. Everything else is the
same: the app, what it is told, how it is listened to.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from koinon.config import sweep, write_atomically
from koinon.errors import FederationError, KoinonError, ResourceError
from koinon.protos.running import QUIET, free_port
from koinon.protos.thin_app import THIN_APP
from koinon.server.control import Control, InnerPort
from koinon.server.federation import FederationConfig, Mode
from koinon.server.membership.home import FederationHome
from koinon.server.processes import Processes
from koinon.server.progress import PID_FILE, Event, Progress, ProgressLog, ProgressReader

__all__ = ["HostedSession", "OwnSession", "Seen"]

START_SECONDS = 60.0
POLL_SECONDS = 0.1
ASK_FLOWER_SECONDS = 20.0


@dataclass
class Seen:
    """What the coordinator has said so far."""

    releases: dict[str, Path] = field(default_factory=dict)
    rounds: list[Event] = field(default_factory=list)
    adopted: dict[str, Mapping[str, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    def take(self, event: Event, out: Path) -> None:
        """Take one event in.

        Raises
        ------
        KoinonError
            The coordinator's own, where the event says that it failed.
        """
        kind = event["event"]
        if kind == "round":
            self.rounds.append(event)
            self.left_out.update(event["left_out"])
        elif kind == "release":
            self.releases[event["learner"]] = out / "releases" / event["release"]
        elif kind == "adopted":
            self.adopted[event["partner"]] = event["metrics"]
        elif kind == "left_out" and event.get("partner"):
            self.left_out[event["partner"]] = event["code"]
        elif kind == "finished":
            self.finished = True
        elif kind == "failed":
            raise _failure(event)


class _Session(ABC):
    """A run under way; everything started for it is ended with it."""

    def __init__(self, config: FederationConfig, out: Path) -> None:
        self.config = config
        self.out = out
        self.mark = secrets.token_hex(16)
        self.scratch = Path(tempfile.mkdtemp(prefix="koinon-"))
        (out / ".lock").write_text(f"{self.mark}\n{self.scratch}\n", encoding="utf-8")
        environment = {**QUIET, "FLWR_HOME": str(self.scratch / "flwr"), "RAY_TMPDIR": str(self.scratch)}
        # Ray's actors are the partners here: at its default niceness of 15 they wait for everything else on the machine
        environment["RAY_worker_niceness"] = "0"
        environment.setdefault("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        self.logs = out / "logs"
        self.processes = Processes(self.mark, self.logs, environment)
        self.events = ProgressReader(self.scratch / "events.jsonl")
        self.kept = ProgressLog(out / "progress.jsonl")
        self.run_id = ""
        self.seen = Seen()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            self.processes.end()
            sweep(self.out)
            shutil.rmtree(self.scratch, ignore_errors=True)
            (self.out / ".lock").write_text("", encoding="utf-8")

    @abstractmethod
    def _start(self) -> None:
        """Begin the run."""

    @abstractmethod
    def _stop(self) -> None:
        """End what goes on elsewhere."""

    @abstractmethod
    def _check(self, *, thoroughly: bool) -> None:
        """Raise ``FederationError`` K707 if the run cannot say anything any more; look further where it may cost."""

    def _prepare(self, connection: str, told: Mapping[str, str]) -> None:
        """Write Flower's home, the thin app, and what the apps are told."""
        home = f'[superlink]\ndefault = "koinon"\n\n[superlink.koinon]\n{connection}'
        write_atomically(self.scratch / "flwr" / "config.toml", home)
        write_atomically(self.scratch / "app" / "pyproject.toml", THIN_APP)
        described = self.scratch / "federation.json"
        # the server learns the partners' names; their folders are for their own nodes alone
        known = self.config.model_copy(update={"partners": {name: Path(name) for name in self.config.partners}})
        write_atomically(described, known.model_dump_json())
        said = {"federation": str(described), "out": str(self.out), "events": str(self.events.path)}
        write_atomically(self.scratch / "run.toml", _toml({**said, "simulated": "", "home": "", **told}))

    def _submit(self, *more: str) -> None:
        command = ["flwr", "run", str(self.scratch / "app"), "koinon", "--format", "json"]
        command += ["--run-config", str(self.scratch / "run.toml"), *more]
        self.run_id = str(_json(self.processes.run(command))["run-id"])

    def watch(self, progress: Progress) -> Seen:
        """Follow the run to its end.

        Raises
        ------
        KoinonError
            As the coordinator failed; K707 it ended without a word.
        """
        heard = time.monotonic()
        while not self.seen.finished:
            if self._hear(progress):
                heard = time.monotonic()
            if self.seen.finished:
                break
            silent = time.monotonic() - heard > ASK_FLOWER_SECONDS
            try:
                if self._gone():
                    raise _ended(self.logs)
                self._check(thoroughly=silent)
            except KoinonError:
                self._hear(progress)  # its last words may have come meanwhile
                if not self.seen.finished:
                    raise
            if silent:
                heard = time.monotonic()
            time.sleep(POLL_SECONDS)
        return self.seen

    def _gone(self) -> bool:
        """Whether the server's app was there and is no more; Flower itself finds out a minute later."""
        try:
            process = psutil.Process(int((self.scratch / PID_FILE).read_text(encoding="utf-8")))
            return bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
        except (OSError, ValueError, psutil.Error):
            return False

    def _hear(self, progress: Progress) -> bool:
        """Take what the coordinator has said since; whether it was anything."""
        heard = False
        for event in self.events.new():
            heard = True
            self.kept(**event)
            progress(event)
            self.seen.take(event, self.out)
        return heard


class OwnSession(_Session):
    """A run on a SuperLink and nodes of its own, on free loopback ports.

    Parameters
    ----------
    config
        The federation; its partners are folders here.
    out
        Output folder.
    mode
        ``simulation`` or ``processes``.
    record
        A file for Flower's own database, or ``None``.
    """

    def __init__(self, config: FederationConfig, out: Path, mode: Mode, record: Path | None) -> None:
        super().__init__(config, out)
        self.mode = mode
        self.record = record

    def _stop(self) -> None:
        self.processes.end()
        for partner in self.config.partners.values():
            sweep(partner / "federation")

    def _start(self) -> None:
        port = free_port()
        simulation = self.mode == "simulation"
        nodes = [self._node(name) for name in self.config.partners]
        told = {}
        if simulation:
            told["simulated"] = str(self.scratch / "simulated.json")
            write_atomically(Path(told["simulated"]), json.dumps(nodes))
        self._prepare(f'address = "127.0.0.1:{port}"\ninsecure = true\n', told)
        self.processes.start(
            "superlink",
            ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
            + ["--disable-runtime-dependency-installation"]
            + (["--database", str(self.record)] if self.record else [])
            + (["--simulation"] if simulation else []),
        )
        self._wait_for(port)
        if simulation:
            resources = {
                "num-supernodes": len(self.config.partners),
                "client-resources-num-cpus": 1,
                "init-args-num-cpus": self.config.at_once,
            }
            self._submit("--federation-config", " ".join(f"{key}={value}" for key, value in resources.items()))
        else:
            self._start_nodes(port, nodes)
            self._submit()

    def _node(self, name: str) -> dict[str, str | bool]:
        """What a partner's node is told: its own folder, and the policy its operator accepts by starting it."""
        node: dict[str, str | bool] = {
            "partner": name,
            "folder": str(self.config.partners[name].resolve()),
            "policy": self.config.policy_sha256(),
        }
        if self.mode == "processes":
            node |= {"worker": True, "places": str(self.scratch / "places")}
        return node

    def _start_nodes(self, port: int, nodes: list[dict[str, str | bool]]) -> None:
        for number in range(self.config.at_once):
            write_atomically(self.scratch / "places" / str(number), "")
        for node in nodes:
            name = str(node["partner"])
            told = self.scratch / "nodes" / f"{name}.toml"
            write_atomically(told, _toml(node))
            command = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
            command += ["--host", "127.0.0.1", "--port", str(free_port()), "--node-config", str(told)]
            log = self.config.partners[name] / "federation" / "node.log"
            self.processes.start(f"node-{name}", command, log=log)

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not list(self.processes.ended()):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(POLL_SECONDS)
        raise ResourceError("K821", "Flower's SuperLink did not come up.", f"See {self.logs / 'superlink.log'}.")

    def _check(self, *, thoroughly: bool) -> None:
        if "superlink" in self.processes.ended():
            raise _ended(self.logs)
        if thoroughly:  # an app that could not even be loaded says nothing itself
            listed = _json(self.processes.run(["flwr", "list", "koinon", "--run-id", self.run_id, "--format", "json"]))
            runs = listed.get("runs", [])  # none where the SuperLink has just been killed: the next look tells
            if any(str(run["status"]).startswith("finished") for run in runs):
                raise _ended(self.logs)


class HostedSession(_Session):
    """A run on the SuperLink that this federation's host keeps.

    Parameters
    ----------
    home
        The federation's folder.
    config
        Its terms, with its approved members as partners.

    Raises
    ------
    FederationError
        K765 the host does not run.
    """

    def __init__(self, home: FederationHome, config: FederationConfig) -> None:
        self.home = home
        self.inner = InnerPort.read(home.control_file)
        super().__init__(config, home.out)
        self.logs = home.logs
        self.control = Control(self.inner)

    def _start(self) -> None:
        # what an ended session could not stop any more would write into the same folder
        for run in self.control.running():
            self.control.stop(run)
        secured = f'root-certificates = "{self.inner.ca}"' if self.inner.ca else "insecure = true"
        connection = f'address = "127.0.0.1:{self.inner.port}"\n{secured}\n'
        self._prepare(connection, {"home": str(self.home.folder)})
        self._submit()

    def _stop(self) -> None:
        try:
            if self.run_id and not self.seen.finished:
                self.control.stop(int(self.run_id))
        except FederationError:
            pass  # the SuperLink is gone, and the run with it
        finally:
            self.control.close()

    def _check(self, *, thoroughly: bool) -> None:
        if not thoroughly:
            return
        try:
            running = self.control.running()
        except FederationError as error:
            raise _ended(self.logs) from error
        if int(self.run_id) not in running:
            raise _ended(self.logs)


def _failure(event: Event) -> KoinonError:
    for kind in KoinonError.__subclasses__():
        if str(event["code"]).startswith(kind.family):
            return kind(event["code"], event["message"], event["remedy"])
    return FederationError("K707", f"The server ended: [{event['code']}] {event['message']}", event["remedy"])


def _ended(logs: Path) -> FederationError:
    return FederationError(
        "K707", "The federation's server ended unexpectedly.", f"See {logs / 'superlink.log'}; start again."
    )


def _json(printed: str) -> dict[str, Any]:
    """The JSON object in a command's output (warnings may stand before it)."""
    start = printed.find("{")
    try:
        found: dict[str, Any] = json.loads(printed[start:])
    except ValueError as error:
        raise FederationError("K730", f"Flower answered: {printed[-400:]}", "See the logs.") from error
    return found


def _toml(values: Mapping[str, str | bool]) -> str:
    """Flat TOML; JSON strings are TOML strings but for DEL."""
    return "".join(
        f"{key} = {json.dumps(value).replace(chr(127), chr(92) + 'u007f')}\n" for key, value in values.items()
    )
