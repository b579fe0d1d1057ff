"""The process that does jobs: ``python -m koinon.studies.paradigms.worker STUDY JOB...``; it says JSON lines and ends.

Jobs of one data set are done one after the other, so that data and libraries are read once; the peak of memory is begun
anew for each. The system ends the process when a job has had its processor minutes; it ends as well when whoever
started it is gone: its standard input is a pipe that closes then.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import threading
from pathlib import Path
from time import process_time

from koinon.errors import KoinonError
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.work import Bench, Job, Work

__all__ = ["main"]


def main(study_file: str, *job_files: str) -> int:
    """Do the jobs; return the exit status. A job that fails says so and does not stop the next."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    study = StudyConfig.model_validate_json(Path(study_file).read_text(encoding="utf-8"))
    bench = Bench(study)
    for number, job_file in enumerate(job_files):
        raw = json.loads(Path(job_file).read_text(encoding="utf-8"))
        _say({"job": number, "state": "begun"})
        if study.minutes is not None:
            seconds = math.ceil(process_time() + study.minutes * 60)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        said: dict[str, object] = {}
        try:
            Work(Job.of(raw), bench).run(
                lambda *told: _say(dict(zip(("measure", "state", "seconds"), told, strict=True)))
            )
        except KoinonError as error:
            said = {"error": error.code, "message": error.message}
        except MemoryError:
            said = {"error": "K805", "message": "This machine has not enough memory for that."}
        _say({"job": number, "state": "ended", **said})
    return 0


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when this process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
