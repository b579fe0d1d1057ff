"""Checking somebody else's audit: what can be recomputed is, and what cannot is said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from koinon.errors import KoinonError
from koinon.fairness.audit import run_audit
from koinon.fairness.federated.judging import judge_totals
from koinon.fairness.federated.totals import TOTALS_FILE, Totals
from koinon.fairness.plan import PLAN_FILE, AuditPlan
from koinon.fairness.record import Record, plan_entry
from koinon.fairness.report import REPORT_FILE, RESULTS_FILE, page_language, render, to_pdf
from koinon.fairness.results import AuditResults, Comparison, Provider
from koinon.fairness.verdicts import adjust, judge, worst_of
from koinon.privacy.ledger import Entry
from koinon.privacy.ledger.kinds import Kind

__all__ = ["Check", "verify_audit"]

_PASSING = ("created", "seconds", "versions", "koinon_version", "record")
"""What a repetition may differ in."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    what
        A few words.
    held
        ``True`` it is as it should be, ``False`` it is not, ``None`` it could not be checked.
    said
        A sentence.
    """

    what: str
    held: bool | None
    said: str


def verify_audit(folder: Path, record: Record, *, recompute: bool = False) -> list[Check]:
    """Check an audit's folder against its record.

    Parameters
    ----------
    folder
        Holds ``plan.toml``, ``results.json`` and ``report.html``.
    record
        The ledger it was entered in.
    recompute
        Also run the audit again and hold every figure against the report's; needs the data.

    Returns
    -------
    Every check in order; the first that fails keeps those that rest on it from being made, which is said.
    """
    try:
        entries = record.entries()
    except KoinonError as error:
        return [Check("record", False, error.message)]
    checks = [Check("record", True, f"{len(entries)} entries, each signed and linked to the one before.")]
    try:
        content = (folder / RESULTS_FILE).read_bytes()
        results = AuditResults.read(folder / RESULTS_FILE)
        plan, plan_sha256 = AuditPlan.read(folder / PLAN_FILE)
    except (KoinonError, OSError) as error:
        said = error.message if isinstance(error, KoinonError) else f"{error.strerror}: {error.filename}"
        return [*checks, Check("files", False, said)]
    same = plan_sha256 == results.plan_sha256 and plan.model_dump(mode="json") == results.plan
    said = "is the one that the results name" if same else "is not the one that the results name: it was changed"
    checks.append(Check("plan", same, f"{PLAN_FILE} {said}."))
    entered = plan_entry(entries, results.name, results.plan_sha256)
    digest = hashlib.sha256(content).hexdigest()
    reported = [e for e in entries if e.kind == Kind.AUDIT and e.body.get("report_sha256") == digest]
    checks.append(_entered_first(results, entered, reported))
    said = (
        f"entered as entry {reported[0].sequence}" if reported else "not on record: they were changed, or never entered"
    )
    checks.append(Check("results", bool(reported), f"{RESULTS_FILE} is {said}."))
    if not (same and reported):
        return [*checks, Check("page", None, f"not looked at: {RESULTS_FILE} is not what was entered for this plan.")]
    checks += _pages(folder, results)
    checks.append(_verdicts(results))
    if results.federated is not None:
        checks += [*_from_totals(plan, folder, results), _people_unseen()]
    elif recompute:
        checks.append(_again(plan, folder, results))
    else:
        checks.append(Check("figures", None, "not recomputed; with --recompute they are, where the data are at hand."))
    key = f"whether the key {results.record.key[:12]}… is the auditor's own: compare it with the auditor."
    return [*checks, Check("identity", None, key)]


def _entered_first(results: AuditResults, entered: Entry | None, reported: list[Entry]) -> Check:
    what = "plan first"
    if entered is None:
        return Check(what, False, "The plan is not on record.")
    told = results.record
    if (entered.sequence, entered.time, entered.hash) != (told.sequence, told.time, told.hash):
        return Check(what, False, "The plan's entry is another one than the results name.")
    if reported and reported[0].sequence < entered.sequence:
        return Check(what, False, "The results were entered before the plan.")
    return Check(what, True, f"The plan was entered (entry {entered.sequence}, {entered.time}) before any result.")


def _pages(folder: Path, results: AuditResults) -> list[Check]:
    """Every page and PDF in the folder; ``report.html`` is asked for though it is not there."""
    names = {path.name for ending in ("html", "pdf") for path in folder.glob(f"report*.{ending}")}
    return [_same_page(folder, results, name) for name in sorted({REPORT_FILE, *names}, key=lambda n: (len(n), n))]


def _same_page(folder: Path, results: AuditResults, name: str) -> Check:
    what = "page" if name == REPORT_FILE else name
    language = page_language(results, name)
    if language is None:
        return Check(what, None, f"{name} is no page of this audit.")
    try:
        content = (folder / name).read_bytes()
    except OSError:
        return Check(what, None, f"{name} is not there.")
    try:
        page = render(results, language)
    except Exception as error:  # what somebody else has written need not make sense
        return Check(what, False, f"{RESULTS_FILE} cannot be shown: {type(error).__name__}: {error}")
    if name.endswith(".pdf"):
        return _same_paper(what, name, content, page)
    if content == page.encode():
        return Check(what, True, f"{name} shows what {RESULTS_FILE} holds, to the byte.")
    said = f"{name} is not what {RESULTS_FILE} gives: it was changed, or made by another version of Koinon."
    return Check(what, False, said)


def _same_paper(what: str, name: str, content: bytes, page: str) -> Check:
    """A PDF holds fonts of the machine that made it, so that another one's may differ without being false."""
    try:
        same = to_pdf(page) == content
    except KoinonError as error:
        return Check(what, None, f"{name} was not checked: {error.message}")
    if same:
        return Check(what, True, f"{name} is what the page gives in print, to the byte.")
    said = f"{name} is not what the page gives in print here. Other fonts may be the cause: print the page anew."
    return Check(what, None, said)


def _verdicts(results: AuditResults) -> Check:
    both: list[Comparison | Provider] = [*results.comparisons, *results.providers]
    shown = {
        group.name: 0 if group.vanished else sum(not cell.hidden for cell in group.cells) for group in results.groups
    }
    every = {group.name: len(group.cells) for group in results.groups}
    answered = results.federated is None or all(one.code is None for one in results.federated.partners)
    for family in ("primary", "exploratory"):
        mine = [one for one in both if one.family == family]
        raw = [np.nan if one.p is None else one.p for one in mine]
        for one, p in zip(mine, adjust(raw, primary=family == "primary"), strict=True):
            told = np.nan if one.p_adjusted is None else one.p_adjusted
            if not np.isclose(p, told, equal_nan=True):
                return Check("verdicts", False, f"An adjusted p-value is {told:.4g}, and should be {p:.4g}.")
            if one.tolerance is None:
                continue
            lo, hi = (np.nan if end is None else end for end in (one.lo, one.hi))
            whole = isinstance(one, Provider) or (one.cells == shown[one.group] == every[one.group] and answered)
            if judge(one.tolerance, lo, hi, p, complete=whole)[0] != one.verdict:
                return Check("verdicts", False, f"A verdict {one.verdict!r} does not follow from its figures.")
    if worst_of([one.verdict for one in both if one.verdict is not None]) != results.verdict:
        return Check("verdicts", False, "The verdict on the whole is not the worst of its parts.")
    return Check("verdicts", True, "Adjusted p-values and verdicts follow from intervals and p-values.")


def _again(plan: AuditPlan, folder: Path, results: AuditResults) -> Check:
    try:
        again = run_audit(plan, results.plan_sha256, results.record, folder)
    except KoinonError as error:
        return Check("figures", None, f"could not be recomputed: {error.message}")
    there, here = (one.model_dump(mode="json") for one in (results, again))
    if there["sources"] != here["sources"]:
        return Check("figures", None, "could not be recomputed: the data here are not those that were audited.")
    different = [name for name in there if name not in _PASSING and not _close(there[name], here[name])]
    if different == ["mitigation"]:
        said = "is as reported but those on remedies: which setting is chosen can hang on a last digit."
        return Check("figures", True, f"Computed again from the data, every figure {said}")
    if different:
        return Check("figures", False, f"Computed again, {', '.join(different)} are other than reported.")
    return Check("figures", True, "Computed again from the data, every figure is as reported.")


def _from_totals(plan: AuditPlan, folder: Path, results: AuditResults) -> list[Check]:
    """An audit of a federation: everything follows from the sums, which are all that anybody has seen."""
    assert results.federated is not None
    path = folder / TOTALS_FILE
    if not path.is_file():
        return [Check("totals", None, f"{TOTALS_FILE} is not there: ask for it.")]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != results.federated.totals_sha256:
        return [Check("totals", False, f"{TOTALS_FILE} is not the one that the results name: it was changed.")]
    totals = Totals.read(path)
    checks = [Check("totals", True, f"{TOTALS_FILE} is the one that the results name.")]
    there, here = (one.model_dump(mode="json") for one in (results, judge_totals(plan, results.record, totals)))
    different = [name for name in there if name not in _PASSING and not _close(there[name], here[name])]
    if different:
        return [*checks, Check("figures", False, f"From the totals, {', '.join(different)} are other than reported.")]
    return [*checks, Check("figures", True, "Computed again from the partners' total, every figure is as reported.")]


def _people_unseen() -> Check:
    return Check("sums", None, "whether partners added up their people as the plan says: only they can see them.")


def _close(one: object, other: object) -> bool:
    """Equal, but for the last digits of numbers: another machine adds in another order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return bool(np.isclose(one, other, rtol=1e-4, atol=1e-6))
    return one == other
