"""Runs a whole federation on this machine, simulated or as real processes, with the same app in both.

Both modes start a SuperLink of their own on free loopback ports, in a folder of their own, hand it the thin app, and
read what the coordinator writes. Whatever happens (success, an error, Ctrl-C), everything started is ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koinon.config import sweep, write_atomically
from koinon.errors import FederationError, KoinonError, ResourceError
from koinon.protos.thin_app import THIN_APP
from koinon.server.federation import FederationConfig, Mode
from koinon.server.processes import Processes, end_marked, free_port
from koinon.server.progress import Event, Progress, ProgressLog, ProgressReader

__all__ = ["FederationResult", "run_federation"]

START_SECONDS = 60.0
POLL_SECONDS = 0.1
ASK_FLOWER_SECONDS = 20.0

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    "UV_OFFLINE": "1",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class FederationResult:
    """What a federation's run has left.

    Attributes
    ----------
    out
        The output folder.
    releases
        Folders of the releases published, by learner.
    rounds
        The ``round`` events, in order.
    adopted
        By partner, the figures it gave after it had fitted and chosen.
    left_out
        By partner, the last code for which it was left out.
    seconds
        Wall-clock time from the first process to the last.
    """

    out: Path
    mode: Mode
    releases: Mapping[str, Path]
    rounds: tuple[Event, ...]
    adopted: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, str]
    seconds: float


@dataclass
class _Seen:
    """What the coordinator has said so far."""

    releases: dict[str, Path] = field(default_factory=dict)
    rounds: list[Event] = field(default_factory=list)
    adopted: dict[str, Mapping[str, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    def take(self, event: Event, out: Path) -> None:
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


def run_federation(
    config: FederationConfig,
    out: Path,
    mode: Mode = "simulation",
    progress: Progress | None = None,
    *,
    record: Path | None = None,
) -> FederationResult:
    """Run a federation to its end.

    Parameters
    ----------
    config
        The federation; its partners' folders must hold a ``partner.toml``.
    out
        Output folder (see :mod:`koinon.server.checkpoints`). If it holds an unfinished run of the same policy, that
        run goes on from its last finished round.
    mode
        ``simulation`` or ``processes``.
    progress
        Called with every event as it happens.
    record
        A file for Flower's own database (runs, logs, messages under way); ``None``: it stays in memory.

    Raises
    ------
    ConfigError
        K110 a partner's folder is none.
    FederationError
        K704 too few partners, K706 another run uses the folder, K707 the server ended unexpectedly, K730 Flower
        refused the run, K731 a process could not be ended.
    ResourceError
        K801 disk, K821 the SuperLink did not come up.
    """
    config.check_folders()
    started = time.monotonic()
    out = out.resolve()
    with _alone(out), _Session(config, out, mode, record) as session:
        seen = session.watch(progress or (lambda _: None))
    return FederationResult(
        out=out,
        mode=mode,
        releases=seen.releases,
        rounds=tuple(seen.rounds),
        adopted=seen.adopted,
        left_out=seen.left_out,
        seconds=time.monotonic() - started,
    )


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the output folder; end what a killed launcher has left behind in it."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FederationError(
                "K706", f"Another run is using {out}.", "Wait for it, or choose another output folder."
            ) from error
        lock.seek(0)
        before = lock.read().split()
        if len(before) == 2:
            end_marked(before[0])
            shutil.rmtree(before[1], ignore_errors=True)
        yield


class _Session:
    """One start of a federation's processes."""

    def __init__(self, config: FederationConfig, out: Path, mode: Mode, record: Path | None) -> None:
        self.config = config
        self.out = out
        self.mode = mode
        self.record = record
        self.mark = secrets.token_hex(16)
        self.scratch = Path(tempfile.mkdtemp(prefix="koinon-"))
        (out / ".lock").write_text(f"{self.mark}\n{self.scratch}\n", encoding="utf-8")
        environment = {**_QUIET, "FLWR_HOME": str(self.scratch / "flwr"), "RAY_TMPDIR": str(self.scratch)}
        environment.setdefault("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        self.processes = Processes(self.mark, out / "logs", environment)
        self.events = ProgressReader(self.scratch / "events.jsonl")
        self.kept = ProgressLog(out / "progress.jsonl")
        self.run_id = ""

    def __enter__(self) -> _Session:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.end()
        for folder in (self.out, *(partner / "federation" for partner in self.config.partners.values())):
            sweep(folder)
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.out / ".lock").write_text("", encoding="utf-8")

    def _start(self) -> None:
        port = free_port()
        self._write_files(port)
        simulation = self.mode == "simulation"
        self.processes.start(
            "superlink",
            ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
            + ["--disable-runtime-dependency-installation"]
            + (["--database", str(self.record)] if self.record else [])
            + (["--simulation"] if simulation else []),
        )
        self._wait_for(port)
        if not simulation:
            self._start_nodes(port)
        resources = {
            "num-supernodes": len(self.config.partners),
            "client-resources-num-cpus": 1,
            "init-args-num-cpus": self.config.at_once,
        }
        command = ["flwr", "run", str(self.scratch / "app"), "koinon", "--format", "json"]
        command += ["--run-config", str(self.scratch / "run.toml")]
        if simulation:
            command += ["--federation-config", " ".join(f"{key}={value}" for key, value in resources.items())]
        self.run_id = str(_json(self.processes.run(command))["run-id"])

    def _write_files(self, port: int) -> None:
        """Flower's home, the thin app, and what the apps are told."""
        home = self.scratch / "flwr"
        connection = (
            f'[superlink]\ndefault = "koinon"\n\n[superlink.koinon]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        write_atomically(home / "config.toml", connection)
        write_atomically(self.scratch / "app" / "pyproject.toml", THIN_APP)
        described = self.scratch / "federation.json"
        # the server learns the partners' names; their folders are for their own nodes alone
        known = self.config.model_copy(update={"partners": {name: Path(name) for name in self.config.partners}})
        write_atomically(described, known.model_dump_json())
        told = {"federation": str(described), "out": str(self.out), "events": str(self.events.path), "simulated": ""}
        nodes = [self._node(name) for name in self.config.partners]
        if self.mode == "simulation":
            told["simulated"] = str(self.scratch / "simulated.json")
            write_atomically(Path(told["simulated"]), json.dumps(nodes))
        else:
            for number in range(self.config.at_once):
                write_atomically(self.scratch / "places" / str(number), "")
            for node in nodes:
                write_atomically(self.scratch / "nodes" / f"{node['partner']}.toml", _toml(node))
        write_atomically(self.scratch / "run.toml", _toml(told))

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

    def _start_nodes(self, port: int) -> None:
        for name, folder in self.config.partners.items():
            command = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
            command += ["--host", "127.0.0.1", "--port", str(free_port())]
            command += ["--node-config", str(self.scratch / "nodes" / f"{name}.toml")]
            self.processes.start(f"node-{name}", command, log=folder / "federation" / "node.log")

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not list(self.processes.ended()):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(POLL_SECONDS)
        raise ResourceError(
            "K821", "Flower's SuperLink did not come up.", f"See {self.out / 'logs' / 'superlink.log'}."
        )

    def watch(self, progress: Progress) -> _Seen:
        """Follow the run to its end."""
        seen = _Seen()
        heard = time.monotonic()
        while not seen.finished:
            if self._hear(progress, seen):
                heard = time.monotonic()
            if seen.finished:
                break
            if "superlink" in self.processes.ended():
                raise _ended(self.out)
            if time.monotonic() - heard > ASK_FLOWER_SECONDS:
                self._check_run(progress, seen)
                heard = time.monotonic()
            time.sleep(POLL_SECONDS)
        return seen

    def _check_run(self, progress: Progress, seen: _Seen) -> None:
        """Ask Flower whether the run still lives: an app that could not even be loaded says nothing itself."""
        listed = _json(self.processes.run(["flwr", "list", "koinon", "--run-id", self.run_id, "--format", "json"]))
        status = str(listed["runs"][0]["status"])
        if not status.startswith("finished"):
            return
        self._hear(progress, seen)
        if not seen.finished:
            raise _ended(self.out)

    def _hear(self, progress: Progress, seen: _Seen) -> bool:
        """Take what the coordinator has said since; whether it was anything."""
        heard = False
        for event in self.events.new():
            heard = True
            self.kept(**event)
            progress(event)
            seen.take(event, self.out)
        return heard


def _failure(event: Event) -> KoinonError:
    for kind in KoinonError.__subclasses__():
        if str(event["code"]).startswith(kind.family):
            return kind(event["code"], event["message"], event["remedy"])
    return FederationError("K707", f"The server ended: [{event['code']}] {event['message']}", event["remedy"])


def _ended(out: Path) -> FederationError:
    return FederationError(
        "K707", "The federation's server ended unexpectedly.", f"See {out / 'logs' / 'superlink.log'}; start again."
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
