"""Running a study: one process for each job, one view of how far it is, nothing finished done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from koinon.config import sweep, write_atomically
from koinon.studies.paradigms.collect import collect
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.plan import Plan, set_up
from koinon.studies.paradigms.render import write_report
from koinon.studies.paradigms.results import StudyResults
from koinon.studies.paradigms.work import Job

__all__ = ["OnEvent", "run_study"]

OnEvent = Callable[[dict[str, Any]], None]
"""Told what happens: ``event`` is ``data``, ``plan``, ``job``, ``measure``, ``failed`` or ``done``."""
PHASES = (0, 1, 2)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


def run_study(study: StudyConfig, out: Path, *, command: str = "", on_event: OnEvent = lambda _: None) -> StudyResults:
    """Do what is missing of a study, then write ``results.json`` and ``report.html``.

    An interrupted study goes on where it stopped: measures whose files are there are not taken again, networks go on
    from their checkpoints, searches from their trials. An arm that fails is listed with its error and does not stop
    the others; the next call tries it again.

    Parameters
    ----------
    study
        Settings.
    out
        Folder of the study.
    command
        As the report says how to make it again.
    on_event
        Told what happens.

    Raises
    ------
    ConfigError
        K125 no such arm, K126 no such data set.
    EvaluationError
        K543 nothing could be measured at all.
    """
    setups = []
    sweep(out)
    for text in study.data:
        setups.append(set_up(text, study, out))
        on_event({"event": "data", "data": setups[-1].name, **setups[-1].facts})
    plan = Plan(study, setups, out)
    write_atomically(out / "study.json", study.model_dump_json(indent=1) + "\n")
    done = 0
    total = sum(1 for phase in PHASES for _ in plan.jobs(phase))
    on_event({"event": "plan", "jobs": total})
    for phase in PHASES:
        for setup, arm, job in list(plan.jobs(phase)):
            done += 1
            where = {"data": setup.name, "arm": arm.name, "seed": job.seed, "number": done, "of": total}
            missing = job.missing()
            if not missing:
                on_event({"event": "job", "kept": True, **where})
                continue
            if _gave_up(job, study):
                on_event({"event": "failed", "error": "minutes", "message": "takes longer than allowed", **where})
                continue
            on_event({"event": "job", "kept": False, "missing": missing, **where})
            _do(job, study, out, _placed(on_event, where))
        results = collect(plan, command=command)
        write_report(out, results)
    on_event({"event": "done", "jobs": total})
    return results


def _placed(on_event: OnEvent, where: dict[str, Any]) -> OnEvent:
    return lambda line: on_event({**line, **where})


def _do(job: Job, study: StudyConfig, out: Path, tell: OnEvent) -> None:
    """Start a job's process and listen to it until it ends."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "job.json", json.dumps(asdict(job), indent=1) + "\n")
    (folder / "failed.json").unlink(missing_ok=True)
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(study.threads))}
    arguments = [
        sys.executable,
        "-m",
        "koinon.studies.paradigms.worker",
        str(folder / "job.json"),
        str(out / "study.json"),
    ]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        said: dict[str, Any] = {}
        try:
            assert process.stdout is not None
            for text in process.stdout:
                said = _read(text)
                if "measure" in said:
                    tell({"event": "measure", **said})
            status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if status == 0:
        _clear(folder)
        return
    reason = _reason(said, status, study, folder)
    write_atomically(folder / "failed.json", json.dumps(reason) + "\n")
    tell({"event": "failed", **reason})


def _reason(said: dict[str, Any], status: int, study: StudyConfig, folder: Path) -> dict[str, Any]:
    if status == -signal.SIGXCPU and study.minutes is not None:
        message = f"not affordable here: it takes more than {study.minutes:g} processor minutes"
        return {"error": "minutes", "message": message, "minutes": study.minutes}
    if "error" in said:
        return {"error": said["error"], "message": said["message"]}
    last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return {"error": "K544", "message": f"its process ended with status {status}: {''.join(last)[:200]}"}


def _gave_up(job: Job, study: StudyConfig) -> bool:
    """Whether it was stopped before with at least the minutes that it would have now."""
    try:
        failed = json.loads((Path(job.folder) / "failed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return study.minutes is not None and failed.get("minutes", 0) >= study.minutes


def _clear(folder: Path) -> None:
    """Drop what a finished job needs no more: the model and its checkpoints."""
    shutil.rmtree(folder / "model", ignore_errors=True)
    for path in folder.glob("checkpoint-*"):
        path.unlink(missing_ok=True)
    for path in (folder / "clicks").glob("*"):
        if path.is_file() and path.name != "test-chances.npy":
            path.unlink(missing_ok=True)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
