"""The process of one job: ``python -m koinon.studies.paradigms.worker JOB STUDY``; it says JSON lines and ends.

It is a process of its own so that its peak memory and its processor time are its own: the system ends it when it has had
its minutes. It ends as well when whoever started it is gone: its standard input is a pipe that closes then.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import threading
from pathlib import Path

from koinon.errors import KoinonError
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.work import Job, Work

__all__ = ["main"]


def main(job_file: str, study_file: str) -> int:
    """Do one job; return the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    raw = json.loads(Path(job_file).read_text(encoding="utf-8"))
    job = Job(**{**raw, "measures": tuple(raw["measures"])})
    study = StudyConfig.model_validate_json(Path(study_file).read_text(encoding="utf-8"))
    if study.minutes is not None:
        seconds = math.ceil(study.minutes * 60)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    try:
        Work(job, study).run(lambda *said: _say(dict(zip(("measure", "state", "seconds"), said, strict=True))))
    except KoinonError as error:
        _say({"error": error.code, "message": error.message})
        return error.exit_code
    except MemoryError:
        _say({"error": "K805", "message": "This machine has not enough memory for that."})
        return 9
    return 0


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when this process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
