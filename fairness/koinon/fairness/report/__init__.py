"""The audit's report: ``results.json`` for programs; a page that opens offline, in English or German, and its PDF."""

from koinon.fairness.report.paper import PDF_FILE, require_pdf, to_pdf
from koinon.fairness.report.render import (
    REPORT_FILE,
    RESULTS_FILE,
    page_language,
    page_name,
    render,
    write_page,
    write_report,
)

__all__ = [
    "PDF_FILE",
    "REPORT_FILE",
    "RESULTS_FILE",
    "page_language",
    "page_name",
    "render",
    "require_pdf",
    "to_pdf",
    "write_page",
    "write_report",
]
