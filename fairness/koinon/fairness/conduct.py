"""From a plan on disk to a report on record: enter, compute, write, enter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from koinon.fairness.audit import run_audit
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.record import Record, enter_plan, enter_report
from koinon.fairness.report import require_pdf, write_report
from koinon.fairness.results import AuditResults, Recorded

__all__ = ["conduct", "enter"]


def enter(folder: Path, record: Record, kind: Literal["local", "federation"]) -> tuple[AuditPlan, str, Recorded]:
    """Read a folder's plan and enter it, unless it is entered already; nothing is computed.

    Returns
    -------
    The plan, the SHA-256 of its file, and where it stands.

    Raises
    ------
    ConfigError
        K101-K103 the plan cannot be read.
    EvaluationError
        K528 the plan was changed after results were computed, K532 the record is damaged.
    ResourceError
        K806 the plan wants a PDF, and none can be made here.
    """
    plan, plan_sha256 = AuditPlan.read(folder / PLAN_FILE)
    if plan.report.pdf:
        require_pdf()
    entry = enter_plan(record, plan.name, plan_sha256)
    key = str(record.entries()[0].body["key"])
    recorded = Recorded(kind=kind, key=key, sequence=entry.sequence, time=entry.time, hash=entry.hash)
    return plan, plan_sha256, recorded


def conduct(
    folder: Path,
    record: Record,
    kind: Literal["local", "federation"] = "local",
    *,
    say: Callable[[str], None] = lambda _: None,
) -> AuditResults:
    """Enter a folder's plan, run it, write ``results.json`` and ``report.html`` beside it, and enter their hash.

    Raises
    ------
    KoinonError
        As :func:`enter` and :func:`koinon.fairness.audit.run_audit`; then no result is written.
    """
    plan, plan_sha256, recorded = enter(folder, record, kind)
    results = run_audit(plan, plan_sha256, recorded, folder, say=say)
    enter_report(record, plan.name, plan_sha256, write_report(folder, results))
    return results
