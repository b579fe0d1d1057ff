"""Processes for jobs: started, listened to, and started again for the rest where one has died."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from koinon.config import write_atomically
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.work import Job

__all__ = ["Crew", "do_jobs", "gave_up"]

Tell = Callable[[int, dict[str, Any]], None]
"""Called with the place of a job and what happens to it."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


class Crew:
    """The processes that work at once, whichever thread started them."""

    def __init__(self) -> None:
        self._lock, self._running = threading.Lock(), set[subprocess.Popen[str]]()
        self.ended = False

    def end(self) -> None:
        """End all that run and all that will yet be started."""
        with self._lock:
            self.ended = True
            for process in self._running:
                process.terminate()

    @contextmanager
    def started(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Around what listens to a process; it has ended afterwards."""
        with self._lock:
            self._running.add(process)
            if self.ended:
                process.terminate()
        try:
            yield
        finally:
            if process.poll() is None:
                process.terminate()
            with self._lock:
                self._running.discard(process)


def do_jobs(jobs: Sequence[Job], study: StudyConfig, study_file: Path, tell: Tell, crew: Crew) -> None:
    """Do jobs of one data set in one process after the other; a job on which a process dies is left out.

    Nothing more is begun once the crew has been ended. What went wrong is kept in the job's folder (``failed.json``),
    for the report and for the next call.
    """
    for job in jobs:
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "job.json", json.dumps(asdict(job), indent=1) + "\n")
        (folder / "failed.json").unlink(missing_ok=True)
    first = 0
    while first < len(jobs) and not crew.ended:
        first += _one_process(jobs[first:], study, study_file, _from(first, tell), crew)


def _from(first: int, tell: Tell) -> Tell:
    return lambda at, line: tell(first + at, line)


def _one_process(jobs: Sequence[Job], study: StudyConfig, study_file: Path, tell: Tell, crew: Crew) -> int:
    """Start a process for the jobs; return how many are over with, one way or the other."""
    arguments = [sys.executable, "-m", "koinon.studies.paradigms.worker", str(study_file)]
    arguments += [str(Path(job.folder) / "job.json") for job in jobs]
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(study.threads))}
    log_file = Path(jobs[0].folder) / "log.txt"
    at = 0
    with (
        log_file.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
        crew.started(process),
    ):
        assert process.stdout is not None
        for text in process.stdout:
            said = _read(text)
            if said.get("state") == "ended" and "job" in said:
                _over(jobs[at], said)
                tell(at, {"event": "failed", **said} if "error" in said else {"event": "over"})
                at += 1
            elif "measure" in said:
                tell(at, {"event": "measure", **said})
            elif said.get("state") == "begun":
                tell(at, {"event": "begun"})
        status = process.wait()
    if at == len(jobs) or crew.ended:
        return at
    reason = _reason(status, study, log_file)
    _over(jobs[at], reason)
    tell(at, {"event": "failed", **reason})
    return at + 1


def gave_up(job: Job, study: StudyConfig) -> bool:
    """Whether it was stopped before with at least the minutes that it would have now."""
    try:
        failed = json.loads((Path(job.folder) / "failed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return study.minutes is not None and failed.get("minutes", 0) >= study.minutes


def _over(job: Job, said: dict[str, Any]) -> None:
    folder = Path(job.folder)
    if "error" in said:
        kept = {name: value for name, value in said.items() if name in ("error", "message", "minutes")}
        write_atomically(folder / "failed.json", json.dumps(kept) + "\n")
        return
    shutil.rmtree(folder / "model", ignore_errors=True)  # a finished job needs neither model nor checkpoints
    for path in folder.glob("checkpoint-*"):
        path.unlink(missing_ok=True)
    for path in (folder / "clicks").glob("*"):
        if path.is_file() and path.name != "test-chances.npy":
            path.unlink(missing_ok=True)


def _reason(status: int, study: StudyConfig, log_file: Path) -> dict[str, Any]:
    if status == -signal.SIGXCPU and study.minutes is not None:
        message = f"not affordable here: it takes more than {study.minutes:g} processor minutes"
        return {"error": "minutes", "message": message, "minutes": study.minutes}
    last = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return {"error": "K544", "message": f"its process ended with status {status}: {''.join(last)[:200]}"}


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
