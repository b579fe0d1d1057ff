"""Running a study: jobs in processes, one view of how far it is, nothing finished done twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import Path
from typing import Any

from koinon.config import sweep, write_atomically
from koinon.studies.paradigms.arms import Arm
from koinon.studies.paradigms.collect import collect
from koinon.studies.paradigms.config import StudyConfig
from koinon.studies.paradigms.plan import PHASES, Plan, arms_of
from koinon.studies.paradigms.process import Crew, do_jobs, gave_up
from koinon.studies.paradigms.render import write_report
from koinon.studies.paradigms.results import StudyResults
from koinon.studies.paradigms.setup import Setup, set_up
from koinon.studies.paradigms.work import Job

__all__ = ["OnEvent", "run_study"]

OnEvent = Callable[[dict[str, Any]], None]
"""Told what happens: ``event`` is ``data``, ``plan``, ``kept``, ``begun``, ``measure``, ``over``, ``failed`` or
``done``."""
Entry = tuple[Setup, Arm, Job]
Numbered = tuple[dict[str, Any], Job]
"""A job and what is told of it: data, arm, seed, number, of how many."""
PIECE = 6
"""Jobs of a data set that one process does, where several work at once."""


def run_study(
    study: StudyConfig,
    out: Path,
    *,
    command: str = "",
    report_only: bool = False,
    on_event: OnEvent = lambda _: None,
) -> StudyResults:
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
    report_only
        Sum up what is there and do nothing of what is missing.
    on_event
        Told what happens.

    Raises
    ------
    ConfigError
        K125 no such arm, K126 no such data set.
    EvaluationError
        K543 nothing could be measured at all.
    """
    arms_of(study)  # a name that does not exist is said before any data are read
    if not report_only:
        sweep(out)
    setups = []
    for text in study.data:
        setups.append(set_up(text, study, out))
        on_event({"event": "data", "data": setups[-1].name, **setups[-1].facts})
    plan = Plan(study, setups, out)
    if not report_only:
        _do_all(plan, study, out, on_event)
    results = collect(plan, command=command)
    write_report(out, results)
    on_event({"event": "done", "jobs": sum(1 for phase in PHASES for _ in plan.jobs(phase))})
    return results


def _do_all(plan: Plan, study: StudyConfig, out: Path, on_event: OnEvent) -> None:
    study_file = out / "study.json"
    write_atomically(study_file, study.model_dump_json(indent=1) + "\n")
    total = sum(1 for phase in PHASES for _ in plan.jobs(phase))
    on_event({"event": "plan", "jobs": total})
    begun = 0
    for phase in PHASES:
        entries = list(plan.jobs(phase))
        _do_batches(list(_batches(entries, study, begun, total, on_event)), study, study_file, on_event)
        begun += len(entries)


def _batches(
    entries: list[Entry], study: StudyConfig, begun: int, total: int, on_event: OnEvent
) -> Iterator[list[Numbered]]:
    """Unfinished jobs, those of one data set together; an arm that opens a language model has a process of its own."""
    numbered = [
        ({"data": setup.name, "arm": arm.name, "seed": job.seed, "number": begun + place, "of": total}, arm, job)
        for place, (setup, arm, job) in enumerate(entries, 1)
    ]
    for _, group in groupby(numbered, lambda one: (one[0]["data"], "model" in one[1].needs and one[0]["number"])):
        together = []
        for where, _, job in group:
            missing = job.missing()
            if not missing:
                on_event({"event": "kept", **where})
            elif gave_up(job, study):
                message = f"not affordable here: it was stopped after {study.minutes:g} processor minutes before"
                on_event({"event": "failed", "error": "minutes", "message": message, **where})
            else:
                together.append(({**where, "missing": missing}, job))
        size = PIECE if study.workers > 1 else max(1, len(together))
        yield from (together[first : first + size] for first in range(0, len(together), size))


def _do_batches(batches: list[list[Numbered]], study: StudyConfig, study_file: Path, on_event: OnEvent) -> None:
    """Do batches, so many at once as there are workers; processes end when this is interrupted."""
    telling, crew = threading.Lock(), Crew()

    def do(batch: list[Numbered]) -> None:
        def tell(at: int, line: dict[str, Any]) -> None:
            with telling:
                on_event({**line, **batch[at][0]})

        do_jobs([job for _, job in batch], study, study_file, tell, crew)

    with ThreadPoolExecutor(study.workers) as pool:
        try:
            for over in as_completed([pool.submit(do, batch) for batch in batches]):
                over.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            crew.end()
            raise
