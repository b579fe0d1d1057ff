"""One self-contained HTML file from an audit's results; the same results give the same bytes in each language."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from koinon.config import write_atomically
from koinon.fairness.plan import ReportPlan
from koinon.fairness.report.paper import PDF_FILE, to_pdf
from koinon.fairness.report.view import build_view
from koinon.fairness.results import AuditResults
from koinon.fairness.templating import filled
from koinon.fairness.words import LANGUAGES, ReportLanguage

__all__ = ["REPORT_FILE", "RESULTS_FILE", "page_language", "page_name", "render", "write_page", "write_report"]

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


def render(results: AuditResults, language: ReportLanguage | None = None) -> str:
    """Return the report as HTML. Every text is escaped; a content policy forbids every request and every script.

    Parameters
    ----------
    results
        Of an audit.
    language
        Default: the plan's.
    """
    from markupsafe import Markup

    css = files("koinon.fairness.report").joinpath("report.css").read_text(encoding="utf-8")
    view = build_view(results, language or planned(results).language)
    return str(filled("koinon.fairness.report", "report.html.j2", **view, css=Markup(css))) + "\n"


def planned(results: AuditResults) -> ReportPlan:
    """What the audit's plan says of its report."""
    return ReportPlan.model_validate(results.plan.get("report") or {})


def page_name(results: AuditResults, language: ReportLanguage, file: str = REPORT_FILE) -> str:
    """File of the report in a language: ``report.html`` in the plan's, else e.g. ``report.de.html``."""
    stem, ending = file.split(".")
    return file if language == planned(results).language else f"{stem}.{language}.{ending}"


def page_language(results: AuditResults, name: str) -> ReportLanguage | None:
    """The language of a page or PDF by its file's name; ``None``: it is none of an audit's files."""
    by_name = {page_name(results, one, file): one for one in LANGUAGES for file in (REPORT_FILE, PDF_FILE)}
    return by_name.get(name)


def write_page(
    folder: Path, results: AuditResults, language: ReportLanguage | None = None, *, pdf: bool = False
) -> list[Path]:
    """Write the page in one language, and as PDF too where that is asked for; return what was written.

    Raises
    ------
    ResourceError
        K806 WeasyPrint, or a system library that it needs, is not installed; the page is written nevertheless.
    """
    language = language or planned(results).language
    page = render(results, language)
    written = [folder / page_name(results, language)]
    write_atomically(written[0], page)
    if pdf:
        written.append(folder / page_name(results, language, PDF_FILE))
        write_atomically(written[1], to_pdf(page))
    return written


def write_report(folder: Path, results: AuditResults) -> str:
    """Write ``results.json``, ``report.html`` and what else the plan says, each whole or not at all.

    Returns
    -------
    SHA-256 (hex) of ``results.json``.
    """
    content = results.to_json().encode("utf-8")
    write_page(folder, results, pdf=planned(results).pdf)
    write_atomically(folder / RESULTS_FILE, content)
    return hashlib.sha256(content).hexdigest()
