"""One self-contained HTML file from an audit's results; the same results give the same bytes."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from koinon.config import write_atomically
from koinon.fairness.report.view import build_view
from koinon.fairness.results import AuditResults

__all__ = ["REPORT_FILE", "RESULTS_FILE", "render", "write_report"]

RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


def render(results: AuditResults) -> str:
    """Return the report as HTML. Every text is escaped; a content policy forbids every request and every script."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("koinon.fairness.report")

    def text(name: str) -> str:
        return here.joinpath(name).read_text(encoding="utf-8")

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(text("report.html.j2"))
    return template.render(**build_view(results), css=Markup(text("report.css"))) + "\n"


def write_report(folder: Path, results: AuditResults) -> str:
    """Write ``results.json`` and ``report.html``, each whole or not at all; return the SHA-256 (hex) of the former."""
    content = results.to_json().encode("utf-8")
    write_atomically(folder / REPORT_FILE, render(results))
    write_atomically(folder / RESULTS_FILE, content)
    return hashlib.sha256(content).hexdigest()
