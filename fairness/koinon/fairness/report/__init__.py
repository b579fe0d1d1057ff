"""The audit's report: ``results.json`` for programs, and one ``report.html`` that opens offline and can be printed."""

from koinon.fairness.report.render import REPORT_FILE, RESULTS_FILE, render, write_report

__all__ = ["REPORT_FILE", "RESULTS_FILE", "render", "write_report"]
