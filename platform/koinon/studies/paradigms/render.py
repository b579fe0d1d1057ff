"""One self-contained HTML file from a study's results."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from koinon.config import write_atomically
from koinon.studies.paradigms.results import StudyResults
from koinon.studies.paradigms.view import build_view
from koinon.studies.report.render import page_environment

__all__ = ["REPORT_FILE", "RESULTS_FILE", "render", "write_report"]

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


def render(results: StudyResults) -> str:
    """Return the report as HTML. Every text is escaped; a content policy forbids every request and every script.

    Raises
    ------
    ResourceError
        K806 the package jinja2 is not installed.
    """
    environment, markup = page_environment()
    here = files("koinon.studies.paradigms")
    shared = files("koinon.studies.report").joinpath("report.css").read_text(encoding="utf-8")
    css = shared + here.joinpath("study.css").read_text(encoding="utf-8")
    template = environment.from_string(here.joinpath("study.html.j2").read_text(encoding="utf-8"))
    return template.render(**build_view(results), css=markup(css)) + "\n"


def write_report(folder: Path, results: StudyResults) -> Path:
    """Write ``results.json`` and ``report.html``, each whole or not at all; return the report's path."""
    write_atomically(folder / REPORT_FILE, render(results))
    results.write(folder / RESULTS_FILE)
    return folder / REPORT_FILE
